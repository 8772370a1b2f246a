"""Delayed messages across a shard's loss."""

from __future__ import annotations

import msgspec
import pytest

from actors import Actor, ActorSystem, Settings, message
from actors.testing import ActorCluster

system = ActorSystem("timers")


class Count(msgspec.Struct):
    n: int = 0


@system.actor
class Counter(Actor[Count]):
    @message
    async def add(self) -> None:
        self.state.n += 1


@pytest.mark.parametrize("heal_after", [2.5, 4.0])
async def test_what_came_due_while_a_shard_was_lost_fires_once_it_is_back(actor_cluster: ActorCluster, heal_after: float) -> None:
    """The same runner takes the shard again while its earlier firing still has no answer: that answer is about another epoch."""
    async with actor_cluster(system, runners=1, settings=Settings(lease=2, shards=2)) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.add.options(after=5.0).tell()
        runner = cluster.owner_of(counter)
        await cluster.advance(4.9)
        await cluster.partition(runner)
        await cluster.advance(heal_after)
        await cluster.heal(runner)
        await cluster.advance(10)

        assert cluster.state(counter).n == 1
