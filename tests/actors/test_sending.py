"""What clients send: tells and batches, under idempotency keys, later, to the full, and with refs inside."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from actors.actor import Actor
from actors.context import current_client
from actors.errors import (
    DomainError,
    IdempotencyConflict,
    MailboxFull,
    PartialSend,
    PayloadTooLarge,
    RemoteError,
)
from actors.message import Outgoing, Receipt, message
from actors.settings import Settings
from actors.system import ActorSystem
from actors.testing.clock import EPOCH
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster, TestCluster

system = ActorSystem("sending")
ran: list[str] = []
times: list[float] = []
gates: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    times.clear()
    gates.clear()


class Refused(DomainError):
    pass


class Notes(msgspec.Struct):
    entries: list[str] = []


class Friends(msgspec.Struct):
    best: Writer | None = None
    others: dict[str, Writer] = {}


class Letter(msgspec.Struct):
    to: Writer
    text: str


@system.actor
class Writer(Actor[Notes]):
    @message
    async def note(self, text: str) -> int:
        ran.append(text)
        self.state.entries.append(text)
        return len(self.state.entries)

    @message
    async def slow_note(self, text: str, seconds: float) -> int:
        await asyncio.sleep(seconds)
        ran.append(text)
        self.state.entries.append(text)
        return len(self.state.entries)

    @message
    async def refuse(self, text: str) -> None:
        ran.append(text)
        raise Refused(text)

    @message
    async def fail(self, text: str) -> None:
        ran.append(text)
        raise ValueError("a defect")

    @message
    async def when(self) -> None:
        times.append(asyncio.get_running_loop().time())

    @message
    async def tell_later(self, key: str, seconds: float) -> None:
        other = self.client.get(Writer, key)
        await other.when.options(after=seconds).tell()
        await other.note.options(after=timedelta(seconds=seconds)).tell("later")
        await self.client.send(other.note.options(after=seconds).message("later too"))

    @message
    async def tell_later_and_refuse(self, key: str) -> None:
        await self.client.get(Writer, key).note.options(after=1.0).tell("never")
        raise Refused

    @message
    async def tell_once(self, key: str, text: str) -> bool:
        receipt = await self.client.get(Writer, key).note.options(idempotency_key="k").tell(text)
        return receipt.duplicate

    @message
    async def deliver(self, letter: Letter, copies: list[Writer]) -> Writer:
        """Refs in arguments, and one in the reply."""
        await letter.to.note(letter.text)
        for copy in copies:
            await copy.note.tell(f"copy of {letter.text}")
        return letter.to

    @message
    async def introduce(self) -> Writer:
        """A live actor is a ref to itself on the wire."""
        return self

    @message
    async def first_then_told(self, key: str) -> str:
        """Asks its own client, and one that belongs to nobody's turn."""
        client = current_client()
        assert client is not None
        await client.get(Writer, key).note("asked")
        return client.get(Writer, key).key


@system.actor
class Friendly(Actor[Friends]):
    @message
    async def meet(self, friend: Writer) -> None:
        self.state.best = friend
        self.state.others[friend.key] = friend

    @message
    async def write(self, text: str) -> int:
        assert self.state.best is not None
        for friend in self.state.others.values():
            await friend.note.tell(text)
        return await self.state.best.note(text + "!")

    @message
    async def best(self) -> Writer | None:
        return self.state.best


def entries(cluster: TestCluster, key: str) -> list[str]:
    return cluster.state(cluster.client.get(Writer, key)).entries


# tells


async def test_a_tell_is_durable_once_it_returns(actor_cluster: ActorCluster) -> None:
    """It survives the death of its sender and of every runner, and runs once."""
    async with actor_cluster(system, runners=1) as cluster:
        async with cluster.connect("sender") as sender:
            await cluster.kill("runner-1")
            receipt = await sender.get(Writer, "a").note.tell("x")
            assert receipt == Receipt(receipt.message_id, duplicate=False)
        await cluster.start()
        await cluster.settled()

        assert entries(cluster, "a") == ["x"]
        assert ran == ["x"]


