"""The shards this runner owns: taken up, served, drained, dropped.

Placement decides which; this is where a decision becomes readers that read, actors that
run, and, at a handoff, an order of ending: nothing new starts, running turns end (bounded
by the drain time), their effects are committed, actors are deactivated, and only then is
the shard's token given back to be released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from actors._mailbox.commit import Ledger
from actors._mailbox.reader import BLOCK, MAX_STREAMS, Reader
from actors._placement.ownership import Grant
from actors._placement.store import PlacementStore, Position
from actors._redis.channel import Channel
from actors._runner.activation import Phase, entry_order
from actors._runner.shard import OwnedShard
from actors._runner.turn import Cut
from actors.backoff import Backoff
from actors.errors import Fenced
from actors.ids import ShardId
from actors.telemetry.events import Fenced as FencedEvent
from actors.telemetry.events import HistoryLost

if TYPE_CHECKING:
    from actors._redis.connection import Server
    from actors._runner.activation import Activation
    from actors._runner.world import World

QUEUE_ROOM = 20_000
"""Messages in memory beyond which this runner reads no more until some have run."""

READ_TIMEOUT = BLOCK + 5.0


class Host:
    """Serves the shards that placement takes."""

    def __init__(self, world: World, server: Server) -> None:
        self._world = world
        self._server = server
        self._readers: list[Reader] = []
        self._channels: list[Channel] = []
        self._drains: dict[str, asyncio.Event] = {}
        self._refused: dict[str, dict[bytes, str]] = {}
        self._reserved: dict[str, Reader] = {}
        self.on_lost: Callable[[], None] = lambda: None
        """Called when a shard was dropped by us: placement should look again."""
        self._full = False
        world.shards = {}
        world.full = {}
        world.lose = self.lose
        world.start_over = self.start_over
        world.drained = self._something_ended
        world.room = self.room

    # what placement asks

    def reserve(self, shards: Sequence[ShardId]) -> Sequence[tuple[ShardId, str]]:
        """Return the read group to create on each shard's mailbox."""
        planned = {reader: len(reader.shards) for reader in self._readers}
        reserved: list[tuple[ShardId, str]] = []
        for shard in shards:
            reader = min(planned, key=lambda each: planned[each], default=None)
            if reader is None or planned[reader] >= MAX_STREAMS:
                reader = self._new_reader()
                planned[reader] = 0
            planned[reader] += 1
            self._reserved[shard.label] = reader
            reserved.append((shard, reader.group))
        return reserved

    async def granted(self, grants: Sequence[Grant]) -> None:
        """Begin to serve these shards."""
        world = self._world
        by_reader: dict[Reader, list[OwnedShard]] = {}
        held: list[Activation] = []
        for grant in grants:
            label = grant.shard.label
            before = world.shards.get(label)
            if before is not None:
                self._drop(before, "it was acquired anew")
            upto = entry_order(grant.upto.encode())
            shard = OwnedShard(world, grant.shard, world.keys.mailbox(label), grant.token, grant.epoch, suspects_upto=upto)
            shard.marks = {entry: int(count) for entry, mark in grant.marks.items() if (count := mark.split(b" ")[0][:9]).isdigit()}
            shard.refused = self._refused.pop(label, {})
            world.shards[label] = shard
            held += world.backlogs.resume(shard, grant.held)
            if grant.streams:
                world.streams.orphans(shard, grant.streams)
            world.timers.arm(shard, grant.next_timer)
            reader = self._reserved.pop(label, None) or self._readers[0]
            by_reader.setdefault(reader, []).append(shard)
        for activation in held:
            world.engine.pump(activation)
        await asyncio.gather(*[reader.attach(shards) for reader, shards in by_reader.items()])
        world.parking.look()

    async def drain(self, shard: ShardId) -> str | None:
        """Finish what runs, commit, deactivate; return the token to release, or ``None`` if the shard was lost."""
        world = self._world
        owned = world.shards.get(shard.label)
        if owned is None:
            return None
        ended = self._drains[owned.label] = asyncio.Event()
        owned.draining = True
        world.timers.forget(owned)
        world.streams.interrupt(owned, "its shard moves to another runner", silently=False)
        try:
            await self._until(owned, ended, self._turns_ended, world.settings.drain_timeout)
            if self._gone(owned):
                return None
            owned.ending = True
            for activation in owned.activations.values():
                for turn in list(activation.running):
                    world.engine.cut(turn, Cut.DRAIN)
            await self._until(owned, ended, self._turns_ended, world.settings.activation_timeout)
            world.closing.close_shard(owned, "moved")
            await self._until(owned, ended, self._all_closed, world.settings.activation_timeout)
            # Nothing runs any more that could wait for what comes; and what has come would have to be put somewhere by
            # commits, one after another, for as long as more does.
            for reader in self._readers:
                reader.detach(owned)
            world.committer.flush()
            await self._until(owned, ended, self._all_committed, None)
        finally:
            self._drains.pop(owned.label, None)
        if self._gone(owned):
            return None
        token = owned.token
        self._drop(owned, "it was released")
        return token

    def lost(self, shard: ShardId, why: str) -> None:
        """Drop everything of a shard, at once and without a word to Redis."""
        owned = self._world.shards.get(shard.label)
        if owned is not None:
            self._drop(owned, why)

    def held_shards(self) -> Mapping[ShardId, str]:
        """Return the epoch of every shard served or draining."""
        return {shard.id: shard.epoch for shard in self._world.shards.values()}

    # what the parts say

    def lose(self, ledger: Ledger, why: str) -> None:
        """A script has found that the shard is not ours as we know it."""
        shard = self._world.shards.get(ledger.label)
        if shard is not ledger or shard is None:
            return
        telemetry = self._world.telemetry
        if why == "history_lost":
            telemetry.emit(HistoryLost(shard=shard.label, problem="its commit sequence is behind what was acknowledged"))
        else:
            telemetry.emit(FencedEvent(shard=shard.label, epoch=shard.epoch, operation="commit"))
        self._drop(shard, why)
        self.on_lost()

    def start_over(self, ledger: Ledger, refused: Mapping[bytes, str]) -> None:
        """Forget a shard's actors and acquire it anew; entries in ``refused`` failed when they were committed."""
        shard = self._world.shards.get(ledger.label)
        if shard is not ledger or shard is None:
            return
        self._refused[shard.label] = {**shard.refused, **refused}
        self._drop(shard, "a commit was refused")
        self.on_lost()

    # reading

    def entries(self, streams: Sequence[tuple[Ledger, Sequence[Any]]], count: int) -> None:
        """Take in what one read brought."""
        engine = self._world.engine
        runner = self._world.telemetry.runner
        runner.reads += 1
        runner.entries += count
        engine.begin(count)
        try:
            for ledger, entries in streams:
                shard = ledger
                if isinstance(shard, OwnedShard) and shard.alive:
                    self._world.dispatch.receive(shard, entries)
        finally:
            engine.finish()

    def ready(self) -> bool:
        """Whether there is room for more messages.

        While turns here wait on asks there always is: what they wait for may be among the
        messages not read yet. Each actor's queue has its bound, beyond it is the backlog.
        """
        room = self._world.engine.waiting < QUEUE_ROOM or any(shard.waiting_asks for shard in self._world.shards.values())
        self._full = self._full or not room
        return room

    def room(self) -> None:
        """Messages have run: readers that stopped for want of room go on."""
        if self._full and self.ready():
            self._full = False
            for reader in self._readers:
                reader.go_on()

    @property
    def channels(self) -> Sequence[Channel]:
        """The connections it reads on."""
        return self._channels

    def queued(self) -> int:
        """Messages waiting in memory."""
        return sum(len(a.queue) for shard in self._world.shards.values() for a in shard.activations.values())

    async def close(self) -> None:
        """Stop reading and drop what is left."""
        for shard in list(self._world.shards.values()):
            self._drop(shard, "the runner ends")
        await asyncio.gather(*[reader.close() for reader in self._readers])
        await asyncio.gather(*[channel.close() for channel in self._channels])

    def _new_reader(self) -> Reader:
        world = self._world
        name = str(len(self._readers))
        backoff = Backoff(random=world.random, initial=0.02, maximum=1.0)
        channel = Channel(self._server, f"read-{name}", clock=world.clock, backoff=backoff, timeout=READ_TIMEOUT)
        channel.on_error = world.crash
        reader = Reader(
            name,
            world.runner.incarnation,
            channel,
            self,
            regroup=self._regroup,
            lost=lambda ledger: self.lose(ledger, "fenced"),
            backoff=backoff,
        )
        self._channels.append(channel)
        self._readers.append(reader)
        channel.open_soon()
        return reader

    async def _regroup(self, reader: str, generation: int, ledgers: Sequence[Ledger]) -> Sequence[bool] | None:
        positions: list[Position] = []
        for ledger in ledgers:
            assert isinstance(ledger, OwnedShard)
            ms, sequence = ledger.seen
            positions.append(Position(ledger.id, ledger.epoch, f"{ms}-{sequence}", ledger.sequence))
        store = PlacementStore(await self._world.state.until_up(), self._world.keys)
        return await store.regroup(self._world.runner.incarnation, reader, generation, positions)

    # ending

    def _drop(self, shard: OwnedShard, why: str) -> None:
        """Forget a shard: nothing of it is run, sent or committed from here on."""
        world = self._world
        shard.alive = False
        if world.shards.get(shard.label) is shard:
            del world.shards[shard.label]
        for reader in self._readers:
            reader.detach(shard)
        world.committer.drop(shard)
        world.timers.forget(shard)
        world.streams.interrupt(shard, why, silently=True)
        world.suspects.forget(shard)
        for activation in list(shard.activations.values()):
            activation.phase = Phase.GONE
            if activation.timer is not None:
                activation.timer.cancel()
            for turn in list(activation.running):
                world.engine.cut(turn, Cut.LOST)
            waiting, activation.asks_waiting = activation.asks_waiting, []
            for future in waiting:
                if not future.done():
                    future.set_exception(
                        Fenced(
                            shard=shard.label,
                            epoch=shard.epoch,
                            why=why,
                            actor_type=activation.address.type,
                            key=activation.address.key,
                        )
                    )
            world.engine.forget(activation)
        shard.activations.clear()
        ended = self._drains.get(shard.label)
        if ended is not None:
            ended.set()

    def _something_ended(self, shard: OwnedShard) -> None:
        ended = self._drains.get(shard.label)
        if ended is not None:
            ended.set()

    async def _until(self, shard: OwnedShard, ended: asyncio.Event, holds: Any, seconds: float | None) -> None:
        """Wait until ``holds(shard)``, the shard is lost, or time is up."""
        try:
            async with asyncio.timeout(seconds):
                while shard.alive and not holds(shard):
                    ended.clear()
                    await ended.wait()
        except TimeoutError:
            pass

    def _gone(self, shard: OwnedShard) -> bool:
        return not shard.alive

    def _turns_ended(self, shard: OwnedShard) -> bool:
        if shard.waiting_asks:
            return False
        return not any(
            activation.running or activation.streams or activation.phase is Phase.LOADING or _runs_its_last(activation)
            for activation in shard.activations.values()
        )

    def _all_closed(self, shard: OwnedShard) -> bool:
        return not any(_runs_its_last(activation) for activation in shard.activations.values())

    def _all_committed(self, shard: OwnedShard) -> bool:
        return not self._world.committer.holds(shard)


def _runs_its_last(activation: Activation) -> bool:
    """Whether its ``on_deactivate`` is under way. Afterwards only its commit is waited for."""
    return activation.phase is Phase.CLOSING and activation.actor is not None
