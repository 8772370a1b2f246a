"""Messages that nobody here knows, and bytes that are no messages: they get an end, and those behind them go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import MalformedMessage, UnknownActorType, UnknownMessage
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem
from actors.telemetry import events
from actors.testing.clock import VirtualClock
from actors.wire.envelope import Envelope, Extra, Kind, ReplyTo, encode
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.client import Client
    from actors.testing import ActorCluster, TestCluster

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


class Notes(msgspec.Struct):
    entries: list[str] = []


old = ActorSystem("strangers")
new = ActorSystem("strangers")


@old.actor(name="Known")
class KnownBefore(Actor[Notes]):
    @message
    async def note(self, text: str) -> int:
        ran.append(text)
        self.state.entries.append(text)
        return len(self.state.entries)

    @message
    async def narrow(self, count: int) -> int:
        return count


@new.actor
class Known(Actor[Notes]):
    @message
    async def note(self, text: str) -> int:
        ran.append(text)
        self.state.entries.append(text)
        return len(self.state.entries)

    @message
    async def added(self, text: str) -> int:
        ran.append(f"added {text}")
        self.state.entries.append(f"added {text}")
        return len(self.state.entries)

    @message
    async def narrow(self, count: str) -> str:
        return count


@new.actor
class Added(Actor[Notes]):
    @message
    async def note(self, text: str) -> int:
        ran.append(f"Added {text}")
        return 1


class Newer:
    """A client of newer code than the runners'."""

    def __init__(self, cluster: TestCluster) -> None:
        clock = VirtualClock(cluster.client.loop)
        self._client = new.build_client(cluster.server.for_owner("newer"), settings=cluster.settings, clock=clock)

    async def __aenter__(self) -> Client:
        return await self._client.__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(*exc)


# unknown types and methods


@pytest.mark.parametrize("what", ["type", "method"])
async def test_a_message_that_no_running_runner_knows_is_kept_and_run_when_one_joins_that_does(
    actor_cluster: ActorCluster, what: str
) -> None:
    """It is reported, holds up nobody, and is not lost."""
    async with actor_cluster(old, runners=1) as cluster, Newer(cluster) as client:
        target = client.get(Added, "a").note if what == "type" else client.get(Known, "a").added
        await target.tell("first")
        await target.tell("second")
        assert await client.get(Known, "a").note("behind") == 1
        await cluster.settled()
        parked = [told.event for told in cluster.events if isinstance(told.event, events.MessagesParked)]
        assert parked
        assert cluster.execute("XLEN", cluster.keys.parked) == 2
        assert cluster.dead_letters() == []

        await cluster.start("new", system=new)
        await cluster.stop("runner-1")
        await cluster.advance(1.0)
        await cluster.settled()
        prefix = "Added" if what == "type" else "added"
        assert ran == ["behind", f"{prefix} first", f"{prefix} second"]
        assert cluster.execute("XLEN", cluster.keys.parked) == 0


@pytest.mark.parametrize("what", ["type", "method"])
async def test_an_ask_that_no_running_runner_knows_waits_to_its_deadline(actor_cluster: ActorCluster, what: str) -> None:
    """And then says what nobody has, and what was perhaps meant."""
    async with actor_cluster(old, runners=1) as cluster, Newer(cluster) as client:
        target: Any = client.get(Added, "a").note if what == "type" else client.get(Known, "a").added
        began = cluster.time
        error = await outcome(target.options(timeout=2.0)("x"))

        assert cluster.time - began == pytest.approx(2.0, abs=0.1)
        if what == "type":
            assert isinstance(error, UnknownActorType)
            assert (error.actor_type, error.known) == ("Added", ["Known"])
        else:
            assert isinstance(error, UnknownMessage)
            assert (error.method, error.known) == ("added", ["narrow", "note"])


