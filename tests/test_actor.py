"""Actors: what registering a class accepts, refuses and finds out."""

from __future__ import annotations

import abc
import sys
import types
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from actors.actor import RESERVED, Actor, ActorOptions, actor_options, actor_spec, registered
from actors.errors import ConfigurationError, DomainError, MalformedMessage
from actors.ids import ActorAddress
from actors.message import message
from actors.supervision import Retry
from tests.loopback import LocalCell, Loopback

T = TypeVar("T")


class State(msgspec.Struct):
    n: int = 0


class Counter(Actor[State]):
    def __init__(self) -> None:
        self.seen = [self.key]

    @message
    async def add(self, by: int = 1) -> int:
        self.state.n += by
        return self.state.n


class Bare(Actor):
    @message
    async def hi(self, other: Bare) -> str:
        return other.key


class BoxState(msgspec.Struct, Generic[T]):
    items: list[T] = []


class Box(Actor[BoxState[T]], Generic[T]):
    @message
    async def put(self, item: T) -> int:
        self.state.items.append(item)
        return len(self.state.items)

    @message
    async def all(self) -> AsyncIterator[T]:
        for item in self.state.items:
            yield item


class IntBox(Box[int]):
    @message
    async def total(self) -> int:
        return sum(self.state.items)


def test_the_name_is_that_of_the_class_unless_given() -> None:
    class Named(Actor[None]):
        pass

    assert actor_spec(Counter).name == "Counter"
    assert actor_spec(Named, name="bank.Named-2").name == "bank.Named-2"
    assert registered(Named).name == "bank.Named-2"


def test_a_class_may_be_registered_with_several_systems_under_its_one_name() -> None:
    one, other = actor_spec(Counter, actor_options(idle_timeout=1)), actor_spec(Counter)

    assert one.ref_class is other.ref_class
    assert (one.options.idle_timeout, other.options.idle_timeout) == (1.0, None)
    with pytest.raises(ConfigurationError, match="registered as 'Counter'"):
        actor_spec(Counter, name="Other")


def test_an_instance_is_in_its_place_before_its_own_init_runs() -> None:
    cell: Any = object()

    counter = actor_spec(Counter).make(ActorAddress("Counter", "a"), cell)

    assert isinstance(counter, Counter)
    assert counter.seen == ["a"]


def test_an_actor_without_a_type_of_state_has_none() -> None:
    spec = actor_spec(Bare)
    cell: Any = object()

    assert spec.state is None
    assert spec.make(ActorAddress("Bare", "a"), cell).state is None


async def test_a_generic_actor_is_that_of_its_type() -> None:
    """The arguments, the items and the state of a ``Box[int]`` are checked as ints."""
    spec = actor_spec(IntBox)
    client = Loopback(spec)
    box: IntBox = client.get(IntBox, "b")

    assert await box.put(3) == 1
    assert await box.put(4) == 2
    assert await box.total() == 7
    assert [item async for item in box.all()] == [3, 4]
    wrong: Any = box
    with pytest.raises(Exception, match="Expected `int`, got `str`"):
        await wrong.put("x")
    assert spec.state is not None
    assert spec.state.kind == BoxState[int]
    client.executor.shutdown()


