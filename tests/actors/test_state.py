"""Stored state: how it is cleared, how it expires, and how it outlives its code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import ActivationFailed, DomainError
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem
from actors.telemetry import events
from actors.testing.clock import VirtualClock
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("state")
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _forget() -> None:
    broken.clear()


class Refused(DomainError):
    pass


class Cart(msgspec.Struct):
    items: list[str] = []


@system.actor
class Basket(Actor[Cart]):
    @message
    async def add(self, item: str) -> list[str]:
        self.state.items.append(item)
        return self.state.items

    @message(read_only=True)
    async def items(self) -> list[str]:
        return self.state.items

    @message
    async def empty(self) -> list[str]:
        self.clear()
        return self.state.items

    @message
    async def empty_and_add(self, item: str) -> list[str]:
        self.clear()
        self.state.items.append(item)
        return self.state.items

    @message
    async def empty_and_refuse(self) -> None:
        self.clear()
        raise Refused

    @message
    async def empty_and_stumble(self) -> None:
        self.clear()
        if "stumble" in broken:
            broken.discard("stumble")
            raise ValueError("a defect")

    @message
    async def empty_and_leave(self) -> None:
        self.clear()
        self.deactivate()


@system.actor(state_ttl=60.0)
class Session(Actor[Cart]):
    @message
    async def add(self, item: str) -> list[str]:
        self.state.items.append(item)
        return self.state.items

    @message(read_only=True)
    async def items(self) -> list[str]:
        return self.state.items

    @message
    async def stay(self) -> None:
        self.keep_alive(True)

    @message
    async def drop(self) -> None:
        self.clear()


# clear()


async def test_clear_deletes_the_state_with_its_turns_commit(actor_cluster: ActorCluster) -> None:
    """Nothing is stored any more, and the actor starts afresh at once."""
    async with actor_cluster(system) as cluster:
        basket = cluster.client.get(Basket, "a")
        await basket.add("pen")
        assert cluster.is_stored(basket)
        assert await basket.empty() == []

        assert not cluster.is_stored(basket)
        assert await basket.add("ink") == ["ink"]
        assert cluster.state(basket).items == ["ink"]


async def test_what_a_turn_writes_after_clear_is_the_new_state(actor_cluster: ActorCluster) -> None:
    """It cleared the old one, not what came after."""
    async with actor_cluster(system) as cluster:
        basket = cluster.client.get(Basket, "a")
        await basket.add("pen")
        assert await basket.empty_and_add("ink") == ["ink"]

        assert cluster.state(basket).items == ["ink"]
        assert await basket.items() == ["ink"]


async def test_a_turn_that_fails_has_cleared_nothing(actor_cluster: ActorCluster) -> None:
    """Neither after a domain error, nor before the attempt that succeeds."""
    async with actor_cluster(system) as cluster:
        basket = cluster.client.get(Basket, "a")
        await basket.add("pen")
        with pytest.raises(Refused):
            await basket.empty_and_refuse()
        assert cluster.state(basket).items == ["pen"]
        assert await basket.add("ink") == ["pen", "ink"]

        broken.add("stumble")
        clearing = asyncio.create_task(basket.empty_and_stumble())
        await cluster.advance(0.02)
        assert cluster.state(basket).items == ["pen", "ink"]
        await clearing
        assert not cluster.is_stored(basket)


async def test_a_cleared_actor_that_leaves_keeps_nothing(actor_cluster: ActorCluster) -> None:
    """Here nor in Redis."""
    async with actor_cluster(system) as cluster:
        basket = cluster.client.get(Basket, "a")
        before = set(cluster.execute("KEYS", "*"))
        await basket.add("pen")
        await basket.empty_and_leave()
        await cluster.settled()

        assert {key for key in set(cluster.execute("KEYS", "*")) - before if b":s:" in key} == set()
        assert await basket.items() == []


async def test_clearing_twice_and_clearing_nothing_are_no_errors(actor_cluster: ActorCluster) -> None:
    """The outcome is the same."""
    async with actor_cluster(system) as cluster:
        basket = cluster.client.get(Basket, "a")

        assert [await basket.empty(), await basket.empty()] == [[], []]
        assert not cluster.is_stored(basket)


# state_ttl


async def test_a_state_is_gone_its_ttl_after_its_last_change(actor_cluster: ActorCluster) -> None:
    """In Redis, and at the actor."""
    async with actor_cluster(system) as cluster:
        session = cluster.client.get(Session, "a")
        await session.add("pen")
        await cluster.advance(40.0)
        await session.add("ink")
        await cluster.advance(40.0)
        assert await session.items() == ["pen", "ink"]

        await cluster.advance(25.0)
        assert not cluster.is_stored(session)
        assert await session.items() == []


async def test_reading_does_not_keep_a_state_from_expiring(actor_cluster: ActorCluster) -> None:
    """The actor stays in memory through it, and still what it shows is gone in time."""
    async with actor_cluster(system) as cluster:
        session = cluster.client.get(Session, "a")
        await session.stay()
        await session.add("pen")
        for _ in range(11):
            await cluster.advance(5.0)
            assert await session.items() == ["pen"]
        await cluster.advance(6.0)

        assert await session.items() == []
        assert await session.add("ink") == ["ink"]
        assert cluster.state(session).items == ["ink"]


async def test_an_expired_state_does_not_come_back_with_the_next_change(actor_cluster: ActorCluster) -> None:
    """A turn that starts after the expiry starts from nothing, though the actor was resident all the time."""
    async with actor_cluster(system) as cluster:
        session = cluster.client.get(Session, "a")
        await session.stay()
        await session.add("pen")
        await cluster.advance(61.0)

        assert await session.add("ink") == ["ink"]
        assert cluster.state(session).items == ["ink"]


async def test_the_time_left_holds_across_activations(actor_cluster: ActorCluster) -> None:
    """The next owner does not start the time anew by loading the state."""
    async with actor_cluster(system) as cluster:
        session = cluster.client.get(Session, "a")
        await session.add("pen")
        await cluster.advance(40.0)
        await cluster.handoff(session)
        await session.stay()
        await cluster.advance(15.0)
        assert await session.items() == ["pen"]
        await cluster.advance(6.0)

        assert await session.items() == []


async def test_a_state_that_expires_can_be_cleared_before(actor_cluster: ActorCluster) -> None:
    """Both may be used by one type."""
    async with actor_cluster(system) as cluster:
        session = cluster.client.get(Session, "a")
        await session.add("pen")
        await session.drop()

        assert not cluster.is_stored(session)
        assert await session.items() == []


# versions


def versioned(version: int, state: type[Any], **extra: Any) -> tuple[ActorSystem, Any]:
    """Return a system with one version of an actor type."""
    code = ActorSystem("state")

    base: Any = Actor[state]  # type: ignore[valid-type] # a class made for each version

    class Doc(base):  # type: ignore[misc]
        state: Any

        @message
        async def append(self, text: str) -> str:
            self.state.text += text
            return str(self.state.text)

        @message(read_only=True)
        async def dump(self) -> str:
            return repr(self.state)

    for name, value in extra.items():
        setattr(Doc, name, value)
    code.actor(state_version=version)(Doc)
    return code, Doc


class V1(msgspec.Struct):
    text: str = ""


class V1More(msgspec.Struct):
    text: str = ""
    author: str = "nobody"
    tags: list[str] = []


class V2(msgspec.Struct):
    text: str = ""
    words: int = 0


async def test_old_code_keeps_the_fields_of_newer_code(actor_cluster: ActorCluster) -> None:
    """In a rolling deploy both run side by side, and an actor goes back and forth between them."""
    old, OldDoc = versioned(1, V1)  # noqa: N806 - a class
    new, NewDoc = versioned(1, V1More)  # noqa: N806
    async with actor_cluster(old, runners=0) as cluster:
        await cluster.start("new", system=new)
        clock = VirtualClock(cluster.client.loop)
        new_client = new.build_client(cluster.server.for_owner("newer"), settings=cluster.settings, clock=clock)
        async with new_client:
            doc = new_client.get(NewDoc, "a")
            await doc.append("hello")
            raw = cluster.execute("GET", cluster.keys.state("Doc", "a"))
            assert b"author" in raw
            assert b"nobody" in raw
            await cluster.start("old", system=old)
            await cluster.stop("new")

            old_doc = cluster.client.get(OldDoc, "a")
            assert await old_doc.append(" world") == "hello world"
            assert await old_doc.dump() == "V1(text='hello world')"
            await cluster.start("new again", system=new)
            await cluster.stop("old")
            assert await doc.dump() == "V1More(text='hello world', author='nobody', tags=[])"


async def test_an_older_state_goes_through_migrate(actor_cluster: ActorCluster) -> None:
    """With the version it was written at; it is stored in the new shape with the first change."""
    old, OldDoc = versioned(1, V1)  # noqa: N806
    seen: list[tuple[int, Any]] = []

    def migrate(cls: type[Any], version: int, raw: Any) -> V2:
        seen.append((version, raw))
        return V2(text=raw["text"], words=len(raw["text"].split()))

    new, NewDoc = versioned(2, V2, migrate=classmethod(migrate))  # noqa: N806
    async with actor_cluster(old, runners=1) as cluster:
        await cluster.client.get(OldDoc, "a").append("three little words")
        await cluster.start("new", system=new)
        await cluster.stop("runner-1")

        assert await cluster.client.get(NewDoc, "a").dump() == "V2(text='three little words', words=3)"
        assert seen == [(1, {"text": "three little words"})]
        await cluster.client.get(NewDoc, "a").append("!")
        await cluster.start("newer", system=new)
        await cluster.stop("new")
        assert await cluster.client.get(NewDoc, "a").dump() == "V2(text='three little words!', words=3)"
        assert len(seen) == 1


async def test_a_state_of_newer_code_is_neither_activated_nor_overwritten(actor_cluster: ActorCluster) -> None:
    """Asks fail at once saying so; tells wait for code that can read it."""
    old, OldDoc = versioned(1, V1)  # noqa: N806
    new, NewDoc = versioned(2, V2)  # noqa: N806
    async with actor_cluster(old, runners=0) as cluster:
        await cluster.start("new", system=new)
        await cluster.client.get(NewDoc, "a").append("new")
        raw = cluster.execute("GET", cluster.keys.state("Doc", "a"))
        await cluster.start("old", system=old)
        await cluster.stop("new")
        error = await outcome(cluster.client.get(OldDoc, "a").append("old"))
        assert isinstance(error, ActivationFailed)
        assert "newer code" in str(error)
        await cluster.client.get(OldDoc, "a").append.tell(" and told")
        await cluster.advance(120.0)
        assert cluster.execute("GET", cluster.keys.state("Doc", "a")) == raw
        assert cluster.dead_letters() == []
        looks = [told for told in cluster.events if isinstance(told.event, events.StateUnreadable)]
        assert len(looks) < 30

        await cluster.start("new again", system=new)
        await cluster.stop("old")
        await cluster.settled()
        assert await cluster.client.get(NewDoc, "a").dump() == "V2(text='new and told', words=0)"


async def test_a_migration_that_fails_leaves_the_state_alone(actor_cluster: ActorCluster) -> None:
    """It is told with its error, and the fixed code takes over from there."""
    old, OldDoc = versioned(1, V1)  # noqa: N806

    def migrate(cls: type[Any], version: int, raw: Any) -> V2:
        raise KeyError("no such field")

    new, NewDoc = versioned(2, V2, migrate=classmethod(migrate))  # noqa: N806
    async with actor_cluster(old, runners=1) as cluster:
        await cluster.client.get(OldDoc, "a").append("x")
        raw = cluster.execute("GET", cluster.keys.state("Doc", "a"))
        await cluster.start("new", system=new)
        await cluster.stop("runner-1")
        error = await outcome(cluster.client.get(NewDoc, "a").append("y"))

        assert isinstance(error, ActivationFailed)
        assert "no such field" in str(error)
        assert cluster.execute("GET", cluster.keys.state("Doc", "a")) == raw


async def test_an_unchanged_state_is_not_written_again(actor_cluster: ActorCluster) -> None:
    """A turn that only looks, or puts back what was there, costs no write."""
    async with actor_cluster(system, settings=Settings()) as cluster:
        basket = cluster.client.get(Basket, "a")
        await basket.add("pen")
        cluster.execute("SET", cluster.keys.state("Basket", "a"), "marked")
        await basket.items()

        assert cluster.execute("GET", cluster.keys.state("Basket", "a")) == b"marked"
        cluster.execute("DEL", cluster.keys.state("Basket", "a"))