async def test_an_ask_is_answered_when_somebody_joins_in_time_who_knows_it(actor_cluster: ActorCluster) -> None:
    """The asker notices nothing but the wait."""
    async with actor_cluster(old, runners=1) as cluster, Newer(cluster) as client:
        asking = asyncio.create_task(client.get(Known, "a").added.options(timeout=60.0)("x"))
        await cluster.advance(2.0)
        await cluster.start("new", system=new)
        await cluster.stop("runner-1")

        assert await asking == 1


async def test_a_parked_message_nobody_comes_for_is_set_aside_after_a_day(actor_cluster: ActorCluster) -> None:
    """Or after however long the setting says."""
    async with actor_cluster(old, runners=1, settings=Settings(parked_ttl=300.0)) as cluster, Newer(cluster) as client:
        await client.get(Added, "a").note.tell("x")
        await cluster.advance(200.0)
        assert cluster.dead_letters() == []
        await cluster.advance(200.0)

        (letter,) = cluster.dead_letters()
        assert (letter.reason, letter.actor_type, letter.method) == ("unknown", "Added", "note")
        assert cluster.execute("XLEN", cluster.keys.parked) == 0


async def test_nothing_stays_in_a_runner_of_messages_it_does_not_know(actor_cluster: ActorCluster) -> None:
    """Not even the actors they were for."""
    async with actor_cluster(old, runners=1) as cluster, Newer(cluster) as client:
        await client.send(*[client.get(Known, str(n)).added.message("x") for n in range(100)])
        await cluster.advance(5.0)

        assert cluster.runner("runner-1").statistics().resident == 0


async def test_arguments_that_another_version_sent_and_that_do_not_fit_are_a_typed_error(actor_cluster: ActorCluster) -> None:
    """Naming the field; the handler is not called, and a tell is set aside."""
    async with actor_cluster(old, runners=1) as cluster, Newer(cluster) as client:
        error = await outcome(client.get(Known, "a").narrow("many"))
        assert isinstance(error, MalformedMessage)
        assert (error.path, error.method, error.key) == ("$.count", "narrow", "a")
        await client.get(Known, "a").narrow.tell("many")
        await cluster.settled()

        assert [letter.reason for letter in cluster.dead_letters()] == ["malformed_message"]
        assert await client.get(Known, "a").note("x") == 1


# garbage


def garbage() -> dict[str, bytes]:
    good = Envelope(1, "Known", "a", "note", msgspec.Raw(msgspec.msgpack.encode({"text": "x"})), "id")
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    return {
        "nothing": b"",
        "text": b"hello world",
        "never used": b"\xc1\xc1\xc1",
        "nil": b"\xc0",
        "cut off": encode(good)[:-3],
        "more behind": encode(good) + b"\x01",
        "wrong version": encode(msgspec.structs.replace(good, version=99)),
        "wrong types": msgspec.msgpack.encode([1, 2, 3, 4, 5, 6]),
        "map": msgspec.msgpack.encode({"type": "Known"}),
        "too short": msgspec.msgpack.encode([1, "Known"]),
        "no key": msgspec.msgpack.encode([1, "Known", "", "note", {}, "id"]),
        "long key": msgspec.msgpack.encode([1, "Known", "x" * 2000, "note", {}, "id"]),
        "deep": msgspec.msgpack.encode([1, "Known", "a", "note", {"text": 1}, "id"])[:-1],
        "very deep": b"\x91" * 100_000,
        "unknown kind": msgspec.msgpack.encode([1, "Known", "a", "note", {}, "id", None, 0, [None, [], None, 77, 0]]),
    }


