"""Watching the leases of the others."""

from __future__ import annotations

from collections.abc import Callable, Collection

from actors._placement.lease import Lease
from actors._placement.link import Link
from actors._placement.membership import Absences
from actors._redis.faults import RedisFault
from actors.clock import Clock

LOOK_EVERY = 0.5
GRACE = 0.3  # a lease must be missing for so long, seen twice


class Liveness:
    """Knows which incarnations are dead, within a second of their lease's end; one command a look.

    It looks only while our own lease is trusted, and starts over when it was not: where
    we could not renew, the others may not have been able to either.
    """

    def __init__(
        self, link: Link, *, ttl: float, lease: Lease, clock: Clock, others: Callable[[], Collection[str]], died: Callable[[], None]
    ) -> None:
        self.dead: frozenset[str] = frozenset()
        self._link = link
        self._lease = lease
        self._clock = clock
        self._others = others
        self._died = died
        self._every = min(LOOK_EVERY, ttl / 20)
        self._grace = min(GRACE, self._every)
        self._absences = Absences(self._grace)

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        return self._every

    def since(self, incarnation: str, *, default: float) -> float:
        """Return when the lease was first seen missing."""
        return self._absences.since(incarnation, default=default)

    def forget(self) -> None:
        """Nobody counts as dead until looked at again."""
        self._absences.forget()
        self.dead = frozenset()

    async def watch(self) -> None:
        """Look, for ever; ``died`` is called when somebody has."""
        while True:
            await self._clock.sleep(self._grace if self._absences.unconfirmed(now=self._clock.boottime()) else self._every)
            if not self._lease.trusted():
                self.forget()
                continue
            try:
                leases = await (await self._link.store()).leases(sorted(self._others()))
            except RedisFault:
                self.forget()
                continue
            now = self._clock.boottime()
            self._absences.look(leases, now=now)
            before, self.dead = self.dead, self._absences.gone(now=now)
            if self.dead - before:
                self._died()
