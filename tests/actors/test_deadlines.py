"""Deadlines: of what waits, of what runs, and of what was asked by what runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import AskTimeout, PersistenceFailed, RemoteError, RunnerUnavailable
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("deadlines")
ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


class Notes(msgspec.Struct):
    entries: list[str] = []


@system.actor
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

    @message(timeout=2.0)
    async def brief(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @message
    async def left(self) -> float | None:
        deadline = self.context.deadline
        return None if deadline is None else round(deadline, 3)

    @message
    async def delegate(self, key: str, seconds: float) -> str:
        self.state.entries.append("delegated")
        return await self.client.get(Worker, key).work("inner", seconds)

    @message
    async def delegate_briefly(self, key: str, timeout: float) -> str:
        try:
            return await self.client.get(Worker, key).work.options(timeout=timeout)("inner", 60.0)
        except AskTimeout as error:
            return f"{error.stage} {error.actor_type}/{error.key}"

    @message(retry=Retry(initial=5.0, jitter=0.0))
    async def stumble(self) -> None:
        ran.append("stumbles")
        raise ValueError("a defect")

    @message
    async def stubborn(self) -> None:
        while True:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                ran.append("will not")
                if ran.count("will not") == 2:
                    return


async def test_a_message_whose_deadline_passed_while_it_was_queued_never_runs(actor_cluster: ActorCluster) -> None:
    """And its caller is told then, not when its turn would have come; those behind it run."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        slow = asyncio.create_task(worker.work("slow", 10.0))
        await cluster.advance(0.1)
        began = cluster.time
        late = asyncio.create_task(outcome(worker.work.options(timeout=1.0)("late")))
        behind = asyncio.create_task(worker.work("behind"))
        error = await late

        assert isinstance(error, AskTimeout)
        assert (error.stage, error.timeout, error.key) == ("queued", 1.0, "a")
        assert "still queued" in str(error)
        assert cluster.time - began == pytest.approx(1.0, abs=0.05)
        assert [await slow, await behind] == ["slow", "behind"]
        assert ran == ["starts slow", "ends slow", "starts behind", "ends behind"]
        assert cluster.state(worker).entries == ["slow", "behind"]


async def test_a_handler_that_runs_past_its_deadline_is_cancelled_and_nothing_of_it_is_committed(actor_cluster: ActorCluster) -> None:
    """The caller's error comes at its deadline, once, and says that it ran."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        began = cluster.time
        with pytest.raises(AskTimeout) as failed:
            await worker.work.options(timeout=1.0)("slow", 30.0)

        assert cluster.time - began == pytest.approx(1.0, abs=0.05)
        assert (failed.value.stage, failed.value.timeout) == ("running", 1.0)
        assert failed.value.seconds == pytest.approx(1.0, abs=0.05)
        await cluster.settled()
        assert ran == ["starts slow", "cancelled slow"]
        assert not cluster.is_stored(worker)
        assert await worker.work("next") == "next"
        assert cluster.state(worker).entries == ["next"]


async def test_a_late_reply_is_ignored_and_nothing_pending_remains(actor_cluster: ActorCluster) -> None:
    """The answer's way back took longer than the caller could wait."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        await worker.work("warm")
        cluster.faults.partition("client", "client-inbox")
        began = cluster.time
        with pytest.raises(AskTimeout):
            await worker.work.options(timeout=1.0)("once")
        assert cluster.time - began == pytest.approx(1.0, abs=0.1)
        assert cluster.client.calls.pending == 0

        cluster.faults.heal("client", "client-inbox")
        await cluster.advance(10.0)
        assert cluster.state(worker).entries == ["warm", "once"]
        assert await worker.work("after") == "after"


@pytest.mark.parametrize("timeout", [2.0, timedelta(seconds=2)])
async def test_a_calls_own_timeout_goes_before_its_messages(actor_cluster: ActorCluster, timeout: float | timedelta) -> None:
    """And the message's before the setting's."""
    async with actor_cluster(system, settings=Settings(ask_timeout=4.0)) as cluster:
        worker = cluster.client.get(Worker, "a")

        async def waited(asked: object) -> float:
            began = cluster.time
            assert isinstance(await outcome(asked), AskTimeout)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            return round(cluster.time - began, 1)

        assert await waited(worker.brief.options(timeout=1.0)(60.0)) == 1.0
        assert await waited(worker.brief(60.0)) == 2.0
        assert await waited(worker.work.options(timeout=timeout)("x", 60.0)) == 2.0
        assert await waited(worker.work("x", 60.0)) == 4.0


async def test_a_handler_can_see_its_deadline(actor_cluster: ActorCluster) -> None:
    """A tell has none."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        now = cluster.client.loop.time() + 1_767_225_600.0
        deadline = await worker.left.options(timeout=10.0)()

        assert deadline == pytest.approx(now + 10.0, abs=0.1)


async def test_a_nested_ask_has_no_more_time_than_its_turn(actor_cluster: ActorCluster) -> None:
    """The outermost deadline ends them all, and says what was waited on."""
    async with actor_cluster(system) as cluster:
        began = cluster.time
        with pytest.raises(AskTimeout) as failed:
            await cluster.client.get(Worker, "outer").delegate.options(timeout=1.0)("inner", 60.0)

        assert cluster.time - began == pytest.approx(1.0, abs=0.1)
        assert (failed.value.key, failed.value.waiting_on) == ("outer", "Worker/inner")
        await cluster.settled()
        assert ran == ["starts inner", "cancelled inner"]
        assert not cluster.is_stored(cluster.client.get(Worker, "inner"))
        assert not cluster.is_stored(cluster.client.get(Worker, "outer"))


async def test_a_nested_ask_may_time_out_by_itself(actor_cluster: ActorCluster) -> None:
    """The turn that made it decides what to do."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Worker, "outer").delegate_briefly("inner", 0.5) == "running Worker/inner"


