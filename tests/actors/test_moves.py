"""Actors on their way between runners, with turns, asks, backlogs and timers in the middle of something."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import RunnerUnavailable
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem

if TYPE_CHECKING:
    from actors.testing import ActorCluster, TestCluster

system = ActorSystem("moves")
ran: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    broken.clear()


class Notes(msgspec.Struct):
    entries: list[str] = []
    total: int = 0


@system.actor(mailbox_capacity=10, retry=Retry(initial=0.5, jitter=0.0))
class Mover(Actor[Notes]):
    @message
    async def note(self, text: str, seconds: float = 0.0) -> int:
        ran.append(text)
        self.state.entries.append(text)
        if seconds:
            await asyncio.sleep(seconds)
        return len(self.state.entries)

    @message
    async def add(self, amount: int, seconds: float = 0.0) -> int:
        ran.append(f"add {amount}")
        await asyncio.sleep(seconds)
        self.state.total += amount
        return self.state.total

    @message
    async def ask_and_linger(self, key: str, asked: float, lingers: float) -> int:
        ran.append("asks")
        result = await self.client.get(Mover, key).add(5, asked)
        ran.append(f"got {result}")
        await asyncio.sleep(lingers)
        self.state.total += result
        return self.state.total

    @message
    async def stumble(self, text: str) -> int:
        ran.append(f"stumbles {text}")
        if "all" in broken:
            raise ValueError("a defect")
        self.state.entries.append(text)
        return len(self.state.entries)

    @message
    async def fill(self, keys: list[str], text: str) -> None:
        for key in keys:
            await self.client.get(Mover, key).note.tell(text)

    @message(read_only=True)
    async def entries(self) -> list[str]:
        return self.state.entries


@system.actor(shard_group="gpu")
class Model(Actor[Notes]):
    @message
    async def where(self) -> str:
        return self.context.runner_id.name

    @message
    async def ask(self, key: str) -> int:
        return await self.client.get(Mover, key).add(1)


@system.actor
class Front(Actor[None]):
    @message
    async def model(self, key: str) -> str:
        return await self.client.get(Model, key).where()


def elsewhere(cluster: TestCluster, key: str) -> str:
    """Return a key that another runner owns than ``key``."""
    owner = cluster.owner_of(cluster.client.get(Mover, key))
    return next(str(n) for n in range(1000) if cluster.owner_of(cluster.client.get(Mover, str(n))) != owner)


async def test_a_handoff_finishes_the_running_turn_and_takes_the_queue_along(actor_cluster: ActorCluster) -> None:
    """Nothing is run twice, nothing fails, the order stays."""
    async with actor_cluster(system) as cluster:
        mover = cluster.client.get(Mover, "a")
        notes = [asyncio.create_task(mover.note(str(n), 1.0 if n == 0 else 0.0)) for n in range(8)]
        await cluster.advance(0.5)
        await cluster.handoff(mover)

        assert await asyncio.gather(*notes) == list(range(1, 9))
        assert ran == [str(n) for n in range(8)]


async def test_a_handoff_takes_a_backlog_along(actor_cluster: ActorCluster) -> None:
    """More waits than memory holds, some of it sent while the shard moves."""
    async with actor_cluster(system) as cluster:
        mover = cluster.client.get(Mover, "a")
        await mover.note.tell("0", 1.0)
        for number in range(1, 60):
            await mover.note.tell(str(number))
        moving = asyncio.create_task(cluster.handoff(mover))
        for number in range(60, 90):
            await mover.note.tell(str(number))
            await cluster.advance(0.05)
        await moving
        await cluster.settled()

        assert ran == [str(n) for n in range(90)]
        assert cluster.state(mover).entries == ran


async def test_a_turn_cut_off_by_the_drain_time_is_run_again_elsewhere_and_gets_the_same_reply(actor_cluster: ActorCluster) -> None:
    """Its ask was answered before the shard moved."""
    async with actor_cluster(system, settings=Settings(drain_timeout=2.0)) as cluster:
        mover = cluster.client.get(Mover, "a")
        peer = elsewhere(cluster, "a")
        asking = asyncio.create_task(mover.ask_and_linger(peer, 0.0, 10.0))
        await cluster.advance(0.5)
        assert ran == ["asks", "add 5", "got 5"]
        await cluster.handoff(mover)

        assert await asking == 5
        assert Counter(ran) == {"asks": 2, "add 5": 1, "got 5": 2}
        assert cluster.state(cluster.client.get(Mover, peer)).total == 5


async def test_a_turn_cut_off_while_it_asks_joins_its_ask_when_it_is_run_again(actor_cluster: ActorCluster) -> None:
    """The callee goes on undisturbed."""
    async with actor_cluster(system, settings=Settings(drain_timeout=2.0)) as cluster:
        mover = cluster.client.get(Mover, "a")
        peer = elsewhere(cluster, "a")
        asking = asyncio.create_task(mover.ask_and_linger(peer, 8.0, 0.0))
        await cluster.advance(0.5)
        await cluster.handoff(mover)

        assert await asking == 5
        assert Counter(ran) == {"asks": 2, "add 5": 1, "got 5": 1}
        assert cluster.state(cluster.client.get(Mover, peer)).total == 5


async def test_an_ask_outlives_the_death_of_its_callees_runner(actor_cluster: ActorCluster) -> None:
    """It is run again by the next owner, once as far as anybody can tell."""
    async with actor_cluster(system) as cluster:
        peer = elsewhere(cluster, "a")
        asking = asyncio.create_task(cluster.client.get(Mover, "a").ask_and_linger.options(timeout=60.0)(peer, 5.0, 0.0))
        await cluster.advance(1.0)
        await cluster.kill(cluster.owner_of(cluster.client.get(Mover, peer)))

        assert await asking == 5
        assert cluster.state(cluster.client.get(Mover, peer)).total == 5


async def test_a_backoff_goes_on_where_it_was_after_a_takeover(actor_cluster: ActorCluster) -> None:
    """Attempts and waiting time are not forgotten, and what waits behind stays behind."""
    broken.add("all")
    async with actor_cluster(system) as cluster:
        mover = cluster.client.get(Mover, "a")
        await mover.stumble.tell("first")
        await mover.note.tell("behind")
        await cluster.advance(1.0)  # runs at 0 and 0.5; the next is due at 1.5
        assert ran == ["stumbles first"] * 2
        await cluster.handoff(mover)
        assert len(ran) == 2
        await cluster.settled()

        assert ran == ["stumbles first"] * 5 + ["behind"]
        assert [(letter.method, letter.attempts) for letter in cluster.dead_letters()] == [("stumble", 5)]


async def test_attempts_of_one_message_are_not_the_next_ones_after_a_takeover(actor_cluster: ActorCluster) -> None:
    """It was given up; the one behind it starts from nothing."""
    broken.add("all")
    async with actor_cluster(system) as cluster:
        mover = cluster.client.get(Mover, "a")
        for text in ("one", "two", "three"):
            await mover.stumble.tell(text)
        await cluster.advance(7.6)  # the first is given up at 7.5
        assert ran[-1] == "stumbles two"
        await cluster.handoff(mover)
        await cluster.settled()

        assert Counter(ran) == {"stumbles one": 5, "stumbles two": 5, "stumbles three": 5}
        assert [letter.attempts for letter in cluster.dead_letters()] == [5, 5, 5]


async def test_a_flooded_actor_holds_back_only_itself(actor_cluster: ActorCluster) -> None:
    """Others of the same shard are served as if nothing was."""
    async with actor_cluster(system, runners=1, settings=Settings(shards=1)) as cluster:
        flooded = cluster.client.get(Mover, "flooded")
        await flooded.note.tell("slow", 30.0)
        for start in range(0, 3000, 500):
            await cluster.client.send(*[flooded.note.message(str(n)) for n in range(start, start + 500)])
        began = cluster.time
        assert await asyncio.gather(*[cluster.client.get(Mover, str(n)).note("x") for n in range(50)]) == [1] * 50
        assert cluster.time - began < 0.1
        await cluster.settled()

        assert cluster.state(flooded).entries == ["slow", *[str(n) for n in range(3000)]]


async def test_a_full_shard_whose_messages_tell_actors_of_the_same_shard_drains(actor_cluster: ActorCluster) -> None:
    """What a turn handles makes room for what it sends."""
    async with actor_cluster(system, runners=1, settings=Settings(shards=1, shard_capacity=200)) as cluster:
        await cluster.client.get(Mover, "warm").note("x")
        await cluster.kill("runner-1")
        await cluster.client.send(*[cluster.client.get(Mover, f"f {n}").fill.message([f"t {n}"], "told") for n in range(200)])
        await cluster.start()
        await cluster.settled()

        assert cluster.dead_letters() == []
        assert all(cluster.state(cluster.client.get(Mover, f"t {n}")).entries == ["told"] for n in range(200))


async def test_types_of_a_shard_group_run_on_its_runners_only(actor_cluster: ActorCluster) -> None:
    """Asked from clients and from actors of other groups."""
    async with actor_cluster(system, runners=0, settings=Settings(shard_groups=("default", "spare"))) as cluster:
        settings = msgspec.structs.replace(cluster.settings, shard_groups=("gpu",))
        await cluster.start("plain")
        await cluster.start("gpu-1", settings=settings)
        await cluster.start("gpu-2", settings=settings)
        await cluster.advance(2.0)
        wheres = await asyncio.gather(*[cluster.client.get(Front, str(n)).model(str(n)) for n in range(40)])

        assert set(wheres) == {"gpu-1", "gpu-2"}
        assert {await cluster.client.get(Model, str(n)).where() for n in range(40)} == {"gpu-1", "gpu-2"}
        assert await cluster.client.get(Model, "x").ask("y") == 1


async def test_an_ask_for_a_group_that_nobody_serves_says_so(actor_cluster: ActorCluster) -> None:
    """And is served when somebody comes."""
    async with actor_cluster(system, runners=1, settings=Settings(shard_groups=("default", "spare"), shards=8)) as cluster:
        with pytest.raises(RunnerUnavailable):
            await cluster.client.get(Model, "a").where.options(timeout=1.0)()
        asking = asyncio.create_task(cluster.client.get(Model, "a").where())
        await cluster.advance(1.0)
        await cluster.start("gpu", settings=msgspec.structs.replace(cluster.settings, shard_groups=("gpu",)))

        assert await asking == "gpu"


async def test_actors_that_ask_each_other_in_circles_of_shards_survive_a_rolling_restart(actor_cluster: ActorCluster) -> None:
    """No failed ask, each turn's effect once."""
    async with actor_cluster(system, runners=3) as cluster:
        stop = asyncio.Event()

        async def load(number: int) -> int:
            done = 0
            while not stop.is_set():
                await cluster.client.get(Mover, f"load {number}").ask_and_linger(f"sink {number % 4}", 0.02, 0.02)
                done += 1
            return done

        loads = [asyncio.create_task(load(number)) for number in range(12)]
        for name in list(cluster.runners):
            await cluster.advance(2.0)
            await cluster.start(f"{name} next")
            await cluster.stop(name)
        await cluster.advance(2.0)
        stop.set()
        done = await asyncio.gather(*loads)
        await cluster.settled()

        assert min(done) > 10
        assert sum(cluster.state(cluster.client.get(Mover, f"sink {n}")).total for n in range(4)) == 5 * sum(done)
        assert Counter(ran)["asks"] == sum(done)
