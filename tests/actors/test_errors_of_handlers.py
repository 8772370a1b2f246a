"""What a caller gets when something goes wrong: the application's errors as they are, ours with their evidence."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import (
    ClusterError,
    DomainError,
    MailboxFull,
    MalformedMessage,
    PayloadTooLarge,
    PersistenceFailed,
    RemoteError,
    SerializationFailed,
)
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("errors")
runs: list[int] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    runs.clear()


class Item(msgspec.Struct):
    name: str
    price: int


@dataclass
class InsufficientFunds(DomainError):
    balance: int
    requested: int


@dataclass
class OutOfStock(InsufficientFunds):
    items: list[Item] = dataclasses.field(default_factory=list[Item])
    note: str | None = None


class Plain(DomainError):
    pass


@dataclass
class Unsendable(DomainError):
    what: Any


class Notes(msgspec.Struct):
    entries: list[str] = []


class Numbers(msgspec.Struct):
    value: int = 0


class Weird:
    """Has no encoding, and nothing about it works."""

    def __repr__(self) -> str:
        raise RuntimeError("not even this")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


@system.actor
class Shop(Actor[Notes]):
    @message
    async def buy(self, what: str) -> str:
        self.state.entries.append(what)
        await self.client.get(Shop, "log").note.tell(what)
        match what:
            case "funds":
                raise InsufficientFunds(balance=3, requested=10)
            case "stock":
                raise OutOfStock(1, 2, [Item("pen", 5)], note="soon")
            case "plain":
                raise Plain("no more", 7)
            case "group":
                raise ExceptionGroup("several", [InsufficientFunds(1, 2), ExceptionGroup("inner", [Plain("a"), Plain("b")])])
            case "mixed":
                raise ExceptionGroup("mixed", [InsufficientFunds(1, 2), ValueError("a defect")])
            case "unsendable":
                raise Unsendable(Weird())
            case "caused":
                try:
                    raise ValueError("below")
                except ValueError as error:
                    raise InsufficientFunds(0, 1) from error
            case "local":

                @dataclass
                class Local(DomainError):
                    detail: str

                # By the time its caller reads it, nobody is called that any more.
                Local.__qualname__ = "Elsewhere"
                asyncio.get_running_loop().call_soon(setattr, Local, "__qualname__", "Renamed")
                raise Local("only there")
            case "defect":
                runs.append(self.context.attempt)
                raise ValueError("a defect")
            case "unprintable":
                raise Unprintable
            case "cluster":
                raise MailboxFull(scope="actor", limit=1, depth=1)
            case "final":
                raise MalformedMessage(path="$.x", problem="of the application's own")
            case _:
                return what

    @message
    async def note(self, what: str) -> None:
        self.state.entries.append(what)

    @message
    async def ask_to_buy(self, key: str, what: str) -> str:
        return await self.client.get(Shop, key).buy(what)

    @message
    async def catch(self, key: str, what: str) -> str:
        try:
            await self.client.get(Shop, key).buy(what)
        except InsufficientFunds as error:
            return f"caught {type(error).__name__} {error.balance}"
        return "nothing"

    # values that do not fit

    @message
    async def give(self, kind: str) -> int:
        values: dict[str, Any] = {
            "text": "seven",
            "weird": Weird(),
            "none": None,
            "float": 7.5,
            "huge": 1 << 70,
            "bool": True,
            "fits": 7,
        }
        self.state.entries.append(kind)
        value: int = values[kind]
        return value

    @message
    async def give_list(self, kind: str) -> list[Item]:
        circle: list[Any] = []
        circle.append(circle)
        deep: list[Any] = []
        for _ in range(5000):
            deep = [deep]
        values: dict[str, Any] = {
            "dicts": [{"name": "pen", "price": 5}],
            "wrong field": [Item("pen", "five")],  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            "circle": circle,
            "deep": deep,
            "generator": (item for item in [Item("pen", 5)]),
            "lock": [asyncio.Lock()],
        }
        value: list[Item] = values[kind]
        return value

    @message
    async def give_large(self, size: int) -> str:
        self.state.entries.append("large")
        return "x" * size

    @message
    async def take(self, item: Item, count: int = 1) -> str:
        self.state.entries.append(item.name)
        return f"{count} {item.name}"

    @message
    async def take_anything(self, value: Any) -> None:
        self.state.entries.append("anything")

    @message
    async def keep_large(self, size: int) -> None:
        self.state.entries.append("x" * size)

    @message
    async def tell_large(self, size: int) -> str:
        try:
            await self.client.get(Shop, "log").note.tell("x" * size)
        except PayloadTooLarge as error:
            return f"refused at {error.limit}"
        return "sent"

    @message
    async def ask_deep(self, levels: int) -> str:
        value: list[Any] = []
        for _ in range(levels):
            value = [value]
        try:
            await self.client.get(Shop, "log").take_anything(value)
        except PayloadTooLarge as error:
            return f"refused at {error.limit} {error.unit}"
        return "sent"


@system.actor
class Counter(Actor[Numbers]):
    @message
    async def set(self, value: Any) -> None:
        self.state.value = value

    @message
    async def get(self) -> int:
        return self.state.value


@pytest.mark.parametrize("what", ["funds", "stock", "plain", "caused"])
async def test_a_domain_error_crosses_with_its_class_its_fields_and_its_text(actor_cluster: ActorCluster, what: str) -> None:
    """As it was raised; the turn's changes and tells are dropped."""
    expected: DomainError = {
        "funds": InsufficientFunds(3, 10),
        "stock": OutOfStock(1, 2, [Item("pen", 5)], note="soon"),
        "plain": Plain("no more", 7),
        "caused": InsufficientFunds(0, 1),
    }[what]
    async with actor_cluster(system) as cluster:
        shop = cluster.client.get(Shop, "a")
        error = await outcome(shop.buy(what))

        assert type(error) is type(expected)
        assert str(error) == str(expected)
        if what == "plain":
            assert error.args == expected.args
        else:
            assert error == expected
            assert hash(error) == hash(expected)  # tracebacks and groups need it
        await cluster.settled()
        assert not cluster.is_stored(shop)
        assert not cluster.is_stored(cluster.client.get(Shop, "log"))
        assert cluster.dead_letters() == []


