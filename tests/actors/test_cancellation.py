"""A caller that goes away takes its call with it, and nobody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.message import message
from actors.supervision import Retry
from actors.system import ActorSystem

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("cancellation")
ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


class Notes(msgspec.Struct):
    entries: list[str] = []


@system.actor(mailbox_capacity=5)
class Worker(Actor[Notes]):
    @message
    async def work(self, name: str, seconds: float = 0.0) -> str:
        ran.append(f"starts {name}")
        self.state.entries.append(name)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ran.append(f"cancelled {name}")
            raise
        ran.append(f"ends {name}")
        return name

    @message
    async def delegate(self, keys: list[str]) -> list[str]:
        self.state.entries.append("delegated")
        return list(await asyncio.gather(*[self.client.get(Worker, key).work(f"at {key}", 60.0) for key in keys]))

    @message(retry=Retry(initial=5.0, jitter=0.0))
    async def stumble(self) -> None:
        ran.append("stumbles")
        raise ValueError("a defect")

    @message
    async def choosy(self, key: str) -> str:
        """Cancels its own ask, and goes on."""
        asking = asyncio.create_task(self.client.get(Worker, key).work("unwanted", 60.0))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return await self.client.get(Worker, key).work("wanted")


async def cancelled(task: asyncio.Task[object]) -> bool:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return task.cancelled()


@pytest.mark.parametrize("after_ms", [0, 10, 300])
async def test_a_callee_sees_that_its_caller_was_cancelled(actor_cluster: ActorCluster, after_ms: int) -> None:
    """Whenever it happens: before the message has left, while it is on its way, while it runs."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        await worker.work("warm")
        other = asyncio.create_task(cluster.client.get(Worker, "b").work("other", 1.0))
        calling = asyncio.create_task(worker.work("gone", 60.0))
        await (cluster.advance(after_ms / 1000) if after_ms else asyncio.sleep(0))
        assert await cancelled(calling)
        began = cluster.time
        assert await worker.work("next") == "next"

        assert cluster.time - began < 0.1
        assert ("starts gone" in ran) == ("cancelled gone" in ran)
        if after_ms == 300:
            assert "cancelled gone" in ran
        assert cluster.state(worker).entries == ["warm", "next"]
        assert await other == "other"
        assert cluster.client.calls.pending == 0


async def test_a_call_cancelled_before_it_left_is_never_sent(actor_cluster: ActorCluster) -> None:
    """Cancelled in the same turn of the loop in which it was made."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        calling = asyncio.create_task(worker.work("gone"))
        await asyncio.sleep(0)
        assert await cancelled(calling)
        await cluster.settled()

        assert ran == []
        assert not cluster.is_stored(worker)


async def test_what_is_queued_never_starts_once_its_caller_is_gone(actor_cluster: ActorCluster) -> None:
    """Those before and behind it do."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        tasks = [asyncio.create_task(worker.work(str(number), 0.5)) for number in range(4)]
        await cluster.advance(0.1)
        assert await cancelled(tasks[2])
        results = await asyncio.gather(tasks[0], tasks[1], tasks[3])

        assert list(results) == ["0", "1", "3"]
        assert "starts 2" not in ran
        assert cluster.state(worker).entries == ["0", "1", "3"]


async def test_what_waits_in_the_backlog_never_starts_once_its_caller_is_gone(actor_cluster: ActorCluster) -> None:
    """Though it is not even in memory when the word comes."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        tasks = [asyncio.create_task(worker.work(str(number), 0.5)) for number in range(15)]
        await cluster.advance(0.1)
        for number in (3, 9, 14):
            assert await cancelled(tasks[number])
        await cluster.settled()

        wanted = [str(number) for number in range(15) if number not in {3, 9, 14}]
        assert cluster.state(worker).entries == wanted
        assert [note for note in ran if note.startswith("starts")] == [f"starts {name}" for name in wanted]


async def test_cancelling_a_message_in_backoff_frees_its_actor_at_once(actor_cluster: ActorCluster) -> None:
    """Nobody waits for its next attempt."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        stumbling = asyncio.create_task(worker.stumble())
        await cluster.advance(0.5)
        behind = asyncio.create_task(worker.work("behind"))
        await cluster.advance(0.5)
        assert ran == ["stumbles"]
        assert await cancelled(stumbling)
        began = cluster.time

        assert await behind == "behind"
        assert cluster.time - began < 0.1
        await cluster.settled()
        assert ran.count("stumbles") == 1