PEP_695 = """
from collections.abc import AsyncIterator
from typing import Annotated
import msgspec
from actors.actor import Actor
from actors.message import message

type Cents = Annotated[int, msgspec.Meta(ge=0)]
type Pair[X] = tuple[X, X]

class BoxState[T](msgspec.Struct):
    items: list[T] = []

class Box[T](Actor[BoxState[T]]):
    @message
    async def put(self, item: T, cents: Cents = 1, pair: Pair[T] | None = None) -> list[T]:
        self.state.items.append(item)
        return self.state.items

    @message
    async def same[U](self, value: U) -> U:
        return value

class IntBox(Box[int]):
    pass
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
async def test_a_generic_actor_in_the_syntax_of_python_3_12(future: str) -> None:
    module = ModuleType("pep_695")
    sys.modules["pep_695"] = module
    try:
        exec(f"{future}\n{PEP_695}", vars(module))
        spec = actor_spec(module.IntBox)
    finally:
        del sys.modules["pep_695"]
    client = Loopback(spec)
    box = client.get(module.IntBox, "b")

    assert await box.put(3, pair=(1, 2)) == [3]
    assert await box.same("x") == "x"
    assert spec.state is not None
    assert spec.state.kind == module.BoxState[int]
    for arguments in ({"item": "x"}, {"item": 1, "pair": ("x", "x")}, {"item": 1, "cents": -1}):
        with pytest.raises(MalformedMessage):
            box.put(**arguments)
    client.executor.shutdown()


def test_hooks_are_known_where_there_are_some() -> None:
    class Hooked(Actor[None]):
        async def on_activate(self) -> None: ...

    spec = actor_spec(Hooked)

    assert (spec.has_on_activate, spec.has_on_deactivate) == (True, False)


def test_a_class_with_a_migration_has_one() -> None:
    class Migrating(Actor[State]):
        @classmethod
        def migrate(cls, version: int, raw: object) -> State:
            return State(version)

    spec = actor_spec(Migrating, actor_options(state_version=2))
    older = actor_spec(Counter).state
    assert spec.state is not None
    assert older is not None

    assert spec.state.decode(older.encode(State(5)))[0] == State(1)


async def test_what_an_actor_asks_of_its_host() -> None:
    client = Loopback(actor_spec(Counter))
    actor = client.live(ActorAddress("Counter", "a"))
    cell: LocalCell = actor.__cell__

    actor.deactivate()
    actor.keep_alive(True)
    actor.clear()

    assert cell.asked == ["deactivate", ("keep_alive", True), "clear"]
    for name in ("context", "client"):
        with pytest.raises(RuntimeError, match=rf"Counter\.{name} is there inside a handler only"):
            getattr(actor, name)
    client.executor.shutdown()


def test_options_are_seconds() -> None:
    options = actor_options(idle_timeout=timedelta(minutes=1), turn_timeout=2, state_ttl=timedelta(days=1), retry=Retry(3), concurrency=1)

    assert options == ActorOptions(idle_timeout=60.0, turn_timeout=2.0, state_ttl=86_400.0, retry=Retry(3), concurrency=1)


@pytest.mark.parametrize(
    "options",
    [{"idle_timeout": 0}, {"turn_timeout": -1}, {"mailbox_capacity": 0}, {"concurrency": 1.5}, {"state_version": True}, {"state_ttl": "1"}],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        actor_options(**options)


# What is refused


@pytest.mark.parametrize("name", ["", "a:b", "3x", "a b", "ä", "{x}", "a/b"])
def test_a_name_that_keys_could_not_hold_is_refused(name: str) -> None:
    class Named(Actor[None]):
        pass

    with pytest.raises(ConfigurationError, match="name of"):
        actor_spec(Named, name=name)


def test_a_shard_group_has_a_plain_name() -> None:
    with pytest.raises(ConfigurationError, match=r"shard_group of Counter is 'a\.b'"):
        actor_spec(Counter, shard_group="a.b")


def test_overlapping_turns_need_an_actor_without_state() -> None:
    with pytest.raises(ConfigurationError, match="would overwrite each other's state"):
        actor_spec(Counter, actor_options(concurrency=2))

    assert actor_spec(Bare, actor_options(concurrency=2)).options.concurrency == 2


def test_what_is_no_actor_class_is_refused() -> None:
    for value in (State, Actor, 3, lambda: 0):
        with pytest.raises(TypeError, match="is not an actor class"):
            actor_spec(value)


def test_an_actor_is_no_dataclass() -> None:
    """Its fields would be taken for what crosses the wire."""

    @dataclass
    class Data(Actor[None]):
        x: int = 0

    with pytest.raises(TypeError, match="is a dataclass"):
        actor_spec(Data)


def test_a_generic_class_is_registered_for_a_type() -> None:
    with pytest.raises(TypeError, match=r"Box is generic: .* class IntBox\(Box\[int\]\)"):
        actor_spec(Box)


def test_an_abstract_class_is_not_registered() -> None:
    class Abstract(Actor[None], abc.ABC):
        @abc.abstractmethod
        def price(self) -> int: ...

    with pytest.raises(TypeError, match="abstract: price is missing"):
        actor_spec(Abstract)


def test_an_init_takes_nothing() -> None:
    class Wants(Actor[None]):
        def __init__(self, database: str) -> None: ...

    with pytest.raises(TypeError, match="__init__ takes database"):
        actor_spec(Wants)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_an_actors_own_names_are_no_messages(name: str) -> None:
    async def function(self: Any) -> None: ...

    cls = type("Wrong", (Actor,), {name: message(function)})

    with pytest.raises(TypeError, match="a name of every actor's own"):
        actor_spec(cls)


def test_a_message_under_two_names_is_two() -> None:
    class Twice(Actor[None]):
        @message
        async def old(self) -> str:
            return self.key

        new = old

    methods = actor_spec(Twice).methods

    assert {name: method.name for name, method in methods.items()} == {"old": "old", "new": "new"}


def test_a_message_is_public() -> None:
    class Wrong(Actor[None]):
        @message
        async def _hidden(self) -> None: ...

    with pytest.raises(TypeError, match="cannot start with an underscore"):
        actor_spec(Wrong)


def test_a_message_is_not_hidden_in_silence() -> None:
    class Wrong(Counter):
        async def add(self, by: int = 1) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
            return by

    with pytest.raises(TypeError, match=r"hides the message add\. Decorate it with @message"):
        actor_spec(Wrong)


untyped: Any = message


class Broken(Exception):
    pass


@dataclass
class Failure(DomainError):
    code: int


class Thing:
    pass


def test_a_signature_that_cannot_cross_the_wire_is_refused_by_name() -> None:
    class Stars(Actor[None]):
        @message
        async def m(self, *items: int) -> None: ...

    class Keywords(Actor[None]):
        @untyped  # type: ignore[untyped-decorator]
        async def m(self, **items: int) -> None: ...

    class Bare_(Actor[None]):  # noqa: N801
        @untyped  # type: ignore[untyped-decorator]
        async def m(self, n) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    class NoReturn(Actor[None]):
        @message
        async def m(self, n: int): ...  # type: ignore[no-untyped-def]  # noqa: ANN202

    class NoSelf(Actor[None]):
        m: Any = untyped(_no_self)

    class Takes(Actor[None]):
        @message
        async def m(self, n: list[Broken]) -> None: ...

    class Gives(Actor[None]):
        @message
        async def m(self) -> Failure:
            raise NotImplementedError

    class Unknown(Actor[None]):
        @message
        async def m(self, things: dict[str, Thing]) -> None: ...

    refused = {
        Stars: r"Stars.m: \*items cannot cross the wire",
        Keywords: r"Keywords.m: \*\*items cannot cross the wire",
        Bare_: "Bare_.m: parameter n has no annotation",
        NoReturn: "NoReturn.m has no return annotation",
        NoSelf: "NoSelf.m: a message takes self first",
        Takes: r"Takes.m\(n\): Broken is an exception",
        Gives: r"Gives.m -> …: Failure is an exception",
        Unknown: r"Unknown.m\(things\): Thing is not a type that can be encoded",
    }
    for cls, said in refused.items():
        with pytest.raises(TypeError, match=said):
            actor_spec(cls)
        assert "__actor_class__" not in vars(cls), "and it is not registered halfway"


async def _no_self() -> None: ...


def test_a_name_not_defined_yet_is_looked_up_at_first_use() -> None:
    method: Any = _takes_late
    cls = type("Early", (Actor,), {"m": message(method)})

    spec = actor_spec(cls)
    with pytest.raises(NameError, match="Late"):
        spec.methods["m"].encode_args((1,), {})

    globals()["Late"] = State
    try:
        assert spec.methods["m"].encode_args((State(3),), {}) == b"\x81\xa4item\x81\xa1n\x03"
    finally:
        del globals()["Late"]


async def _takes_late(self: Any, item: Any) -> None: ...


_takes_late.__annotations__["item"] = "Late"


def test_the_state_is_defined_before_its_actor() -> None:
    generic: Any = Actor
    early = types.new_class("Early", (generic["Later"],))

    with pytest.raises(TypeError, match="the type of its state is not defined yet: name 'Later'"):
        actor_spec(early)


def test_a_state_in_quotes_is_found() -> None:
    class Quoted(Actor["State"]):
        pass

    class Local(msgspec.Struct):
        pass

    class QuotedLocal(Actor["Local"]):
        pass

    quoted, local = actor_spec(Quoted).state, actor_spec(QuotedLocal, localns={"Local": Local}).state
    assert quoted is not None
    assert local is not None

    assert (quoted.kind, local.kind) == (State, Local)


def test_an_unregistered_class_says_so() -> None:
    class Unregistered(Actor[None]):
        pass

    with pytest.raises(ConfigurationError, match=r"Unregistered is not registered with any system. Decorate it with @system.actor"):
        registered(Unregistered)