async def test_a_domain_error_crosses_several_actors_unchanged(actor_cluster: ActorCluster) -> None:
    """Whoever wants to may catch it on the way."""
    async with actor_cluster(system) as cluster:
        shop = cluster.client.get(Shop, "a")
        with pytest.raises(OutOfStock) as failed:
            await shop.ask_to_buy("b", "stock")
        assert failed.value == OutOfStock(1, 2, [Item("pen", 5)], note="soon")

        assert await shop.catch("b", "stock") == "caught OutOfStock 1"
        assert await shop.catch("b", "funds") == "caught InsufficientFunds 3"


async def test_a_group_of_domain_errors_is_a_domain_error_and_keeps_its_shape(actor_cluster: ActorCluster) -> None:
    """Nested ones are not flattened, and except* works at the caller."""
    async with actor_cluster(system) as cluster:
        with pytest.raises(ExceptionGroup) as failed:
            await cluster.client.get(Shop, "a").ask_to_buy("b", "group")

        group: Any = failed.value
        first, inner = group.exceptions
        assert (group.message, first) == ("several", InsufficientFunds(1, 2))
        assert (type(inner), inner.message, [str(each) for each in inner.exceptions]) == (ExceptionGroup, "inner", ["a", "b"])
        assert cluster.dead_letters() == []


async def test_a_group_with_a_defect_in_it_is_a_defect(actor_cluster: ActorCluster) -> None:
    """The worst of its members decides."""
    async with actor_cluster(system) as cluster:
        error = await outcome(cluster.client.get(Shop, "a").buy("mixed"))

        assert isinstance(error, RemoteError)
        assert error.attempts == 5


async def test_a_class_that_the_caller_does_not_know_arrives_as_a_remote_error_with_its_name(actor_cluster: ActorCluster) -> None:
    """A caller of an older version must not crash, nor import what a message names."""
    async with actor_cluster(system) as cluster:
        error = await outcome(cluster.client.get(Shop, "a").buy("local"))

        assert isinstance(error, RemoteError)
        assert error.type_name == "Elsewhere"
        assert "only there" in error.message


async def test_a_domain_error_that_cannot_be_encoded_is_a_typed_error(actor_cluster: ActorCluster) -> None:
    """The runner stays healthy, and the asker does not wait for its deadline."""
    async with actor_cluster(system) as cluster:
        shop = cluster.client.get(Shop, "a")
        error = await outcome(shop.buy("unsendable"))

        assert isinstance(error, SerializationFailed)
        assert "Unsendable" in error.what
        assert await shop.buy("pen") == "pen"


async def test_a_defect_is_tried_again_and_then_set_aside(actor_cluster: ActorCluster) -> None:
    """The asker learns its class and its text; the message can be looked at."""
    async with actor_cluster(system) as cluster:
        error = await outcome(cluster.client.get(Shop, "a").buy("defect"))

        assert isinstance(error, RemoteError)
        assert (error.type_name, error.message, error.attempts) == ("ValueError", "a defect", 5)
        assert (error.actor_type, error.key, error.method) == ("Shop", "a", "buy")
        assert runs == [1, 2, 3, 4, 5]
        (letter,) = cluster.dead_letters()
        assert (letter.reason, letter.attempts, letter.method, letter.arguments) == ("attempts", 5, "buy", {"what": "defect"})
        assert "ValueError: a defect" in letter.error
        assert not cluster.is_stored(cluster.client.get(Shop, "a"))


