"""``actor-runner dev``: a system on this machine alone, started anew whenever its source is saved."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from actors.cli.flags import REDIS_URL, SettingFlags
from actors.cli.where import run

if TYPE_CHECKING:
    from actors.cli.process import RunnerProcess
    from actors.settings import Settings

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the source."""

READY_WITHIN: Final = 15.0
"""How long a runner of new code may take to be ready before the next is replaced too."""

_log = logging.getLogger("actors.dev")


def dev(
    target: Annotated[str, Parameter(help="module:system")],
    /,
    *,
    runners: Annotated[int, Parameter(help="Runner processes.")] = 2,
    redis: Annotated[str | None, Parameter(help="A server to use instead of an embedded one.")] = None,
    data: Annotated[
        Path | None, Parameter(help="Folder in which the embedded server keeps its data; without one they end with it.")
    ] = None,
    reload: Annotated[bool, Parameter(help="Start anew when a .py file below this folder changes.")] = True,
    settings: SettingFlags = SettingFlags(),  # noqa: B008 - frozen
) -> int:
    """Run a system for development: embedded server, several runners, reload on change, readable logs.

    Nothing has to be installed first. Runners are replaced one after another, so that a
    mistake in new code leaves the others running.
    """
    from actors.cli.failure import Usage
    from actors.cli.load import load_system
    from actors.errors import ConfigurationError
    from actors.settings import from_environment
    from actors.telemetry.logs import configure

    if runners < 1:
        raise Usage("--runners must be at least 1")
    configure("json" if settings.log_format == "json" else "text")
    settings.apply(os.environ)
    os.environ.setdefault("ACTORS_LOG_FORMAT", "text")
    os.environ.setdefault("ACTORS_DRAIN_TIMEOUT", "3")  # nobody wants to wait 25 s for a reload
    system = load_system(target)  # what is wrong from the beginning is better told at once
    try:
        chosen = from_environment(system.settings, os.environ)
    except ConfigurationError as error:
        raise Usage(str(error)) from None
    return run(_dev(target, chosen, runners=runners, redis=redis, data=data, reload=reload))


async def _dev(target: str, settings: Settings, *, runners: int, redis: str | None, data: Path | None, reload: bool) -> int:
    from actors._redis.embedded import EmbeddedServer
    from actors.cli.fleet_probes import FleetProbes
    from actors.cli.listening import listening
    from actors.cli.process import RunnerProcess

    server: EmbeddedServer | None = None
    if redis is None:
        server = EmbeddedServer(directory=data)
        await asyncio.to_thread(server.start)
        redis = server.url
    name = settings.runner_name or "dev"
    try:
        with tempfile.TemporaryDirectory(prefix="actors-dev-") as folder:
            environ = dict(os.environ)
            processes = [
                RunnerProcess(f"{name}-{n}", [target, "--redis", redis, "--strict"], socket=Path(folder) / f"{n}.sock", environ=environ)
                for n in range(runners)
            ]
            _log.info("%d runners of %s on %s; clients find it by %s=%s", runners, target, redis, REDIS_URL, redis)
            async with listening(FleetProbes(processes, {}).routes(), settings, or_any=True):
                await _Session(processes, Path.cwd() if reload else None).run()
    finally:
        if server is not None:
            await asyncio.to_thread(server.stop)
    return 0


class _Session:
    """The runners of one ``dev``, replaced when the source changes."""

    def __init__(self, processes: list[RunnerProcess], source: Path | None) -> None:
        self._processes = processes
        self._source = source
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run until SIGINT or SIGTERM; a second one ends the runners at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        try:
            async with asyncio.TaskGroup() as tasks:
                kept = [tasks.create_task(self._keep(process)) for process in self._processes]
                watching = tasks.create_task(self._watch()) if self._source is not None else None
                await asyncio.wait(kept)
                if watching is not None:
                    watching.cancel()
        finally:
            for process in self._processes:
                process.send(signal.SIGKILL)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        number = signal.SIGKILL if self._stopping.is_set() else signal.SIGTERM
        self._stopping.set()
        self._changed.set()
        for process in self._processes:
            process.send(number)

    async def _keep(self, process: RunnerProcess) -> None:
        from actors.cli.supervision import told

        while not self._stopping.is_set():
            changed = self._changed
            await process.start()
            code = await process.wait()
            if code != 0 and not self._stopping.is_set():
                wait = 1.0 if code < 0 else None  # killed: again; it failed by itself: what would be different?
                _log.error("%s %s; it starts again %s", process.name, told(code), "at once" if wait else "when a file changes")
                try:
                    async with asyncio.timeout(wait):
                        await changed.wait()
                except TimeoutError:
                    pass

    async def _watch(self) -> None:
        from actors.cli.reload import changes, seen

        assert self._source is not None
        before = await asyncio.to_thread(seen, self._source)
        while True:
            await asyncio.sleep(LOOK_EVERY)
            after = await asyncio.to_thread(seen, self._source)
            changed = changes(before, after)
            before = after
            if changed:
                _log.info("%s changed: the runners start anew", _named(changed, self._source))
                await self._replace()

    async def _replace(self) -> None:
        """Start all runners anew, one after another, for as long as the new code comes up."""
        self._changed.set()
        self._changed = asyncio.Event()
        for process in self._processes:
            starts = process.starts
            process.send(signal.SIGTERM)
            if not await self._came_up(process, starts):
                _log.error("%s did not come up with the new code; those not replaced yet go on with the old", process.name)
                return

    async def _came_up(self, process: RunnerProcess, starts: int) -> bool:
        """Wait until the process was started again and is ready; false once it has ended, or takes too long."""
        try:
            async with asyncio.timeout(READY_WITHIN):
                while process.starts == starts or (process.pid is not None and not await process.ready()):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return False
        return process.pid is not None


def _named(changed: list[str], root: Path) -> str:
    names = ", ".join(os.path.relpath(path, root) for path in changed[:3])
    return f"{names} and {len(changed) - 3} more" if len(changed) > 3 else names
