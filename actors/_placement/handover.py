"""Letting shards go: in good order by draining and releasing them, or at once when they are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from actors._placement.link import Link
from actors._placement.ownership import Record
from actors._placement.store import BATCH
from actors.clock import Clock
from actors.ids import ShardId
from actors.telemetry.events import ShardLost, ShardReleased
from actors.telemetry.hooks import Telemetry


class Drainable(Protocol):
    """Who runs the actors of the shards."""

    async def drain(self, shard: ShardId) -> str | None:
        """Finish what runs, commit, let go; return the record to release, or None if the shard was lost."""
        ...

    def lost(self, shard: ShardId, why: str) -> None:
        """Drop everything of a shard, now, without a word to Redis."""
        ...

    def held_shards(self) -> Mapping[ShardId, str]:
        """Return the epoch of every shard served or draining."""
        ...


class Handover:
    """Shards on their way out. Each drains by itself; those that end together are released in one call."""

    def __init__(
        self,
        link: Link,
        host: Drainable,
        *,
        bound: float,
        clock: Clock,
        telemetry: Telemetry,
        doubtful: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        """``bound``: the host ends each drain itself; one that takes longer than this is cut from here.

        ``doubtful``: a record may not be what we think, look at all. ``done``: something was let go.
        """
        self.released = 0
        self.lost = 0
        self._link = link
        self._host = host
        self._bound = bound
        self._clock = clock
        self._telemetry = telemetry
        self._doubtful = doubtful
        self._done = done
        self._leaving: dict[ShardId, asyncio.Task[None]] = {}
        self._drained: list[tuple[ShardId, str, float]] = []
        self._give = asyncio.Event()

    @property
    def under_way(self) -> Collection[ShardId]:
        """The shards from the start of their drain to the answer to their release."""
        return self._leaving.keys()

    def begin(self, shard: ShardId, tasks: asyncio.TaskGroup) -> None:
        """Drain ``shard`` and release it."""
        self._leaving[shard] = tasks.create_task(self._drain(shard), name=f"drain {shard.label}")

    def lose(self, shards: Iterable[ShardId], why: str) -> None:
        """Drop ``shards``, also in the middle of their drain."""
        held = self._host.held_shards()
        for shard in shards:
            drain = self._leaving.pop(shard, None)
            if drain is not None:
                drain.cancel()
            epoch = held.get(shard)
            if epoch is not None:
                self.lost += 1
                self._telemetry.emit(ShardLost(shard=shard.label, epoch=epoch, why=why))
                self._host.lost(shard, why)

    async def give_back(self) -> None:
        """Release what has been drained, for ever."""
        while True:
            await self._give.wait()
            self._give.clear()
            while self._drained:
                batch, self._drained = self._drained[:BATCH], self._drained[BATCH:]
                await self._release(batch)

    async def _drain(self, shard: ShardId) -> None:
        began = self._clock.boottime()
        try:
            async with asyncio.timeout(self._bound):
                token = await self._host.drain(shard)
        except TimeoutError:
            self._leaving.pop(shard, None)  # else losing it would cancel this very task
            self.lose([shard], "its drain did not end in time")
            token = None
        if token is not None:
            self._drained.append((shard, token, began))
            self._give.set()
        else:
            self._leaving.pop(shard, None)
            self._doubtful()
            self._done()

    async def _release(self, batch: list[tuple[ShardId, str, float]]) -> None:
        tokens = [(shard, token) for shard, token, _ in batch]
        answers = await self._link.insist(lambda store: store.release(tokens))
        now = self._clock.boottime()
        for (shard, token, began), released in zip(batch, answers, strict=True):
            self._leaving.pop(shard, None)
            if released:
                self.released += 1
                epoch = Record.parse(token).epoch
                self._telemetry.emit(ShardReleased(shard=shard.label, epoch=epoch, seconds=now - began))
            else:
                self._doubtful()  # released by a call without an answer, or lost
        self._done()