async def test_a_defect_that_cannot_even_be_printed_is_told(actor_cluster: ActorCluster) -> None:
    """Its text failed, and that is said."""
    async with actor_cluster(system) as cluster:
        error = await outcome(cluster.client.get(Shop, "a").buy("unprintable"))

        assert isinstance(error, RemoteError)
        assert error.type_name == "Unprintable"
        assert "failed with RuntimeError" in error.message


async def test_a_retryable_cluster_error_that_leaves_a_handler_is_tried_again(actor_cluster: ActorCluster) -> None:
    """And arrives as itself when that did not help."""
    async with actor_cluster(system) as cluster:
        error = await outcome(cluster.client.get(Shop, "a").buy("cluster"))

        assert isinstance(error, MailboxFull)
        assert [letter.attempts for letter in cluster.dead_letters()] == [5]


async def test_a_final_cluster_error_that_leaves_a_handler_fails_the_call_at_once(actor_cluster: ActorCluster) -> None:
    """Trying again would not help."""
    async with actor_cluster(system) as cluster:
        began = cluster.time
        error = await outcome(cluster.client.get(Shop, "a").buy("final"))

        assert isinstance(error, MalformedMessage)
        assert error.path == "$.x"
        assert cluster.time - began < 0.1


async def test_retry_options_say_how_often_and_what_for(actor_cluster: ActorCluster) -> None:
    """Of the message before those of its actor."""
    other = ActorSystem("errors")

    @other.actor(retry=Retry(max_attempts=3, initial=0.01, retryable=(ValueError, KeyError)))
    class Picky(Actor[None]):
        @message
        async def fail(self, kind: str) -> None:
            runs.append(self.context.attempt)
            raise {"value": ValueError, "type": TypeError}[kind]("x")

        @message(retry=Retry(max_attempts=2, initial=0.01, retryable=lambda error: isinstance(error, TypeError)))
        async def other(self, kind: str) -> None:
            runs.append(self.context.attempt)
            raise {"value": ValueError, "type": TypeError}[kind]("x")

    async with actor_cluster(other) as cluster:
        picky = cluster.client.get(Picky, "a")
        calls = (picky.fail("value"), picky.fail("type"), picky.other("type"), picky.other("value"))
        attempts = [(await outcome(asked)).attempts for asked in calls]

        assert attempts == [3, 1, 2, 1]
        assert runs == [1, 2, 3, 1, 1, 2, 1]


async def test_redis_being_away_in_a_handler_does_not_count_as_an_attempt(actor_cluster: ActorCluster) -> None:
    """The handler is not at fault."""
    other = ActorSystem("errors")

    @other.actor
    class Patient(Actor[None]):
        @message
        async def work(self) -> int:
            runs.append(self.context.attempt)
            if len(runs) < 9:
                raise PersistenceFailed(problem="away")
            return self.context.attempt

    async with actor_cluster(other) as cluster:
        assert await cluster.client.get(Patient, "a").work.options(timeout=600.0)() == 1
        assert runs == [1] * 9


# values


@pytest.mark.parametrize("kind", ["text", "weird", "none", "float", "huge"])
async def test_a_reply_that_does_not_fit_its_annotation_is_a_typed_error(actor_cluster: ActorCluster, kind: str) -> None:
    """At the caller, at once; nothing of the turn has happened, and the runner is well."""
    async with actor_cluster(system) as cluster:
        shop = cluster.client.get(Shop, "a")
        began = cluster.time
        error = await outcome(shop.give(kind))

        assert isinstance(error, SerializationFailed), error
        assert (error.what, error.method) == ("reply", "give")
        assert cluster.time - began < 0.1
        assert await shop.give("fits") == 7
        assert cluster.state(shop).entries == ["fits"]


@pytest.mark.parametrize("kind", ["wrong field", "circle", "deep", "generator", "lock"])
async def test_a_reply_that_cannot_be_encoded_is_a_typed_error(actor_cluster: ActorCluster, kind: str) -> None:
    """Not even one that contains itself, or is thousands of levels deep, does harm."""
    async with actor_cluster(system) as cluster:
        shop = cluster.client.get(Shop, "a")
        error = await outcome(shop.give_list(kind))

        assert isinstance(error, SerializationFailed | PayloadTooLarge), error
        assert await shop.give_list("dicts") == [Item("pen", 5)]


