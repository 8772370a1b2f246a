"""Actors of all kinds: what their state may be, what they inherit, and what they send themselves."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pytest

from actors.actor import Actor
from actors.errors import MailboxFull
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem

if TYPE_CHECKING:
    from actors.client import Client
    from actors.testing import ActorCluster, TestCluster

system = ActorSystem("kinds")
ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Profile:
    name: str = ""
    born: datetime | None = None
    colours: set[Colour] = field(default_factory=set[Colour])
    path: list[Point] = field(default_factory=list[Point])
    lasts: timedelta = timedelta(0)
    ids: dict[UUID, bytes] = field(default_factory=dict[UUID, bytes])
    nested: Profile | None = None


class Base(Actor[Profile]):
    """Not registered itself."""

    @message
    async def rename(self, name: str) -> str:
        self.state.name = name
        return f"base {name}"

    @message(read_only=True)
    async def profile(self) -> Profile:
        return self.state

    @message
    async def overridden(self, value: int) -> str:
        return f"base {value}"


@system.actor
class Person(Base):
    @message
    async def fill(self, profile: Profile) -> None:
        self.state = profile

    @message
    async def overridden(self, value: int) -> str:
        return f"person {value}, {await super().overridden(value + 1)}"


@system.actor
class Number(Actor[int]):
    @message
    async def add(self, amount: int) -> int:
        self.state += amount
        return self.state

    @message
    async def fail(self) -> None:
        self.state += 1000
        raise MailboxFull(scope="turn")


@system.actor
class Words(Actor[dict[str, list[int]]]):
    @message
    async def count(self, word: str, at: int) -> dict[str, list[int]]:
        self.state.setdefault(word, []).append(at)
        return self.state


@system.actor
class Queue(Actor[list[str]]):
    @message
    async def push(self, item: str) -> list[str]:
        self.state.append(item)
        return self.state


@system.actor
class Maybe(Actor[Profile | None]):
    @message
    async def set(self, profile: Profile | None) -> Profile | None:
        before, self.state = self.state, profile
        return before


@system.actor
class Stateless(Actor[None]):
    @message
    async def state_of(self) -> str:
        self.clear()
        return repr(self.state)


@system.actor
class Selfish(Actor[list[str]]):
    """Sends itself messages."""

    @message
    async def step(self, left: int) -> None:
        ran.append(f"step {left}")
        self.state.append(str(left))
        if left:
            await self.step.tell(left - 1)

    @message
    async def later(self, text: str) -> None:
        await self.note.options(after=5.0).tell(text)
        await self.client.send(self.note.message("at once"), self.note.message("after that"))
        await self.note("in this turn")

    @message
    async def note(self, text: str) -> int:
        ran.append(text)
        self.state.append(text)
        return len(self.state)

    @message
    async def notes(self) -> list[str]:
        return self.state


async def test_a_state_may_be_anything_that_starts_from_nothing(actor_cluster: ActorCluster) -> None:
    """A number, a dict, a list, a dataclass or nothing; and what it leaves is what comes back."""
    async with actor_cluster(system) as cluster:
        get = cluster.client.get
        assert [await get(Number, "n").add(2) for _ in range(3)] == [2, 4, 6]
        with pytest.raises(MailboxFull):
            await get(Number, "n").fail()
        assert await get(Number, "n").add(0) == 6
        await get(Words, "w").count("a", 1)
        assert await get(Words, "w").count("b", 2) == {"a": [1], "b": [2]}
        assert await get(Queue, "q").push("x") == ["x"]
        assert await get(Maybe, "m").set(Profile("x")) is None
        assert await get(Stateless, "s").state_of() == "None"
        await cluster.kill(cluster.runners[0])

        assert await get(Number, "n").add(1) == 7
        assert await get(Words, "w").count("a", 3) == {"a": [1, 3], "b": [2]}
        assert await get(Queue, "q").push("y") == ["x", "y"]
        assert await get(Maybe, "m").set(None) == Profile("x")
        assert await get(Maybe, "m").set(None) is None


async def test_values_of_all_types_cross_the_wire_and_rest_unchanged(actor_cluster: ActorCluster) -> None:
    """Dates, sets, enums, named tuples, ids, bytes, and what is nested."""
    profile = Profile(
        "n",
        datetime(2026, 1, 2, 3, 4, 5, 678, UTC),
        {Colour.RED, Colour.BLUE},
        [Point(1, 2), Point(-3, 4)],
        timedelta(days=-1, microseconds=7),
        {UUID(int=7): b"\0\xff"},
        Profile("inner"),
    )
    async with actor_cluster(system) as cluster:
        person = cluster.client.get(Person, "p")
        await person.fill(profile)
        assert await person.profile() == profile
        await cluster.handoff(person)

        assert await person.profile() == profile
        assert cluster.state(person) == profile


async def test_messages_are_inherited_and_may_be_overridden(actor_cluster: ActorCluster) -> None:
    """super() works as in any class, in the same turn."""
    async with actor_cluster(system) as cluster:
        person = cluster.client.get(Person, "p")

        assert await person.rename("x") == "base x"
        assert await person.overridden(1) == "person 1, base 2"
        assert (await person.profile()).name == "x"


async def test_an_actor_may_tell_itself_and_go_on_for_as_long_as_it_likes(actor_cluster: ActorCluster) -> None:
    """Each step is a turn of its own, durable, with others in between."""
    async with actor_cluster(system) as cluster:
        selfish = cluster.client.get(Selfish, "a")
        await selfish.step.tell(50)
        await cluster.settled()

        assert ran == [f"step {n}" for n in range(50, -1, -1)]
        assert await selfish.notes() == [str(n) for n in range(50, -1, -1)]


async def test_on_self_a_call_is_this_turn_and_a_tell_is_another(actor_cluster: ActorCluster) -> None:
    """In their order, the delayed one last."""
    async with actor_cluster(system) as cluster:
        await cluster.client.get(Selfish, "a").later("later")
        await cluster.settled()
        assert ran == ["in this turn", "at once", "after that"]

        await cluster.advance(6.0)
        assert ran[-1] == "later"


async def test_ten_thousand_asks_at_once_are_all_answered(actor_cluster: ActorCluster) -> None:
    """From one client, at a hundred actors."""
    async with actor_cluster(system) as cluster:
        results = await asyncio.gather(*[cluster.client.get(Number, str(n % 100)).add(1) for n in range(10_000)])

        assert sorted(results) == sorted(list(range(1, 101)) * 100)
        assert cluster.client.calls.pending == 0


async def test_tells_of_many_turns_to_one_actor_keep_each_senders_order(actor_cluster: ActorCluster) -> None:
    """However the turns of different senders mix."""
    other = ActorSystem("kinds")

    @other.actor
    class Sender(Actor[None]):
        @message
        async def burst(self, to: str, start: int) -> None:
            for number in range(start, start + 5):
                await self.client.get(Sink, to).take.tell(self.key, number)

    @other.actor
    class Sink(Actor[dict[str, list[int]]]):
        @message
        async def take(self, sender: str, number: int) -> None:
            self.state.setdefault(sender, []).append(number)

    async with actor_cluster(other, runners=3) as cluster:
        for start in range(0, 50, 5):
            await cluster.client.send(*[cluster.client.get(Sender, str(n)).burst.message("sink", start) for n in range(10)])
        await cluster.settled()

        assert cluster.state(cluster.client.get(Sink, "sink")) == {str(n): list(range(50)) for n in range(10)}


async def test_one_application_may_have_several_systems_on_one_redis(actor_cluster: ActorCluster) -> None:
    """The name is the prefix of every key, so that they share nothing else."""
    first, second = ActorSystem("first"), ActorSystem("second")
    for each in (first, second):
        each.actor(Number)
    async with actor_cluster(first, runners=1) as cluster:
        loop: Any = asyncio.get_running_loop()
        server = cluster.server.for_owner("second")
        settings = Settings(shards=4)
        runner = second.build_runner(server, name="second", settings=settings, clock=loop.clock)
        client: Client = second.build_client(server, settings=settings, clock=loop.clock)
        async with runner, client:
            assert await client.get(Number, "a").add(5) == 5
            assert await cluster.client.get(Number, "a").add(7) == 7
            assert await client.get(Number, "a").add(1) == 6


def held(cluster: TestCluster) -> int:
    """Messages in the runners' memory."""
    return sum(cluster.runner(name).statistics().queued for name in cluster.runners)


async def test_memory_holds_a_bounded_number_of_one_actors_messages(actor_cluster: ActorCluster) -> None:
    """The others wait in Redis, in their order."""
    other = ActorSystem("kinds")
    taken: deque[int] = deque()

    @other.actor(mailbox_capacity=20)
    class Slow(Actor[None]):
        @message
        async def take(self, number: int) -> None:
            await asyncio.sleep(0.01)
            taken.append(number)

    async with actor_cluster(other, runners=1) as cluster:
        slow = cluster.client.get(Slow, "a")
        for start in range(0, 1000, 250):
            await cluster.client.send(*[slow.take.message(n) for n in range(start, start + 250)])
        most = 0
        while len(taken) < 1000:
            await cluster.advance(0.05)
            most = max(most, held(cluster))

        assert list(taken) == list(range(1000))
        assert most <= 21
