"""Annotations: what they mean in the class that is asked, and which are refused."""

from __future__ import annotations

import enum
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, Self, TypeVar
from uuid import UUID

import msgspec
import pytest
import typing_extensions
from msgspec import Meta

from actors.actor import Actor
from actors.wire import types

T = TypeVar("T")
U = TypeVar("U")
Cents = typing_extensions.TypeAliasType("Cents", Annotated[int, Meta(ge=0)])
Pair = typing_extensions.TypeAliasType("Pair", tuple[T, T], type_params=(T,))


class Item(msgspec.Struct):
    name: str
    parts: list[Item] = []


class Generical(msgspec.Struct, Generic[T]):
    value: T


class Base(Actor[list[T]], Generic[T, U]):
    async def put(self, item: T, other: dict[str, U | None], box: Generical[T]) -> Self:
        raise NotImplementedError


class Middle(Base[T, "Item"], Generic[T]):
    pass


class Leaf(Middle[int]):
    async def pay(self, amount: Cents, both: Pair[Self], friend: Base[int, str] | None) -> list[Self]:
        raise NotImplementedError


BASE: Any = Base


def hints(method: Any, owner: type, definer: type) -> dict[str, Any]:
    return types.hints_of(method, owner, definer, None)


def test_type_variables_are_those_of_the_class_that_is_asked() -> None:
    assert hints(BASE.put, Leaf, BASE) == {
        "item": int,
        "other": dict[str, Item | None],
        "box": Generical[int],
        "return": Leaf,
    }


def test_aliases_and_self_are_replaced_and_actors_lose_their_parameters() -> None:
    assert hints(Leaf.pay, Leaf, Leaf) == {
        "amount": Annotated[int, Meta(ge=0)],
        "both": tuple[Leaf, Leaf],
        "friend": BASE | None,
        "return": list[Leaf],
    }


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a statement of Python 3.12")
def test_an_alias_of_itself_is_refused_by_name() -> None:
    namespace: dict[str, Any] = {}
    exec("type Json = dict[str, Json] | None", namespace)

    with pytest.raises(TypeError, match="alias Json contains itself"):
        types.substitute(namespace["Json"], {}, Leaf)


def test_names_of_the_registering_frame_are_found() -> None:
    class Local(msgspec.Struct):
        n: int

    class Holder(Actor[None]):
        async def put(self, item: Local, me: Holder) -> None: ...

    found = types.hints_of(Holder.put, Holder, Holder, {"Local": Local})

    assert (found["item"], found["me"]) == (Local, Holder)
    with pytest.raises(NameError):
        types.hints_of(Holder.put, Holder, Holder, None)


def test_inside_a_function_its_names_hide_the_modules() -> None:
    class Item(msgspec.Struct):
        other: int

    class Holder(Actor[None]):
        async def put(self, item: Item) -> None: ...

    assert types.hints_of(Holder.put, Holder, Holder, {"Item": Item})["item"] is Item
    assert types.hints_of(Leaf.pay, Leaf, Leaf, {"Cents": Item})["amount"] == Annotated[int, Meta(ge=0)]


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int


class Options(typing.TypedDict):
    a: int


class Tagged(msgspec.Struct):
    name: str


@dataclass
class Plain:
    item: Tagged
    friend: Leaf | None = None


class Holding(msgspec.Struct):
    friends: dict[str, list[Leaf]]


GOOD: list[Any] = [
    *(int, str, bytes, float, bool, None, Any, datetime, timedelta, Decimal, UUID, Colour, Point, Options, Item, Plain),
    *(
        list[Item],
        Sequence[int],
        Mapping[str, Item],
        tuple[int, ...],
        set[str],
        Literal["a", 1],
        int | str | None,
        Annotated[int, Meta(ge=1)],
    ),
    *(msgspec.Raw, int | msgspec.UnsetType, Generical[int]),
]
REFS: list[Any] = [Leaf, Leaf | None, list[Leaf], Holding, Plain]


@pytest.mark.parametrize("hint", GOOD, ids=str)
def test_what_msgspec_knows_crosses_the_wire(hint: Any) -> None:
    types.check(hint, "A.m(x)")


@pytest.mark.parametrize("hint", REFS, ids=str)
def test_refs_are_noticed_wherever_they_are(hint: Any) -> None:
    assert types.check(hint, "A.m(x)")
    assert not types.check(list[Item], "A.m(x)")


class Broken(Exception):
    pass


@dataclass
class Failure(Exception):
    code: int


class Carries(msgspec.Struct):
    failures: list[Failure]


class Thing:
    pass


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (Broken, "Broken is an exception"),
        (dict[str, ValueError], "ValueError is an exception"),
        (Carries, "Failure is an exception"),
        (Thing, "Thing is not a type that can be encoded"),
        (list[Thing | None], "Thing is not a type that can be encoded"),
        (complex, "complex is not a type"),
        (Callable[[], int], "not a type that can be encoded"),
        (Leaf | str | dict[str, int], "custom type"),
        (datetime | str, "more than one str-like type"),
        ("Item", "is not supported"),
    ],
    ids=str,
)
def test_what_cannot_cross_is_refused_by_name(hint: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said) as caught:
        types.check(hint, "Account.deposit(amount)")

    assert str(caught.value).startswith("Account.deposit(amount): ")


class Tree(msgspec.Struct):
    children: list[Tree] = []


class Open(msgspec.Struct):
    value: dict[str, Any] = {}


class Twice(msgspec.Struct):
    one: Plain
    other: Plain
    more: list[Options]


def test_a_type_says_whether_its_values_can_be_nested_without_end() -> None:
    bounded: list[Any] = [int, list[list[int]], Twice, Holding, Options, Point, Colour, Literal["a"], Leaf, None, int | None]
    unbounded: list[Any] = [Any, list[Any], Tree, dict[str, Tree | None], Open, msgspec.Raw, Item]

    assert [hint for hint in bounded if not types.is_bounded(hint)] == []
    assert [hint for hint in unbounded if types.is_bounded(hint)] == []
