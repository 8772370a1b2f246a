"""What still goes on when a shard takes no more messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors import Actor, ActorSystem, MailboxFull, Settings, message
from actors.testing import ActorCluster

system = ActorSystem("full")


@system.actor
class Stuck(Actor[None]):
    @message
    async def stand(self) -> None:
        await asyncio.sleep(30)


@system.actor
class Counter(Actor[None]):
    @message
    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number


async def test_a_full_shard_does_not_stop_a_stream(actor_cluster: ActorCluster) -> None:
    """The reader's credit, which is a word to the owner and no message, goes in all the same."""
    async with actor_cluster(system, settings=Settings(shards=1, shard_capacity=3)) as cluster:
        numbers = cluster.client.get(Counter, "a").count(500)
        items = [await anext(numbers)]
        stuck = cluster.client.get(Stuck, "a")
        for _ in range(3):
            await stuck.stand.tell()
        with pytest.raises(MailboxFull):
            await stuck.stand.tell()
        items += [number async for number in numbers]

        assert items == list(range(500))
