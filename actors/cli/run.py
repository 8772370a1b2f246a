"""``actor-runner run``: one runner in this process, or several in children of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Parameter

from actors.cli.failure import FAILED, Usage
from actors.cli.flags import REDIS_URL, SettingFlags

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.settings import Settings
    from actors.system import ActorSystem

ENDING: Final = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("actors.run")


def run(
    target: Annotated[str, Parameter(help="module:system, such as bank:system")],
    /,
    *,
    redis: Annotated[str | None, Parameter(help=f"URL of Redis, instead of the system's own or {REDIS_URL}.")] = None,
    processes: Annotated[
        int, Parameter(help="Runner processes; process i is NAME-i. This one then answers probes and metrics for all.")
    ] = 1,
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Parameter(help="What is logged.")] = "info",
    strict: Annotated[bool, Parameter(help="Check that read_only messages change no state. Slower.", negative=())] = False,
    child: Annotated[Path | None, Parameter(show=False)] = None,
    settings: SettingFlags = SettingFlags(),  # noqa: B008 - frozen
) -> int:
    """Run the actors of a system: one per pod, as many as you like.

    SIGTERM or SIGINT drains: running handlers finish, shards go to the others, no message
    fails. A second one ends it at once. Probes are on /livez and /readyz, metrics on
    /metrics, all on --http-port.
    """
    from actors.cli.load import load_system
    from actors.cli.where import run as run_coroutine
    from actors.errors import ConfigurationError
    from actors.settings import from_environment
    from actors.telemetry.logs import configure

    if processes < 1:
        raise Usage("--processes must be at least 1")
    settings.apply(os.environ)
    system = load_system(target)
    try:
        chosen = from_environment(system.settings, os.environ)
        url = system.redis_url(redis)
    except ConfigurationError as error:
        raise Usage(str(error)) from None
    name = chosen.name_of_runner
    if processes == 1:
        configure(
            chosen.log_format, level=logging.getLevelNamesMapping()[log_level.upper()], constant={"system": system.name, "runner": name}
        )
        return run_coroutine(_one(system, url, chosen, strict=strict, child=child))
    configure(
        chosen.log_format,
        level=logging.getLevelNamesMapping()[log_level.upper()],
        constant={"system": system.name, "runner": f"{name} (parent)"},
    )
    arguments = [target, "--redis", url, "--log-level", log_level, *(["--strict"] if strict else [])]
    return run_coroutine(_several(arguments, name, chosen, processes))


async def _one(system: ActorSystem, url: str, settings: Settings, *, strict: bool, child: Path | None) -> int:
    """Run one runner until it is told to end."""
    from actors._redis.connection import TcpServer
    from actors._redis.keys import Keys
    from actors._runner.memory import settle_collector
    from actors.cli.gauges import Depths, watch_runner
    from actors.cli.listening import listening
    from actors.cli.probes import Probes
    from actors.clock import SystemClock
    from actors.lifecycle import ServiceFailed
    from actors.telemetry.logs import EventLog
    from actors.telemetry.prometheus import Exposition
    from actors.telemetry.recorder import Recorder
    from actors.telemetry.tracing import tracer

    clock, name, server = SystemClock(), settings.name_of_runner, TcpServer.from_url(url)
    recorder = Recorder(tracer=tracer(), sinks=[EventLog()])
    probes = Probes(Exposition(recorder, system=system.name, runner=name), clock, actor_types=len(system.actors))
    told = asyncio.Event()
    settle_collector()

    async def work() -> None:
        async with listening(probes.routes(), settings, child) as address:
            runner = system.build_runner(server, name=name, settings=settings, clock=clock, telemetry=recorder, strict=strict, http=address)
            depths = Depths(server, Keys(system.name), runner)
            try:
                async with runner:
                    watch_runner(recorder, runner, clock)
                    depths.watch(recorder)
                    probes.runner = runner
                    await told.wait()
                    probes.draining = True
            finally:
                await depths.close()

    working = asyncio.create_task(work(), name="runner")

    def end() -> None:
        if told.is_set():
            _log.warning("told twice to end: ending at once")
            logging.shutdown()
            os._exit(FAILED)
        told.set()
        if probes.runner is None:  # still starting: there is nothing to give back
            working.cancel()

    _on_ending(end, follow_parent=child is not None)
    await asyncio.wait({working})
    if working.cancelled():
        return 0
    if isinstance(error := working.exception(), ServiceFailed):
        _log.critical("the runner ends: %s", error)
        return FAILED
    working.result()
    return 0


async def _several(arguments: list[str], name: str, settings: Settings, processes: int) -> int:
    """Run several runner processes until told to end."""
    from actors.cli.fleet import Fleet
    from actors.cli.fleet_probes import FleetProbes
    from actors.cli.listening import listening
    from actors.cli.process import RunnerProcess

    with tempfile.TemporaryDirectory(prefix="actors-") as folder:
        fleet = Fleet(
            [
                RunnerProcess(f"{name}-{number}", arguments, socket=Path(folder) / f"{number}.sock", environ=os.environ)
                for number in range(processes)
            ]
        )
        _on_ending(fleet.stop, follow_parent=False)
        async with listening(FleetProbes(fleet.processes, fleet.down).routes(), settings):
            problem = await fleet.run()
    if problem is not None:
        _log.error("ended: %s", problem)
    return 0 if problem is None else FAILED


def _on_ending(end: Callable[[], None], *, follow_parent: bool) -> None:
    """Call ``end`` on each signal to end; for a child also when its parent is gone, however it went."""
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, end)
    if follow_parent:

        def gone() -> None:
            if not os.read(sys.stdin.fileno(), 1024):
                loop.remove_reader(sys.stdin.fileno())
                _log.warning("the parent process is gone")
                end()

        loop.add_reader(sys.stdin.fileno(), gone)
