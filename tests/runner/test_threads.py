"""Handlers in threads that outlive their turn."""

from __future__ import annotations

import asyncio
import threading

import msgspec

from actors import Actor, ActorSystem, Settings, message
from actors.testing import ActorCluster

system = ActorSystem("threads")
let_go = threading.Event()
began = threading.Event()
overlaps: list[str] = []
inside = threading.Lock()


class Count(msgspec.Struct):
    n: int = 0


@system.actor(turn_timeout=60)
class Stuck(Actor[Count]):
    @message
    def stand(self) -> None:
        with inside:
            began.set()
            let_go.wait(20)

    @message
    async def add(self) -> int:
        if not inside.acquire(blocking=False):
            overlaps.append(self.key)
        else:
            inside.release()
        self.state.n += 1
        return self.state.n


async def test_a_thread_that_outlives_its_shard_holds_back_the_next_activation_too(actor_cluster: ActorCluster) -> None:
    """The shard is lost and taken again by the same runner: the old handler still runs there."""
    let_go.clear()
    began.clear()
    async with actor_cluster(system, runners=1, settings=Settings(lease=0.6, shards=4)) as cluster:  # a thread's time is real
        stuck = cluster.client.get(Stuck, "a")
        await stuck.stand.tell()
        await asyncio.to_thread(began.wait, 10)
        runner = cluster.owner_of(stuck)
        await cluster.partition(runner)
        await cluster.advance(1.2)
        await cluster.heal(runner)
        asked = asyncio.ensure_future(stuck.add.options(timeout=60)())
        await cluster.advance(1.0)
        held_back = not asked.done()
        let_go.set()

        assert await asked == 1
        assert held_back
        assert not overlaps
