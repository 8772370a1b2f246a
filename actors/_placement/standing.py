"""Our own lease: what is done when its trust ends, and when it comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from actors._placement.joining import refusal
from actors._placement.lease import Lease, Terms
from actors._placement.link import Link
from actors._placement.membership import Member
from actors._placement.store import Found, PlacementStore, Renewed
from actors.clock import Clock
from actors.ids import ShardId
from actors.telemetry.events import LeaseExpired, LeaseRevived
from actors.telemetry.hooks import Telemetry


class Holder(Protocol):
    """Whose shards go with the lease."""

    def held_shards(self) -> Mapping[ShardId, str]:
        """Return the epoch of every shard held."""
        ...


class Standing:
    """Guards the lease of one incarnation.

    Past the deadline everything held is dropped at once. An answer that says the key had been gone while
    we still trusted it (Redis lost its memory, or its clock jumped) drops what another has
    taken by then, and the rest stays. Only then is the answer trusted.
    """

    def __init__(
        self,
        link: Link,
        *,
        member: Member,
        lease: Lease,
        terms: Terms,
        clock: Clock,
        host: Holder,
        lose: Callable[[Iterable[ShardId], str], None],
        telemetry: Telemetry,
    ) -> None:
        self.lapses = 0
        self.lapsed_at: float | None = None
        """Since when there has been no trust, by the boot clock; None while there is."""
        self._link = link
        self._member = member
        self._lease = lease
        self._terms = terms
        self._clock = clock
        self._host = host
        self._lose = lose
        self._telemetry = telemetry
        self._changed = asyncio.Event()
        self._superseded = False

    def heard(self, answer: Renewed) -> None:
        """Take note of an answer after which things do not simply go on. Called on the loop."""
        self._superseded |= answer.found is Found.SUPERSEDED
        self._changed.set()

    async def guard(self, resumed: Callable[[], None]) -> None:
        """Guard for ever; ``resumed`` is called each time trust has begun anew.

        Raises :class:`~actors.errors.ConfigurationError` when another incarnation has the name.
        """
        deadline = self._lease.until
        while True:
            left = self._lease.remaining
            if left > 0 and not self._superseded:
                deadline = max(deadline, self._lease.until)
                await self._until_changed(left)
                continue
            ended = self._clock.boottime()
            if ended >= deadline or self._superseded:
                self._lapse(late=max(ended - deadline, 0.0))
            await self._until_offered()
            held = dict(self._host.held_shards())
            lost = await self._drop_taken(held) if held else 0
            if self._lease.resume():
                self.lapsed_at = None
                resumed()
                seconds = self._clock.boottime() - ended
                self._telemetry.emit(LeaseRevived(seconds=seconds, kept=len(held) - lost, lost=lost))
            deadline = self._lease.until

    def _lapse(self, *, late: float) -> None:
        held = list(self._host.held_shards())
        self.lapses += 1
        self.lapsed_at = self._clock.boottime() - late
        error = "another incarnation has this runner's name" if self._superseded else "no answer in time"
        self._telemetry.emit(LeaseExpired(error=error, late=late, shards=len(held)))
        self._lose(held, "the lease ended")

    async def _until_offered(self) -> None:
        # Trusted: the renewal's thread prolonged it in the very moment in which it was seen to end here.
        while not self._lease.offered and not self._lease.trusted():
            if self._superseded:
                raise await self._link.insist(self._refusal)
            await self._until_changed(self._terms.renew_every)

    async def _refusal(self, store: PlacementStore) -> Exception:
        holder = await store.holder(self._member.name)
        return await refusal(store, self._member.name, holder.incarnation if holder is not None else "unknown")

    async def _drop_taken(self, held: Mapping[ShardId, str]) -> int:
        """Drop those of ``held`` whose record is another by now; return how many."""
        records = await self._link.insist(lambda store: store.records(list(held)))
        lost = [shard for shard, epoch in held.items() if (records[shard].owner, records[shard].epoch) != (self._member.incarnation, epoch)]
        self._lose(lost, "taken while the lease was gone")
        return len(lost)

    async def _until_changed(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()