async def test_tells_and_asks_of_one_client_to_one_actor_keep_one_order(actor_cluster: ActorCluster) -> None:
    """However they are mixed."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        waiting: list[asyncio.Task[Any]] = []
        for number in range(60):
            asked = writer.note(str(number)) if number % 3 == 0 else writer.note.tell(str(number))
            waiting.append(asyncio.create_task(asked))
            if number % 7 == 0:
                await cluster.advance(0.001)
        await asyncio.gather(*waiting)
        await cluster.settled()

        assert entries(cluster, "a") == [str(number) for number in range(60)]


async def test_a_batch_is_stored_in_its_order_by_one_call(actor_cluster: ActorCluster) -> None:
    """Receipts come in the order of the messages."""
    async with actor_cluster(system) as cluster:
        before = cluster.client.sender.statistics().batches
        messages = [cluster.client.get(Writer, "ab"[n % 2]).note.message(str(n)) for n in range(100)]
        receipts = await cluster.client.send(*messages)
        await cluster.settled()

        assert cluster.client.sender.statistics().batches == before + 1
        assert [receipt.message_id for receipt in receipts] == sorted(receipt.message_id for receipt in receipts)
        assert entries(cluster, "a") == [str(n) for n in range(0, 100, 2)]
        assert entries(cluster, "b") == [str(n) for n in range(1, 100, 2)]
        assert await cluster.client.send() == []


async def test_a_message_may_be_kept_compared_and_sent_again(actor_cluster: ActorCluster) -> None:
    """It is a value: what it was made of does not change with its arguments."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        first, second = writer.note.message("x"), writer.note.message(text="x")
        assert isinstance(first, Outgoing)
        assert first == second
        assert len({first, second, writer.note.message("y")}) == 2
        await cluster.client.send(first, first, second)
        await cluster.settled()

        assert entries(cluster, "a") == ["x", "x", "x"]


async def test_a_batch_of_which_some_are_refused_says_which(actor_cluster: ActorCluster) -> None:
    """In order, a receipt or an error each; a refused one among them stops no other."""
    async with actor_cluster(system, settings=Settings(max_payload=1000)) as cluster:
        writer = cluster.client.get(Writer, "a")
        with pytest.raises(PartialSend) as partial:
            await cluster.client.send(writer.note.message("1"), writer.note.message("x" * 2000), writer.note.message("3"))
        await cluster.settled()

        assert [type(result) for result in partial.value.results] == [Receipt, PayloadTooLarge, Receipt]
        assert entries(cluster, "a") == ["1", "3"]
        with pytest.raises(PayloadTooLarge):
            await cluster.client.send(writer.note.message("x" * 2000), writer.note.message("y" * 2000))


async def test_a_tell_that_fails_with_a_domain_error_is_over(actor_cluster: ActorCluster) -> None:
    """Nobody waits for it, and trying again would not help."""
    async with actor_cluster(system) as cluster:
        await cluster.client.get(Writer, "a").refuse.tell("x")
        await cluster.settled()

        assert ran == ["x"]
        assert cluster.dead_letters() == []


# idempotency keys


async def test_one_key_is_one_execution_and_one_reply(actor_cluster: ActorCluster) -> None:
    """For asks, tells and both, from several clients, at the same time and after."""
    async with actor_cluster(system) as cluster, cluster.connect() as other:
        notes = [client.get(Writer, "a").slow_note.options(idempotency_key="k") for client in (cluster.client, other)]
        results = await asyncio.gather(*[note("x", 0.5) for note in notes * 5])
        receipts = [await note.tell("x", 0.5) for note in notes]
        later = [await note("x", 0.5) for note in notes]

        assert list(results) == [1] * 10
        assert later == [1, 1]
        assert [receipt.duplicate for receipt in receipts] == [True, True]
        assert ran == ["x"]


async def test_a_key_holds_for_its_actor_only(actor_cluster: ActorCluster) -> None:
    """Others may use the same."""
    async with actor_cluster(system) as cluster:
        for key in ("a", "b"):
            assert await cluster.client.get(Writer, key).note.options(idempotency_key="k")("x") == 1
        assert ran == ["x", "x"]