async def test_a_reply_that_is_too_large_is_a_typed_error_naming_the_limit(actor_cluster: ActorCluster) -> None:
    """And its turn is undone with it."""
    async with actor_cluster(system, settings=Settings(max_payload=10_000)) as cluster:
        shop = cluster.client.get(Shop, "a")
        error = await outcome(shop.give_large(20_000))

        assert isinstance(error, PayloadTooLarge)
        assert (error.what, error.limit) == ("reply", 10_000)
        assert not cluster.is_stored(shop)
        assert len(await shop.give_large(9_000)) == 9_000


async def test_arguments_that_do_not_fit_are_refused_at_the_caller(actor_cluster: ActorCluster) -> None:
    """Naming the field, with nothing sent."""
    async with actor_cluster(system, runners=0) as cluster:
        shop: Any = cluster.client.get(Shop, "a")
        with pytest.raises(MalformedMessage, match="count") as failed:
            await shop.take(Item("pen", 5), "many")
        assert failed.value.path == "$.count"
        with pytest.raises(MalformedMessage) as failed:
            await shop.take(Item("pen", "five"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        assert failed.value.path == "$.item.price"
        with pytest.raises(SerializationFailed, match="value"):
            await shop.take_anything(Weird())
        with pytest.raises(TypeError, match="missing"):
            await shop.take()
        with pytest.raises(TypeError, match="unexpected"):
            await shop.take(Item("pen", 5), colour="red")
        assert cluster.client.sender.statistics().messages == 0


async def test_a_message_too_large_or_too_deep_is_refused_at_the_caller(actor_cluster: ActorCluster) -> None:
    """Naming size and limit."""
    async with actor_cluster(system, settings=Settings(max_payload=10_000, max_depth=16)) as cluster:
        shop = cluster.client.get(Shop, "a")
        with pytest.raises(PayloadTooLarge) as failed:
            await shop.note("x" * 20_000)
        assert failed.value.limit == 10_000
        assert failed.value.size > 20_000
        deep: list[Any] = []
        for _ in range(40):
            deep = [deep]
        with pytest.raises(PayloadTooLarge) as failed:
            await shop.take_anything(deep)
        assert (failed.value.limit, failed.value.unit) == (16, "levels")

        await shop.take_anything([[[["fine"]]]])


async def test_a_turn_is_refused_what_is_too_large_or_too_deep(actor_cluster: ActorCluster) -> None:
    """There and then: it may do something else instead."""
    async with actor_cluster(system, settings=Settings(max_payload=10_000, max_depth=16)) as cluster:
        shop = cluster.client.get(Shop, "a")

        assert await shop.tell_large(20_000) == "refused at 10000"
        assert await shop.ask_deep(40) == "refused at 16 levels"
        assert await shop.ask_deep(5) == "sent"


async def test_a_state_that_is_too_large_fails_its_turn(actor_cluster: ActorCluster) -> None:
    """The actor goes on from the state before."""
    async with actor_cluster(system, settings=Settings(max_state=10_000)) as cluster:
        shop = cluster.client.get(Shop, "a")
        await shop.note("small")
        error = await outcome(shop.keep_large(20_000))

        assert isinstance(error, PayloadTooLarge)
        assert (error.what, error.limit) == ("state", 10_000)
        assert await shop.buy("pen") == "pen"
        assert cluster.state(shop).entries == ["small", "pen"]


@pytest.mark.parametrize("value", ["text", None, [1], 1.5], ids=str)
async def test_a_state_that_could_not_be_read_back_is_never_written(actor_cluster: ActorCluster, value: object) -> None:
    """msgspec encodes a field without looking at its annotation; the next activation would find what it cannot decode."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.set(7)
        error = await outcome(counter.set(value))

        assert isinstance(error, SerializationFailed)
        assert (error.what, error.path) == ("state", "$.value")
        assert await counter.get() == 7
        await cluster.handoff(counter)
        assert await counter.get() == 7


async def test_every_error_of_ours_keeps_its_evidence_across_the_wire(actor_cluster: ActorCluster) -> None:
    """Class, fields and text are those of where it was raised."""
    other = ActorSystem("errors")
    kept: list[ClusterError] = []

    @other.actor
    class Source(Actor[None]):
        @message
        async def fail(self) -> None:
            error = MalformedMessage(path="$.a[3]", problem="wrong", actor_type="X", key="k", method="m")
            kept.append(error)
            raise error

    async with actor_cluster(other) as cluster:
        error = await outcome(cluster.client.get(Source, "a").fail())

        assert type(error) is type(kept[0])
        assert (str(error), error.evidence()) == (str(kept[0]), kept[0].evidence())
