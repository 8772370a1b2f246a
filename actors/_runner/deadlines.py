"""Deadlines of messages that are queued: when one passes, its caller is told then, not when its turn would have come."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors._runner.activation import Activation, Message, Phase

if TYPE_CHECKING:
    from actors._runner.world import World

_SLACK = 10_000
"""Deadlines of messages that have run already are swept out when there are this many more than messages waiting."""


class Deadlines:
    """Watches over the deadlines of queued messages, with one timer for all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._engine = world.engine
        self._loop = world.loop
        self._boottime = world.clock.boottime
        self._due: list[tuple[float, int, Activation, Message]] = []
        self._due_count = 0
        self._due_timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0

    def watch_all(self, activation: Activation, messages: Sequence[Message]) -> None:
        """Answer those of ``messages`` that are still queued at their deadline."""
        for message in messages:
            if message.envelope.budget_ms:
                self.watch(activation, message)

    def watch(self, activation: Activation, message: Message) -> None:
        """See to it that a message which is still queued at its deadline is answered then."""
        at = self._world.redis_clock.deadline(message.entry, message.envelope.budget_ms)
        self._due_count += 1
        if len(self._due) > 2 * self._engine.waiting + _SLACK:
            self._due = [due for due in self._due if due[3] in due[2].queue]
            heapq.heapify(self._due)
        heapq.heappush(self._due, (at, self._due_count, activation, message))
        if self._due_timer is None or at < self._due_at:
            self._arm(at)

    def _arm(self, at: float) -> None:
        if self._due_timer is not None:
            self._due_timer.cancel()
        self._due_at = at
        self._due_timer = self._loop.call_later(max(at - self._boottime(), 0.0), self._passed)

    def _passed(self) -> None:
        self._due_timer = None
        now = self._boottime()
        self._engine.begin()
        try:
            while self._due and self._due[0][0] <= now:
                _, _, activation, message = heapq.heappop(self._due)
                if activation.phase is not Phase.GONE and message in activation.queue and self._world.lease.trusted():
                    activation.queue.remove(message)
                    self._world.failures.expire(activation, message, stage="queued")
                    self._engine.advance(activation)
        finally:
            self._engine.finish()
        if self._due:
            self._arm(self._due[0][0])

    def close(self) -> None:
        """Take the alarm off: nothing is left to be watched."""
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        self._due.clear()