async def test_a_deadline_passes_during_backoff(actor_cluster: ActorCluster) -> None:
    """The message is not run again, and does not hold up the actor for the rest of the wait."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        began = cluster.time
        stumbling = asyncio.create_task(outcome(worker.stumble.options(timeout=1.0)()))
        await cluster.advance(0.1)
        assert await worker.work("behind") == "behind"
        assert cluster.time - began == pytest.approx(1.0, abs=0.1)

        error = await stumbling
        assert isinstance(error, AskTimeout)
        await cluster.settled()
        assert ran.count("stumbles") == 1
        assert cluster.dead_letters() == []


async def test_attempts_are_those_of_one_message_whoever_expires_beside_it(actor_cluster: ActorCluster) -> None:
    """A failing tell at the head is given up in time, though asks behind it expire meanwhile."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        await worker.stumble.tell()
        for _ in range(40):
            await outcome(worker.work.options(timeout=1.0)("late"))
            await cluster.advance(1.0)
        await cluster.settled()

        assert ran.count("stumbles") == 5
        assert [letter.attempts for letter in cluster.dead_letters()] == [5]


async def test_a_handler_that_swallows_its_cancellation_holds_up_its_caller_no_longer_than_the_deadline(
    actor_cluster: ActorCluster,
) -> None:
    """The client's own clock is the last bound."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        began = cluster.time
        with pytest.raises(AskTimeout):
            await worker.stubborn.options(timeout=1.0)()

        assert cluster.time - began == pytest.approx(1.0, abs=0.1)
        assert await worker.work("after") == "after"
        assert cluster.state(worker).entries == ["after"]


async def test_an_ask_that_no_runner_serves_says_so_at_its_deadline(actor_cluster: ActorCluster) -> None:
    """The shard has no live owner."""
    async with actor_cluster(system, runners=1) as cluster:
        worker = cluster.client.get(Worker, "a")
        await worker.work("x")
        await cluster.kill("runner-1")
        await cluster.advance(11.0)
        began = cluster.time
        with pytest.raises(RunnerUnavailable) as failed:
            await worker.work.options(timeout=2.0)("y")

        assert failed.value.key == "a"
        assert cluster.time - began == pytest.approx(2.0, abs=0.1)


async def test_an_ask_waits_for_the_first_runner_until_its_deadline(actor_cluster: ActorCluster) -> None:
    """Clients may come up before anybody else."""
    async with actor_cluster(system, runners=0) as cluster:
        worker = cluster.client.get(Worker, "a")
        with pytest.raises(RunnerUnavailable):
            await worker.work.options(timeout=1.0)("x")
        asking = asyncio.create_task(worker.work("y"))
        await cluster.advance(5.0)
        await cluster.start()

        assert await asking == "y"


async def test_an_ask_that_redis_does_not_take_says_so_at_its_deadline(actor_cluster: ActorCluster) -> None:
    """Whether it has arrived is not known."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        await worker.work("x")
        cluster.server.stop()
        began = cluster.time
        with pytest.raises(PersistenceFailed) as failed:
            await worker.work.options(timeout=2.0)("y")
        assert cluster.time - began == pytest.approx(2.0, abs=0.1)
        assert failed.value.outcome == "unknown"
        with pytest.raises(PersistenceFailed):
            await worker.work.options(timeout=2.0).tell("z")

        cluster.server.start()
        assert await worker.work("after") == "after"


async def test_a_deadline_ages_by_redis_time(actor_cluster: ActorCluster) -> None:
    """The clocks of Redis, of the client and of the runner may differ by hours."""
    async with actor_cluster(system, runners=0) as cluster:
        cluster.server.skew = 3 * 3600.0
        await cluster.start()
        async with cluster.connect() as client:
            worker = client.get(Worker, "a")

            assert await worker.work.options(timeout=5.0)("x", 4.0) == "x"
            began = cluster.time
            with pytest.raises(AskTimeout, match="had run for 2"):
                await worker.work.options(timeout=2.0)("y", 4.0)
            assert cluster.time - began == pytest.approx(2.0, abs=0.05)


async def test_a_tells_timeout_bounds_only_its_acknowledgement(actor_cluster: ActorCluster) -> None:
    """Once it is stored it runs, however late and however long."""
    async with actor_cluster(system) as cluster:
        worker = cluster.client.get(Worker, "a")
        await worker.work.options(timeout=0.5).tell("long", 10.0)
        await worker.work.options(timeout=0.5).tell("late", 1.0)
        await cluster.settled()

        assert cluster.state(worker).entries == ["long", "late"]


async def test_a_defect_is_given_up_within_the_default_deadline(actor_cluster: ActorCluster) -> None:
    """So that an asker learns of it instead of a time-out."""
    other = ActorSystem("deadlines")

    @other.actor
    class Failing(Actor[None]):
        @message
        async def fail(self) -> None:
            raise ValueError("a defect")

    async with actor_cluster(other) as cluster:
        began = cluster.time
        with pytest.raises(RemoteError) as failed:
            await cluster.client.get(Failing, "a").fail()

        assert cluster.time - began < 4.0
        assert (failed.value.type_name, failed.value.message, failed.value.attempts) == ("ValueError", "a defect", 5)
