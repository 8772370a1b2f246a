"""Corners of an actor's life: hooks that deactivate, ask, tell and stream, and what a constructor may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import ActivationFailed, CallCycle, DomainError
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from actors.testing.faults import Delays
from tests.actors.outcomes import outcome, outcomes

if TYPE_CHECKING:
    from actors.testing import ActorCluster, TestCluster

system = ActorSystem("hooks")
noted: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _forget() -> None:
    noted.clear()
    broken.clear()


class Refused(DomainError):
    pass


class Count(msgspec.Struct):
    value: int = 0
    hooks: int = 0


@system.actor
class Shy(Actor[Count]):
    """Wants to leave as soon as it is up, and once more when it leaves."""

    async def on_activate(self) -> None:
        self.state.hooks += 1
        noted.append("up")
        if self.key.startswith("shy"):
            self.deactivate()

    async def on_deactivate(self, reason: str) -> None:
        noted.append("down")
        if self.key.startswith("stubborn"):
            self.deactivate()
            self.keep_alive(True)

    @message
    async def add(self) -> int:
        noted.append("add")
        self.state.value += 1
        return self.state.value

    @message(read_only=True)
    async def value(self) -> int:
        return self.state.value

    @message
    async def leave(self) -> None:
        self.deactivate()


@system.actor(retry=Retry(max_attempts=3, initial=0.05))
class Linked(Actor[Count]):
    """Asks another in both hooks."""

    async def on_activate(self) -> None:
        if self.key == "asks":
            self.state.value = await self.client.get(Shy, "peer").add()
            await self.client.get(Shy, "told").add.tell()

    async def on_deactivate(self, reason: str) -> None:
        if self.key == "asks":
            noted.append(f"last {await self.client.get(Shy, 'peer').add()}")
            await self.client.get(Shy, "told").add.tell()
        if self.key == "itself":
            noted.append(type(await outcome(self.client.get(Linked, "itself").get())).__name__)

    @message
    async def get(self) -> int:
        return self.state.value

    @message
    async def stumble(self) -> int:
        if "stumble" in broken:
            broken.discard("stumble")
            raise ValueError("a defect")
        return self.state.value

    @message
    async def leave(self) -> None:
        self.deactivate()


@system.actor
class Built(Actor[Count]):
    """Has a constructor of its own, for what is not durable."""

    def __init__(self) -> None:
        if "constructor" in broken:
            raise RuntimeError("no memory")
        self.cache: dict[str, int] = {}
        noted.append(f"built {self.key}")

    @message
    async def remember(self, name: str) -> int:
        self.cache[name] = self.cache.get(name, 0) + 1
        return self.cache[name]

    @message
    async def stumble(self, name: str) -> int:
        self.cache[name] = self.cache.get(name, 0) + 100
        if "stumble" in broken:
            broken.discard("stumble")
            raise ValueError("a defect")
        return self.cache[name]

    @message
    async def stream(self) -> AsyncIterator[int]:
        yield len(self.cache)


@system.actor
class Flaky(Actor[Count]):
    async def on_activate(self) -> None:
        if "activation" in broken:
            raise ConnectionError("the sensor is off")

    @message
    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    @message
    async def add(self) -> int:
        self.state.value += 1
        return self.state.value


def resident(cluster: TestCluster) -> int:
    return sum(cluster.runner(name).statistics().resident for name in cluster.runners)


async def test_an_actor_that_leaves_in_its_own_on_activate_handles_its_message_first(actor_cluster: ActorCluster) -> None:
    """Else it would come up for ever and never get to it."""
    async with actor_cluster(system) as cluster:
        shy = cluster.client.get(Shy, "shy")
        assert [await shy.add(), await shy.add()] == [1, 2]
        await cluster.settled()

        assert noted == ["up", "add", "down"] * 2
        assert resident(cluster) == 0
        assert await asyncio.gather(*[shy.add() for _ in range(10)]) == list(range(3, 13))


async def test_an_actor_that_leaves_again_while_it_leaves_comes_up_as_any(actor_cluster: ActorCluster) -> None:
    """What it wanted ended with that activation."""
    async with actor_cluster(system, settings=Settings(idle_timeout=5.0)) as cluster:
        stubborn = cluster.client.get(Shy, "stubborn")
        results = await outcomes(stubborn.add(), stubborn.leave(), stubborn.add(), stubborn.add())
        assert results == [1, None, 2, 3]
        assert noted == ["up", "add", "down", "up", "add", "add"]

        await cluster.advance(7.0)
        assert resident(cluster) == 0


async def test_hooks_may_ask_and_tell(actor_cluster: ActorCluster) -> None:
    """The first hook's tells leave with the first turn, the last one's with its own commit."""
    async with actor_cluster(system) as cluster:
        linked = cluster.client.get(Linked, "asks")
        assert await linked.get() == 1
        await linked.leave()
        await cluster.settled()

        assert noted[-2:] == ["last 2", "add"] or "last 2" in noted
        assert cluster.state(cluster.client.get(Shy, "told")).value == 2
        assert cluster.state(linked).value == 1
        assert resident(cluster) == 2


async def test_a_hook_that_asked_is_run_again_with_its_turn(actor_cluster: ActorCluster) -> None:
    """Its ask has no message to be remembered under: hooks are for what may happen again."""
    broken.add("stumble")
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Linked, "asks").stumble() == 2
        await cluster.settled()

        assert cluster.state(cluster.client.get(Shy, "peer")).value == 2
        assert cluster.state(cluster.client.get(Shy, "told")).value == 1


async def test_an_on_deactivate_that_asks_its_own_actor_fails_at_once(actor_cluster: ActorCluster) -> None:
    """The message could run in the next activation only, which waits for this hook."""
    async with actor_cluster(system) as cluster:
        linked = cluster.client.get(Linked, "itself")
        await linked.get()
        began = cluster.time
        await linked.leave()
        await cluster.settled()

        assert noted == [CallCycle.__name__]
        assert cluster.time - began < 1.0


async def test_on_deactivate_waits_for_commits_under_way_before_it_asks(actor_cluster: ActorCluster) -> None:
    """As any turn of that actor does."""
    async with actor_cluster(system, runners=1) as cluster:
        linked = cluster.client.get(Linked, "asks")
        await linked.get()
        cluster.faults.inject(Delays(request=0.3), script="commit", times=None)
        await linked.leave()
        await cluster.settled()

        assert "last 2" in noted
        assert cluster.state(cluster.client.get(Shy, "peer")).value == 2


async def test_a_constructor_runs_for_each_activation_and_after_a_defect(actor_cluster: ActorCluster) -> None:
    """What it makes lives as long as the instance; the key and the state are not its concern."""
    broken.add("stumble")
    async with actor_cluster(system) as cluster:
        built = cluster.client.get(Built, "a")
        assert [await built.remember("x"), await built.remember("x")] == [1, 2]
        assert await built.stumble("x") == 100
        assert noted == ["built a", "built a"]


async def test_a_constructor_that_raises_is_a_failed_activation(actor_cluster: ActorCluster) -> None:
    """Told to the asker, streams included; tried again with the next call."""
    broken.add("constructor")
    async with actor_cluster(system) as cluster:
        built = cluster.client.get(Built, "a")
        failed = await outcomes(built.remember("x"), anext(built.stream()))
        assert [type(error) for error in failed] == [ActivationFailed, ActivationFailed]
        assert "no memory" in str(failed[0])

        broken.clear()
        assert await built.remember("x") == 1


async def test_a_stream_of_an_actor_that_cannot_be_activated_says_so(actor_cluster: ActorCluster) -> None:
    """At once, and the next one works."""
    broken.add("activation")
    async with actor_cluster(system) as cluster:
        flaky = cluster.client.get(Flaky, "a")
        with pytest.raises(ActivationFailed, match="the sensor is off"):
            async for _ in flaky.count(3):
                raise AssertionError
        broken.clear()

        assert [number async for number in flaky.count(3)] == [0, 1, 2]


async def test_asks_behind_a_tell_that_waits_for_its_activation_keep_their_order(actor_cluster: ActorCluster) -> None:
    """The tell is tried again, and what was sent after it runs after it."""
    broken.add("activation")
    async with actor_cluster(system) as cluster:
        flaky = cluster.client.get(Flaky, "a")
        await flaky.add.tell()
        asking = asyncio.create_task(flaky.add())
        await cluster.advance(0.3)
        broken.clear()

        assert await asking == 2


async def test_a_handoff_during_an_activation_waits_for_it_or_leaves_it_to_the_next_owner(actor_cluster: ActorCluster) -> None:
    """The message is not lost between the two, and runs once."""
    other = ActorSystem("hooks")

    @other.actor
    class SlowStart(Actor[Count]):
        async def on_activate(self) -> None:
            noted.append("up")
            self.state.hooks += 1
            await asyncio.sleep(3.0)

        @message
        async def add(self) -> int:
            self.state.value += 1
            return self.state.value

    async with actor_cluster(other) as cluster:
        slow = cluster.client.get(SlowStart, "a")
        adding = [asyncio.create_task(slow.add()) for _ in range(3)]
        await cluster.advance(0.5)
        await cluster.handoff(slow)

        assert await asyncio.gather(*adding) == [1, 2, 3]
        assert cluster.state(slow).value == 3
