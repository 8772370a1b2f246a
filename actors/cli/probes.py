"""What one runner answers to probes: looked at when somebody asks, never remembered for long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from actors.errors import ClusterError
from actors.telemetry.health import Verdict, Vitals, live, ready
from actors.telemetry.http import Answer, json_answer
from actors.telemetry.prometheus import CONTENT_TYPE, Exposition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from actors.clock import Clock

PING_AGAIN_AFTER: Final = 1.0
"""Probes that come faster than this, in seconds, share one PING."""

PING_TIMEOUT: Final = 2.0


class Subject(Protocol):
    """What is asked of a runner."""

    @property
    def lease_trusted_until(self) -> float: ...
    @property
    def loop_turned_at(self) -> float: ...
    async def ping(self, timeout: float = ...) -> None: ...


class Probes:
    """The runner's routes, from before it has started until after it has ended."""

    def __init__(self, exposition: Exposition, clock: Clock, *, actor_types: int) -> None:
        self.runner: Subject | None = None
        """The runner, once it has started."""
        self.draining = False
        self.failed_service = ""
        self._exposition = exposition
        self._clock = clock
        self._actor_types = actor_types
        self._answered_at: float | None = None
        self._pinged_at: float | None = None
        self._problem = ""
        self._lock = asyncio.Lock()

    def routes(self) -> dict[str, Callable[[], Awaitable[Answer]]]:
        """Return what is answered, by path."""
        return {"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics}

    async def _livez(self) -> Answer:
        return _answer(live(self._vitals()))

    async def _readyz(self) -> Answer:
        await self._ping()
        return _answer(ready(self._vitals()))

    async def _metrics(self) -> Answer:
        return Answer(200, await self._exposition.render(), CONTENT_TYPE)

    def _vitals(self) -> Vitals:
        now, runner = self._clock.boottime(), self.runner
        # A runner that is starting has no timer yet; that this answer is given shows that the loop turns.
        return Vitals(
            now=now,
            loop_turned_at=(runner.loop_turned_at if runner is not None else 0.0) or now,
            redis_answered_at=self._answered_at,
            redis_problem=self._problem,
            redis_timeout=PING_TIMEOUT,
            lease_trusted_until=runner.lease_trusted_until if runner is not None else None,
            actor_types=self._actor_types,
            draining=self.draining,
            failed_service=self.failed_service,
        )

    async def _ping(self) -> None:
        async with self._lock:
            now = self._clock.boottime()
            if self.runner is None or (self._pinged_at is not None and now - self._pinged_at < PING_AGAIN_AFTER):
                return
            try:
                await self.runner.ping(PING_TIMEOUT)
            except ClusterError as error:
                self._problem = str(error)
            else:
                self._problem = ""
                self._answered_at = now
            self._pinged_at = now


def _answer(verdict: Verdict) -> Answer:
    return json_answer(200 if verdict.ok else 503, verdict.report())
