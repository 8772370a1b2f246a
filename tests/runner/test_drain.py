"""A shard that moves away while more and more comes for it."""

from __future__ import annotations

import asyncio

import msgspec

from actors import Actor, ActorSystem, Settings, message
from actors.testing import ActorCluster, Delays

system = ActorSystem("drain")


class Count(msgspec.Struct):
    n: int = 0


@system.actor(mailbox_capacity=1)
class Flooded(Actor[Count]):
    @message
    async def add(self) -> None:
        self.state.n += 1


async def test_a_shard_moves_while_its_actors_are_flooded(actor_cluster: ActorCluster) -> None:
    """What comes during a drain goes to backlogs by commits of their own; the next owner does not wait for the last of them."""
    async with actor_cluster(system, runners=2, settings=Settings(shards=2)) as cluster:
        flooded = cluster.client.get(Flooded, "a")
        await flooded.add.tell()
        cluster.faults.inject(Delays(reply=0.02), script="commit", times=None)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await flooded.add.tell()
                sent += 1
                await asyncio.sleep(0.002)

        flooding = asyncio.ensure_future(flood())
        await cluster.advance(1)
        began = cluster.time
        await cluster.handoff(flooded)
        took = cluster.time - began
        flooding.cancel()
        await cluster.settled()

        assert took < 0.25
        assert cluster.state(flooded).n >= sent
