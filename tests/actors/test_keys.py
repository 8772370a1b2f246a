"""Keys: any text names an actor, and moves nothing of it elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import ConfigurationError
from actors.message import message
from actors.system import ActorSystem

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("keys")

KEYS = [
    "plain",
    " ",
    "with spaces and\ttabs\nand lines",
    "a/b/../c",
    "a:b::c:",
    ":",
    "{braces}",
    "}{",
    "{keys:0}:m:default.1",
    "emoji 🎭 ümlaut 漢字",
    "nul\0in the middle",
    "\0",
    "*?[a-z]",
    "-",
    "%s %d",
    "'\"\\",
    "\u202eright to left",
    "x" * 1024,
    "é" * 512,
    "0",
    "None",
]


class Value(msgspec.Struct):
    value: str = ""


@system.actor
class Box(Actor[Value]):
    @message
    async def put(self, value: str) -> str:
        self.state.value = value
        return self.key

    @message(read_only=True)
    async def get(self) -> str:
        return self.state.value

    @message
    async def put_at(self, key: str, value: str) -> str:
        await self.client.get(Box, key).put.tell("told")
        return await self.client.get(Box, key).put(value)

    @message
    async def leave(self) -> None:
        self.deactivate()

    @message
    async def fail(self) -> None:
        if not self.state.value:
            self.state.value = "x"
            raise ValueError("a defect")


async def test_any_text_may_be_a_key(actor_cluster: ActorCluster) -> None:
    """In asks, tells, asks of turns, states, and after a takeover; no two of them meet."""
    async with actor_cluster(system) as cluster:
        boxes = [cluster.client.get(Box, key) for key in KEYS]
        assert await asyncio.gather(*[box.put(str(n)) for n, box in enumerate(boxes)]) == KEYS
        assert await asyncio.gather(*[box.get() for box in boxes]) == [str(n) for n in range(len(KEYS))]
        asking = cluster.client.get(Box, "asking")
        for number, key in enumerate(KEYS):
            assert await asking.put_at(key, f"again {number}") == key
        await cluster.settled()
        await asyncio.gather(*[box.leave() for box in boxes])
        await cluster.kill(cluster.owner_of(boxes[0]))

        assert {await box.get() for box in boxes} == {"told"}
        assert [box.key for box in boxes] == KEYS


async def test_any_key_may_fail_and_be_held_back(actor_cluster: ActorCluster) -> None:
    """Backlogs and held actors are named by keys too, and are read back after a crash."""
    other = ActorSystem("keys")
    failing = set(KEYS)

    @other.actor
    class Fragile(Actor[Value]):
        @message
        async def work(self) -> str:
            if self.key in failing:
                raise ValueError("a defect")
            self.state.value += "x"
            return self.key

    async with actor_cluster(other) as cluster:
        actors = [cluster.client.get(Fragile, key) for key in KEYS]
        await cluster.client.send(*[actor.work.message() for actor in actors for _ in range(3)])
        await cluster.advance(0.1)
        await cluster.kill(cluster.runners[0])
        failing.clear()
        await cluster.settled()

        assert [cluster.state(actor).value for actor in actors] == ["xxx"] * len(KEYS)
        assert cluster.dead_letters() == []


async def test_every_key_of_a_system_is_in_one_slot(actor_cluster: ActorCluster) -> None:
    """Braces in an actor's key must not make another hash tag of its Redis keys."""
    async with actor_cluster(system) as cluster:
        await asyncio.gather(*[cluster.client.get(Box, key).put("x") for key in KEYS])
        tag = cluster.keys.tag.encode()

        for key in cluster.execute("KEYS", "*"):
            start = key.index(b"{")
            assert key[start : key.index(b"}") + 1] == tag


@pytest.mark.parametrize("key", ["x" * 1025, "é" * 513, "🎭" * 257])
async def test_a_key_over_1024_bytes_is_refused_naming_the_limit(actor_cluster: ActorCluster, key: str) -> None:
    """Where the ref is made, with nothing sent."""
    async with actor_cluster(system, runners=0) as cluster:
        with pytest.raises(ValueError, match=r"at most 1,024 bytes"):
            cluster.client.get(Box, key)


@pytest.mark.parametrize(("key", "error"), [("", ValueError), (7, TypeError), (None, TypeError), (b"x", TypeError), ("\ud800", ValueError)])
async def test_what_is_no_text_is_no_key(actor_cluster: ActorCluster, key: str, error: type[Exception]) -> None:
    """Nor is half a character, nor nothing."""
    async with actor_cluster(system, runners=0) as cluster:
        with pytest.raises(error, match="key"):
            cluster.client.get(Box, key)


async def test_a_class_that_was_never_registered_has_no_refs(actor_cluster: ActorCluster) -> None:
    """Its name on the wire is not known."""

    class Stray(Actor[Value]):
        @message
        async def ping(self) -> None: ...

    async with actor_cluster(system, runners=0) as cluster:
        with pytest.raises(ConfigurationError, match="Stray is not registered"):
            cluster.client.get(Stray, "a")


async def test_actors_of_different_types_share_keys_and_nothing_else(actor_cluster: ActorCluster) -> None:
    """An actor is a type and a key."""
    other = ActorSystem("keys")

    @other.actor
    class First(Box):
        pass

    @other.actor(name="Another.name-2")
    class Second(Box):
        pass

    async with actor_cluster(other) as cluster:
        await cluster.client.get(First, "a").put("first")
        await cluster.client.get(Second, "a").put("second")

        assert await cluster.client.get(First, "a").get() == "first"
        assert await cluster.client.get(Second, "a").get() == "second"
        assert cluster.execute("EXISTS", f"{cluster.keys.tag}:s:Another.name-2:a") == 1
