"""A server whose role changes ends all blocked reads with an error of its own."""

from __future__ import annotations

from actors.actor import Actor
from actors.message import message
from actors.system import ActorSystem
from actors.testing.cluster import ActorCluster

system = ActorSystem("unblocked")


@system.actor
class Counter(Actor[int]):
    @message
    async def add(self, amount: int) -> int:
        self.state += amount
        return self.state


async def test_reads_that_the_server_ends_are_read_again(actor_cluster: ActorCluster) -> None:
    """Of mailboxes, of answers, and of what the others do: no runner ends for it."""
    async with actor_cluster(system, runners=2) as cluster:
        counter = cluster.client.get(Counter, "a")
        assert await counter.add(1) == 1
        for _ in range(3):
            cluster.faults.unblock()
            await cluster.advance(0.5)

        assert await counter.add(1) == 2
        await cluster.start()
        await cluster.balanced()
        assert await counter.add(1) == 3
