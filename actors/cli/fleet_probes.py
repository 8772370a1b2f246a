"""What the parent of several runner processes answers to probes: asked of all of them, joined."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from actors.cli.supervision import HOPELESS_AFTER
from actors.telemetry.health import Check, together
from actors.telemetry.http import Answer, json_answer
from actors.telemetry.prometheus import CONTENT_TYPE, merge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from actors.cli.process import RunnerProcess
    from actors.cli.supervision import Restart

STARTING: Final = 30.0
"""How long a process may take before its first answer to a probe and count as live, in seconds."""

NOTICED: Final = 0.1
"""How long it may take until the end of a process is noticed, in seconds."""


class FleetProbes:
    """The parent's routes. ``down`` holds the processes that wait to be started again, by name."""

    def __init__(self, processes: Sequence[RunnerProcess], down: Mapping[str, Restart]) -> None:
        self._processes = processes
        self._down = down
        self._heard: dict[str, int] = {}
        """Which start of each process has answered a probe."""

    def routes(self) -> dict[str, Callable[[], Awaitable[Answer]]]:
        """Return what is answered, by path."""
        return {"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics}

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

        answers = await asyncio.gather(*(ask(process) for process in self._processes))
        verdict = together({process.name: seen for process, seen in zip(self._processes, answers, strict=True)})
        return json_answer(200 if verdict.ok else 503, verdict.report())

    async def _metrics(self) -> Answer:
        texts = await asyncio.gather(*(process.metrics() for process in self._processes))
        named = {process.name: text for process, text in zip(self._processes, texts, strict=True)}
        return Answer(200, merge(named), CONTENT_TYPE)