async def test_a_key_used_for_something_else_is_a_conflict(actor_cluster: ActorCluster) -> None:
    """Other arguments, or another method: what was done under it stands."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        assert await writer.note.options(idempotency_key="k")("x") == 1
        with pytest.raises(IdempotencyConflict) as conflict:
            await writer.note.options(idempotency_key="k")("y")
        assert conflict.value.idempotency_key == "k"
        with pytest.raises(IdempotencyConflict):
            await writer.slow_note.options(idempotency_key="k").tell("x", 0.0)

        assert ran == ["x"]


async def test_a_domain_error_is_remembered_under_its_key(actor_cluster: ActorCluster) -> None:
    """It is the outcome."""
    async with actor_cluster(system) as cluster:
        refuse = cluster.client.get(Writer, "a").refuse.options(idempotency_key="k")
        for _ in range(2):
            with pytest.raises(Refused, match="x"):
                await refuse("x")

        assert ran == ["x"]


@pytest.mark.parametrize("end", ["expired", "dead"])
async def test_a_key_is_free_again_when_nothing_was_done_under_it(actor_cluster: ActorCluster, end: str) -> None:
    """Its message expired, or was dead-lettered; whoever waited is told."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        if end == "dead":
            for attempt in (1, 2):
                with pytest.raises(RemoteError):
                    await writer.fail.options(idempotency_key="k")("x")
                assert len(ran) == 5 * attempt
        else:
            blocking = asyncio.create_task(writer.slow_note("first", 2.0))
            await cluster.advance(0.1)
            assert isinstance(await outcome(writer.note.options(idempotency_key="k", timeout=1.0)("x")), Exception)
            await blocking
            assert await writer.note.options(idempotency_key="k")("x") == 2
            assert ran == ["first", "x"]


async def test_a_keys_memory_ends_its_time_after_completion(actor_cluster: ActorCluster) -> None:
    """Then the same call is a new one; and nothing of the old is left."""
    async with actor_cluster(system, settings=Settings(idempotency_ttl=100.0)) as cluster:
        note = cluster.client.get(Writer, "a").note.options(idempotency_key="k")
        assert await note("x") == 1
        await cluster.advance(90.0)
        assert await note("x") == 1
        await cluster.advance(20.0)
        assert cluster.execute("KEYS", f"{cluster.keys.tag}:k:*") == []

        assert await note("x") == 2


async def test_a_key_holds_across_runners(actor_cluster: ActorCluster) -> None:
    """The outcome is in Redis."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        assert await writer.note.options(idempotency_key="k")("x") == 1
        await cluster.kill(cluster.owner_of(writer))

        assert await writer.note.options(idempotency_key="k")("x") == 1
        assert ran == ["x"]


async def test_a_tell_of_a_turn_may_have_a_key(actor_cluster: ActorCluster) -> None:
    """Whether it is a duplicate is known at the commit only; one with another payload is set aside."""
    async with actor_cluster(system) as cluster:
        sender = cluster.client.get(Writer, "sender")
        assert [await sender.tell_once("a", "x"), await sender.tell_once("a", "x")] == [False, False]
        await cluster.settled()
        assert entries(cluster, "a") == ["x"]

        await sender.tell_once("a", "y")
        await cluster.settled()
        assert entries(cluster, "a") == ["x"]
        assert [letter.reason for letter in cluster.dead_letters()] == ["idempotency_conflict"]


# later


@pytest.mark.parametrize("ms", [1, 7, 250, 1000, 60_003])
async def test_a_delayed_tell_arrives_to_the_millisecond(actor_cluster: ActorCluster, ms: int) -> None:
    """Not before, and hardly after."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        sent = cluster.client.loop.time()
        await writer.when.options(after=ms / 1000).tell()
        await cluster.advance(ms / 1000 + 1.0)

        (at,) = times
        assert ms - 0.01 <= (at - sent) * 1000 <= ms + 2


