"""Several runner processes under one parent: kept running, asked and answered for together."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING, Final

from actors.cli.supervision import HOPELESS_AFTER, Ended, GiveUp, Restart, after_exit, told
from actors.telemetry.health import Check, Verdict, together
from actors.telemetry.http import Answer, json_answer
from actors.telemetry.prometheus import CONTENT_TYPE, merge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from actors.cli.process import RunnerProcess

STARTING: Final = 30.0
"""How long a process may take before its first answer to a probe and count as live, in seconds."""

NOTICED: Final = 0.1
"""How long it may take until the end of a process is noticed, in seconds."""

FORCED: Final = 5.0
"""How long processes that were told twice to end may take before they are killed."""

_log = logging.getLogger(__name__)


class Fleet:
    """Runs its processes until it is told to stop."""

    def __init__(self, processes: Sequence[RunnerProcess]) -> None:
        self.processes = tuple(processes)
        self._down: dict[str, Restart] = {}
        self._heard: dict[str, int] = {}
        """Which start of each process has answered a probe."""
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

    def routes(self) -> dict[str, Callable[[], Awaitable[Answer]]]:
        """Return what the parent answers for all of them."""
        return {"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics}

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
                    self._down[process.name] = restart
                    try:
                        async with asyncio.timeout(wait):
                            await self._stopping.wait()
                    except TimeoutError:
                        pass
                    del self._down[process.name]

    def _kill(self) -> None:
        for process in self.processes:
            process.send(signal.SIGKILL)

    async def _livez(self) -> Answer:
        return await self._answer("/livez", live=True)

    async def _readyz(self) -> Answer:
        return await self._answer("/readyz", live=False)

    async def _answer(self, path: str, *, live: bool) -> Answer:
        async def ask(process: RunnerProcess) -> tuple[Check, ...] | None:
            if process.name not in self._down:
                seen = await process.probe(path)
                if seen is not None:
                    self._heard[process.name] = process.starts
                    return seen
                if self._heard.get(process.name) != process.starts and time.monotonic() - process.started_at < STARTING:
                    return (Check("process", ok=live, detail="is starting"),)
                await asyncio.sleep(NOTICED)  # one that has just died is known to be dead by then
            down = self._down.get(process.name)
            if down is None:
                return None
            detail = f"starts again after {down.failures} failures"
            return (Check("process", ok=live and down.failures < HOPELESS_AFTER, detail=detail),)

        answers = await asyncio.gather(*(ask(process) for process in self.processes))
        verdict: Verdict = together({process.name: seen for process, seen in zip(self.processes, answers, strict=True)})
        return json_answer(200 if verdict.ok else 503, verdict.report())

    async def _metrics(self) -> Answer:
        texts = await asyncio.gather(*(process.metrics() for process in self.processes))
        named = {process.name: text for process, text in zip(self.processes, texts, strict=True)}
        return Answer(200, merge(named), CONTENT_TYPE)