async def test_a_cancellation_reaches_whatever_the_callee_has_asked_for(actor_cluster: ActorCluster) -> None:
    """All the way down; nothing of any of them is committed."""
    async with actor_cluster(system) as cluster:
        outer = cluster.client.get(Worker, "outer")
        calling = asyncio.create_task(outer.delegate(["1", "2", "3"]))
        await cluster.advance(0.5)
        assert sorted(ran) == ["starts at 1", "starts at 2", "starts at 3"]
        assert await cancelled(calling)
        await cluster.settled()

        assert sorted(ran)[:3] == ["cancelled at 1", "cancelled at 2", "cancelled at 3"]
        for key in ("outer", "1", "2", "3"):
            assert not cluster.is_stored(cluster.client.get(Worker, key))


async def test_a_turn_may_cancel_its_own_ask_and_go_on(actor_cluster: ActorCluster) -> None:
    """The callee is free at once."""
    async with actor_cluster(system) as cluster:
        began = cluster.time
        assert await cluster.client.get(Worker, "outer").choosy("inner") == "wanted"

        assert cluster.time - began < 0.5
        assert ran == ["starts unwanted", "cancelled unwanted", "starts wanted", "ends wanted"]
        assert cluster.state(cluster.client.get(Worker, "inner")).entries == ["wanted"]


async def test_a_call_ends_when_its_last_waiter_has_gone(actor_cluster: ActorCluster) -> None:
    """Two callers under one idempotency key: the first may go without harm to the second."""
    async with actor_cluster(system) as cluster:
        work = cluster.client.get(Worker, "a").work.options(idempotency_key="k")
        first = asyncio.create_task(work("shared", 2.0))
        await cluster.advance(0.1)
        second = asyncio.create_task(work("shared", 2.0))
        await cluster.advance(0.1)
        assert await cancelled(first)
        await cluster.advance(0.5)
        assert ran == ["starts shared"]
        assert await second == "shared"

        ran.clear()
        work = cluster.client.get(Worker, "a").work.options(idempotency_key="l")
        tasks = [asyncio.create_task(work("alone", 60.0)) for _ in range(2)]
        await cluster.advance(0.1)
        for task in tasks:
            assert await cancelled(task)
        await cluster.settled()
        assert ran == ["starts alone", "cancelled alone"]
        # And the key is free again.
        assert await work("alone", 0.0) == "alone"


async def test_hundreds_of_cancelled_callers_leave_nothing_behind(actor_cluster: ActorCluster) -> None:
    """Neither calls nor turns nor connections."""
    async with actor_cluster(system) as cluster:
        await cluster.client.get(Worker, "0").work("warm")
        await cluster.advance(10.0)
        connections = len(cluster.server.connections)
        tasks = [asyncio.create_task(cluster.client.get(Worker, str(n % 50)).work(str(n), 60.0)) for n in range(500)]
        await cluster.advance(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        began = cluster.time
        await cluster.settled()

        assert cluster.time - began < 1.0
        assert cluster.client.calls.pending == 0
        assert len(cluster.server.connections) == connections
        assert all(cluster.runner(name).statistics().suspended == 0 for name in cluster.runners)
        assert cluster.state(cluster.client.get(Worker, "1")).entries == []
        assert cluster.client.sending.reconnects == 0


async def test_a_cancelled_tell_may_still_arrive(actor_cluster: ActorCluster) -> None:
    """Cancelling the wait for its acknowledgement does not recall it once it has left; others are not touched."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        telling = asyncio.create_task(worker.work.tell("told"))
        other = asyncio.create_task(worker.work.tell("other"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await other
        await cluster.settled()

        assert cluster.state(worker).entries[-1] == "other"