async def test_a_tell_for_a_moment_arrives_then(actor_cluster: ActorCluster) -> None:
    """In whatever time zone it is given; one in the past arrives at once."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        now = cluster.client.loop.time()
        for zone in (UTC, datetime.now(UTC).astimezone().tzinfo):
            times.clear()
            at = datetime.fromtimestamp(EPOCH + now + 90.123, zone)
            await writer.when.options(at=at).tell()
        await writer.when.options(at=datetime.fromtimestamp(EPOCH - 100.0, UTC)).tell()
        await cluster.advance(0.5)
        assert len(times) == 1
        await cluster.advance(91.0)

        assert [round(time - now, 2) for time in times[1:]] == [90.12, 90.12]
        with pytest.raises(ValueError, match="time zone"):
            writer.when.options(at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point
        with pytest.raises(TypeError, match="not both"):
            writer.when.options(at=datetime.now(UTC), after=1.0)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


async def test_delayed_tells_arrive_in_the_order_in_which_they_are_due(actor_cluster: ActorCluster) -> None:
    """Whatever the order in which they were sent."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        for seconds in (5.0, 1.0, 3.0, 2.0, 4.0):
            await writer.note.options(after=seconds).tell(str(seconds))
        await writer.note("now")
        await cluster.advance(2.5)
        assert ran == ["now", "1.0", "2.0"]
        await cluster.advance(5.0)
        assert ran == ["now", "1.0", "2.0", "3.0", "4.0", "5.0"]


async def test_a_delayed_tell_survives_its_shards_owner(actor_cluster: ActorCluster) -> None:
    """It is due at the next one, or already overdue when that comes up; once."""
    async with actor_cluster(system) as cluster:
        writer = cluster.client.get(Writer, "a")
        await writer.note.options(after=5.0).tell("soon")
        await writer.note.options(after=60.0).tell("later")
        await cluster.kill(cluster.owner_of(writer))
        await cluster.advance(30.0)
        assert ran == ["soon"]
        await cluster.start()
        await cluster.advance(60.0)

        assert ran == ["soon", "later"]


async def test_a_delayed_tell_of_a_turn_leaves_with_its_commit(actor_cluster: ActorCluster) -> None:
    """Counted from there; not at all if the turn fails."""
    async with actor_cluster(system) as cluster:
        sent = cluster.client.loop.time()
        await cluster.client.get(Writer, "a").tell_later("b", 2.0)
        assert isinstance(await outcome(cluster.client.get(Writer, "a").tell_later_and_refuse("b")), Refused)
        await cluster.advance(1.9)
        assert ran == []
        await cluster.advance(1.0)

        assert sorted(ran) == ["later", "later too"]
        assert [round(time - sent, 2) for time in times] == [2.0]


async def test_many_delayed_tells_cost_nothing_while_they_wait(actor_cluster: ActorCluster) -> None:
    """Commands are not sent for them."""
    async with actor_cluster(system, runners=1) as cluster:
        runner = cluster.runner("runner-1")
        await cluster.advance(60.0)
        begun = runner.statistics().redis_commands
        await cluster.advance(60.0)
        idle = runner.statistics().redis_commands - begun
        writers = [cluster.client.get(Writer, str(n % 100)) for n in range(2000)]
        await cluster.client.send(*[writer.note.options(after=3600.0 + n).message(str(n)) for n, writer in enumerate(writers)])
        await cluster.advance(10.0)
        begun = runner.statistics().redis_commands
        await cluster.advance(60.0)

        assert runner.statistics().redis_commands - begun <= idle + 2


async def test_a_delayed_message_can_only_be_told(actor_cluster: ActorCluster) -> None:
    """An ask would wait for it."""
    async with actor_cluster(system, runners=0) as cluster:
        delayed: Any = cluster.client.get(Writer, "a").note.options(after=1.0)

        with pytest.raises(TypeError):
            await delayed("x")
        assert delayed.options(headers={"a": "b"}).message("x").options.headers == {"a": "b"}


# full


