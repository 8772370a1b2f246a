"""A Redis that has gone back: a replica that lagged behind has become the master."""

from __future__ import annotations

from actors.actor import Actor
from actors.message import message
from actors.system import ActorSystem
from actors.testing.cluster import ActorCluster

system = ActorSystem("rollback")


@system.actor
class Counter(Actor[int]):
    @message
    async def add(self, amount: int) -> int:
        self.state += amount
        return self.state


async def test_what_stands_in_a_mailbox_again_is_handled_again(actor_cluster: ActorCluster) -> None:
    """Without anything else coming to that shard: its owner finds out by itself that what it committed is gone."""
    async with actor_cluster(system, runners=2) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.add(1)
        owner = cluster.owner_of(counter)
        await cluster.partition(owner)
        await counter.add.tell(10)
        snapshot = cluster.server.snapshot()  # stored, and not handled yet
        await cluster.heal(owner)
        await cluster.settled()
        assert cluster.state(counter) == 11

        cluster.server.stop()
        cluster.server.restore(snapshot)
        cluster.server.start()
        await cluster.advance(1.0)
        await cluster.settled()

        assert cluster.state(counter) == 11
