"""Turns that send to a shard without room."""

from __future__ import annotations

import msgspec

from actors import Actor, ActorSystem, MailboxFull, Settings, message
from actors.testing import ActorCluster

system = ActorSystem("full")


class Seen(msgspec.Struct):
    refused: int = 0


@system.actor
class Source(Actor[Seen]):
    @message
    async def pour(self, to: str, count: int) -> int:
        """Tell as much as goes; return how many were refused at once."""
        for _ in range(count):
            try:
                await self.client.get(Sink, to).drop.tell()
            except MailboxFull as error:
                if error.scope != "shard" or error.depth < error.limit:
                    raise
                self.state.refused += 1
        return self.state.refused


@system.actor
class Sink(Actor[None]):
    @message
    async def drop(self) -> None: ...


async def test_a_turn_is_told_at_once_of_a_shard_that_was_full_a_moment_ago(actor_cluster: ActorCluster) -> None:
    """The first commit finds out and sets the surplus aside; later turns can decide for themselves, until there may be room again."""
    async with actor_cluster(system, runners=1, settings=Settings(shards=8, shard_capacity=5)) as cluster:
        get = cluster.client.get
        source = get(Source, "a")
        target = next(str(n) for n in range(100) if cluster.shard_of(get(Sink, str(n))) != cluster.shard_of(source))
        assert await source.pour(target, 9) == 0
        await cluster.settled()
        dead = cluster.dead_letters()
        refused = await source.pour(target, 3)
        await cluster.advance(1.5)

        assert [letter.reason for letter in dead] == ["mailbox_full"] * 4
        assert refused == 3
        assert await source.pour(target, 3) == 3
        await cluster.settled()
        assert len(cluster.dead_letters()) == 4