async def test_bytes_that_are_no_message_are_set_aside_and_those_behind_them_run(actor_cluster: ActorCluster) -> None:
    """Whatever they are; each with its reason."""
    async with actor_cluster(new, runners=1) as cluster:
        known = cluster.client.get(Known, "a")
        mailbox = cluster.keys.mailbox(cluster.shard_of(known).label)
        for raw in garbage().values():
            cluster.execute("XADD", mailbox, "*", "d", raw)
        cluster.execute("XADD", mailbox, "*", "other", "field")
        cluster.execute("XADD", mailbox, "*", "d", "two", "fields", "here")
        assert await known.note("behind") == 1
        await cluster.settled()

        letters = cluster.dead_letters()
        assert len(letters) == len(garbage()) + 2
        assert all(letter.reason in {"not_msgpack", "wrong_version", "wrong_shape", "too_deep"} for letter in letters), letters
        reasons = dict(zip(garbage(), (letter.reason for letter in letters), strict=False))
        assert reasons["wrong version"] == "wrong_version"
        assert reasons["very deep"] == "too_deep"
        assert reasons["never used"] == "not_msgpack"
        assert cluster.client.dead_letters is not None
        assert [letter async for letter in cluster.client.dead_letters.list(limit=3)]


async def test_garbage_in_an_actors_backlog_is_set_aside_too(actor_cluster: ActorCluster) -> None:
    """A page of it is read like the stream."""
    async with actor_cluster(new, runners=1) as cluster:
        known = cluster.client.get(Known, "a")
        label = cluster.shard_of(known).label
        backlog = cluster.keys.backlog(label, "Known", "a")
        await known.note("first")
        await cluster.kill("runner-1")
        for number, raw in enumerate([b"hello", *garbage().values()]):
            cluster.execute("XADD", backlog, f"1-{number + 1}", "d", raw or b"-")
        cluster.execute("XADD", backlog, "2-1", "d", encode(Envelope(1, "Known", "a", "note", msgspec.Raw(b"\x81\xa4text\xa1y"), "id")))
        cluster.execute("XADD", backlog, "2-2", "d", encode(Envelope(1, "Known", "a", "gone", msgspec.Raw(b"\x80"), "id")))
        cluster.execute("HSET", cluster.keys.held(label), "Known:a", "0 0")
        cluster.execute("HSET", cluster.keys.backlogs, label, len(garbage()) + 3)
        await cluster.start()
        await cluster.settled()

        assert ran == ["first", "y"]
        assert len(cluster.dead_letters()) >= len(garbage())
        assert cluster.execute("XLEN", cluster.keys.parked) == 1
        assert cluster.execute("EXISTS", backlog, cluster.keys.held(label)) == 0


async def test_words_for_a_runner_that_mean_nothing_are_passed_over(actor_cluster: ActorCluster) -> None:
    """Cancellations of what is long gone, credit for no stream, nudges for no reason."""
    async with actor_cluster(new, runners=1) as cluster:
        known = cluster.client.get(Known, "a")
        mailbox = cluster.keys.mailbox(cluster.shard_of(known).label)
        await known.note("first")
        for kind in (Kind.CANCEL, Kind.NUDGE, Kind.CREDIT):
            for args in (b"\x80", b"\x01", b"\xc0", b"\xa1x"):
                envelope = Envelope(1, "Known", "a", "note", msgspec.Raw(args), "nobody", extra=Extra(kind=kind))
                cluster.execute("XADD", mailbox, "*", "d", encode(envelope))
        assert await known.note("behind") == 2
        await cluster.settled()

        assert cluster.dead_letters() == []


async def test_an_answer_for_nobody_does_no_harm(actor_cluster: ActorCluster) -> None:
    """To an inbox that is gone, or a call that never was; the inbox is not made anew."""
    async with actor_cluster(new, runners=1) as cluster:
        known = cluster.client.get(Known, "a")
        mailbox = cluster.keys.mailbox(cluster.shard_of(known).label)
        for inbox, call in (("0123456789abcdef", 1), (cluster.client.inbox.client, 10**9)):
            args = msgspec.Raw(msgspec.msgpack.encode({"text": "x"}))
            cluster.execute("XADD", mailbox, "*", "d", encode(Envelope(1, "Known", "a", "note", args, "id", ReplyTo(inbox, call), 60_000)))
        assert await known.note("behind") == 3

        assert cluster.execute("EXISTS", cluster.keys.inbox("0123456789abcdef")) == 0
