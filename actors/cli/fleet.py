"""Several runner processes under one parent, kept running."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING, Final

from actors.cli.supervision import Ended, GiveUp, Restart, after_exit, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.cli.process import RunnerProcess

FORCED: Final = 5.0
"""How long processes that were told twice to end may take before they are killed."""

_log = logging.getLogger(__name__)


class Fleet:
    """Runs its processes until it is told to stop."""

    def __init__(self, processes: Sequence[RunnerProcess]) -> None:
        self.processes = tuple(processes)
        self.down: dict[str, Restart] = {}
        """Those that wait to be started again, by name."""
        self._stopping = asyncio.Event()
        self._gave_up: str | None = None
        self._told_twice = False

    async def run(self) -> str | None:
        """Keep all processes running; return once all have ended. Anything returned says why that was not asked for.

        Cancelled, it kills them.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for process in self.processes:
                    tasks.create_task(self._keep(process))
        finally:
            for process in self.processes:
                process.send(signal.SIGKILL)
        return self._gave_up

    def stop(self) -> None:
        """Ask all to drain. Asked again: to end at once."""
        self._told_twice = self._stopping.is_set()
        self._stopping.set()
        for process in self.processes:
            process.send(signal.SIGTERM)
        if self._told_twice:
            asyncio.get_running_loop().call_later(FORCED, self._kill)

    async def _keep(self, process: RunnerProcess) -> None:
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            await process.start()
            if self._stopping.is_set():  # told while it was being started
                process.send(signal.SIGTERM)
            code = await process.wait()
            match after_exit(code=code, ran_for=time.monotonic() - started, failures=failures, stopping=self._stopping.is_set()):
                case Ended():
                    # By SIGTERM itself: told before it had begun to listen for it.
                    if code not in {0, -signal.SIGTERM} and not self._told_twice:
                        self._gave_up = f"{process.name} {told(code)} while it was to drain"
                    return
                case GiveUp(why):
                    self._gave_up = f"{process.name} {told(code)}: {why}"
                    self.stop()
                    return
                case Restart(wait, failures) as restart:
                    _log.warning("%s %s; it starts again in %.1f s", process.name, told(code), wait)
                    self.down[process.name] = restart
                    try:
                        async with asyncio.timeout(wait):
                            await self._stopping.wait()
                    except TimeoutError:
                        pass
                    del self.down[process.name]

    def _kill(self) -> None:
        for process in self.processes:
            process.send(signal.SIGKILL)
