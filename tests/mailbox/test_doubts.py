"""What a client does when it cannot know what became of a command."""

from __future__ import annotations

import pytest

from actors._redis.faults import OutOfMemory
from actors.actor import Actor
from actors.errors import MailboxFull, PersistenceFailed
from actors.message import message
from actors.system import ActorSystem
from actors.testing.cluster import ActorCluster
from actors.testing.faults import Disconnects, ExecutesLate, Fails

system = ActorSystem("doubts")
FULL = OutOfMemory("OOM command not allowed when used memory > 'maxmemory'.")


@system.actor
class Counter(Actor[int]):
    @message
    async def add(self, amount: int) -> int:
        self.state += amount
        return self.state


async def test_a_batch_refused_for_memory_frees_its_number(actor_cluster: ActorCluster) -> None:
    """It is certain that nothing was stored, and the next batch goes on from there."""
    async with actor_cluster(system, runners=1) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.add(1)
        cluster.faults.inject(Fails(FULL), script="send", owner="client")
        with pytest.raises(MailboxFull):
            await counter.add.tell(10)
        await counter.add.tell(100)
        await cluster.settled()

        assert cluster.state(counter) == 101


async def test_a_number_that_may_yet_be_used_is_not_given_out_again(actor_cluster: ActorCluster) -> None:
    """A try that executes late, a second one refused for want of memory: the next batch is not taken for the first."""
    async with actor_cluster(system, runners=1) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.add(1)
        cluster.faults.inject(ExecutesLate(5.5), script="send", owner="client")
        refused = cluster.faults.inject(Fails(FULL), script="send", owner="client")
        with pytest.raises(PersistenceFailed):
            await counter.add.tell(10)
        assert refused.hits == 1
        await cluster.advance(1.0)  # the first try arrives
        await counter.add.tell(100)
        await cluster.settled()

        assert cluster.state(counter) == 111


async def test_an_inbox_is_never_without_an_end(actor_cluster: ActorCluster) -> None:
    """However the connection breaks while a client opens: nothing of it stays for ever."""
    async with actor_cluster(system, runners=1) as cluster:
        cluster.faults.inject(Disconnects(applied=False), owner="broken", name="PEXPIRE", times=None)
        with pytest.raises(PersistenceFailed):
            cluster.faults.inject(Disconnects(applied=True), owner="broken", script="inbox")
            async with cluster.connect("broken"):
                pass
        for key in cluster.execute("KEYS", cluster.keys.inbox("*").replace("{", r"\{")):
            assert cluster.execute("PTTL", key) > 0