async def test_a_full_backlog_refuses_clients_at_once_with_limit_and_depth(actor_cluster: ActorCluster) -> None:
    """And takes them again when it has drained; other actors are not concerned."""
    async with actor_cluster(system, settings=Settings(mailbox_capacity=5, backlog_capacity=20)) as cluster:
        writer = cluster.client.get(Writer, "a")
        await writer.slow_note.tell("slow", 5.0)
        refused: list[MailboxFull] = []
        for number in range(60):
            error = await outcome(writer.note.tell(str(number)))
            if isinstance(error, MailboxFull):
                refused.append(error)
            await cluster.advance(0.01)
        assert refused
        assert {(error.scope, error.limit, error.key) for error in refused} == {("actor", 20, "a")}
        assert all(error.depth >= 20 for error in refused)
        assert await cluster.client.get(Writer, "b").note("x") == 1
        with pytest.raises(MailboxFull):
            await writer.note("ask")

        await cluster.settled()
        assert await writer.note("after") == 60 - len(refused) + 2
        assert entries(cluster, "a")[0] == "slow"


async def test_a_full_shard_refuses_clients_at_once_with_limit_and_depth(actor_cluster: ActorCluster) -> None:
    """Here nobody is there to drain it; when somebody is, sends work again."""
    async with actor_cluster(system, runners=1, settings=Settings(shard_capacity=30)) as cluster:
        writer = cluster.client.get(Writer, "a")
        await writer.note("first")
        await cluster.kill("runner-1")
        results = [await outcome(writer.note.tell(str(n))) for n in range(40)]
        refused = [result for result in results if isinstance(result, MailboxFull)]
        assert len(refused) == 10
        assert {(error.scope, error.limit, error.shard) for error in refused} == {("shard", 30, cluster.shard_of(writer).label)}
        with pytest.raises(PartialSend) as partial:
            others = [cluster.client.get(Writer, str(n)) for n in range(50)]
            await cluster.client.send(*[other.note.message("x") for other in others], writer.note.message("x"))
        assert isinstance(partial.value.results[-1], MailboxFull)

        await cluster.start()
        await cluster.settled()
        assert await writer.note("after") == 32


# refs


async def test_refs_travel_in_arguments_replies_and_state(actor_cluster: ActorCluster) -> None:
    """One that came in a message sends as part of the turn that uses it; one from a reply through whoever asked."""
    async with actor_cluster(system) as cluster:
        get = cluster.client.get
        returned = await get(Writer, "a").deliver(Letter(get(Writer, "b"), "hello"), [get(Writer, "c"), get(Writer, "d")])
        assert isinstance(returned, Writer)
        assert (returned, returned.key) == (get(Writer, "b"), "b")
        assert await returned.note("again") == 2
        await cluster.settled()
        assert [entries(cluster, key) for key in "bcd"] == [["hello", "again"], ["copy of hello"], ["copy of hello"]]

        friendly = get(Friendly, "f")
        await friendly.meet(get(Writer, "b"))
        await friendly.meet(get(Writer, "c"))
        await cluster.handoff(friendly)
        assert await friendly.write("hi") >= 2
        best = await friendly.best()
        assert best is not None
        assert await best.note("last") >= 3
        assert (await get(Writer, "x").introduce()).key == "x"


async def test_a_ref_of_the_wrong_type_is_refused_at_the_caller(actor_cluster: ActorCluster) -> None:
    """By its type's name."""
    async with actor_cluster(system, runners=0) as cluster:
        friendly: Any = cluster.client.get(Friendly, "f")

        with pytest.raises(Exception, match="Friendly where Writer"):
            await friendly.meet(friendly)


# embedded


async def test_a_runners_own_client_serves_the_code_beside_its_actors(actor_cluster: ActorCluster) -> None:
    """A web process that is a runner too needs no second one."""
    async with actor_cluster(system) as cluster:
        client = cluster.runner(cluster.runners[0]).client
        assert await client.get(Writer, "a").note("x") == 1
        receipts = await client.send(client.get(Writer, "a").note.message("y"))
        assert len(receipts) == 1
        assert await client.get(Writer, "a").note("z") == 3
        assert await client.get(Writer, "a").first_then_told("b") == "b"
        assert entries(cluster, "b") == ["asked"]
