"""States at rest: nothing of them is lost, whichever release reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from actors.errors import SerializationFailed
from actors.wire.codec import StateUnreadable
from actors.wire.state import StateCodec


class Account(msgspec.Struct):
    balance: int = 0
    owner: str | None = None


class NextAccount(msgspec.Struct):
    """The next release's."""

    balance: int = 0
    owner: str | None = None
    currency: str = "EUR"
    limits: dict[str, int] = {}


def codec(kind: Any, **options: Any) -> StateCodec:
    return StateCodec("Account", kind, **options)


def unreadable(reader: StateCodec, raw: bytes) -> str:
    with pytest.raises(StateUnreadable) as caught:
        reader.decode(raw)
    return caught.value.problem


@given(st.builds(NextAccount, st.integers(0, 1 << 60), st.none() | st.text(), st.text(), st.dictionaries(st.text(), st.integers(0, 9))))
def test_what_goes_in_comes_out(state: NextAccount) -> None:
    ours = codec(NextAccount)

    assert ours.decode(ours.encode(state)) == (state, None)


@dataclass
class Plain:
    seen: set[int] = field(default_factory=set[int])


class Typed(TypedDict, total=False):
    a: int


@pytest.mark.parametrize(
    ("kind", "fresh"),
    [
        (Account, Account()),
        (Plain, Plain()),
        (Typed, {}),
        (dict[str, int], {}),
        (list[Account], []),
        (set[int], set[int]()),
        (Account | None, None),
        (int, 0),
        (str, ""),
        (Annotated[dict[str, int], Meta(max_length=3)], {}),
    ],
    ids=str,
)
def test_an_actor_without_a_stored_state_starts_from_nothing(kind: Any, fresh: Any) -> None:
    ours = codec(kind)

    assert ours.fresh() == fresh
    assert ours.decode(ours.encode(fresh)) == (fresh, None)


def test_a_fresh_state_is_nobody_elses() -> None:
    ours = codec(NextAccount)
    ours.fresh().limits["day"] = 5

    assert ours.fresh().limits == {}


class Needy(msgspec.Struct):
    balance: int
    owner: str


class Custom:
    pass


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Needy, "Needy needs a default for balance, owner"),
        (int | str, "is a union"),
        (Literal["a"], "cannot be made from nothing"),
        (Annotated[int, Meta(ge=1)], "cannot be made from nothing"),
        (Custom, "Custom is not a type that can be encoded"),
        (ValueError, "ValueError is an exception"),
    ],
    ids=str,
)
def test_what_no_actor_could_start_from_is_refused(kind: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said) as caught:
        codec(kind).resolve()

    assert str(caught.value).startswith("the state of Account")


def test_a_value_without_an_encoding_is_named() -> None:
    with pytest.raises(SerializationFailed) as caught:
        codec(Account).encode(Account(balance=object()))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert (caught.value.what, caught.value.path) == ("state", "$.balance")


def test_a_value_that_could_not_be_read_again_is_found_when_asked_for() -> None:
    ours = codec(Account)
    raw = ours.encode(Account(balance="much"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    ours.verify(ours.encode(Account()))
    with pytest.raises(SerializationFailed) as caught:
        ours.verify(raw)

    assert (caught.value.path, caught.value.problem) == ("$.balance", "Expected `int`, got `str`")


# Releases side by side


def test_old_code_keeps_the_fields_of_newer_code() -> None:
    """Through any number of its own turns."""
    old, new = codec(Account), codec(NextAccount)
    stored = new.encode(NextAccount(5, "alice", "USD", {"day": 10}))

    for deposit in range(3):
        state, leftover = old.decode(stored)
        state.balance += deposit
        stored = old.encode(state, leftover)

    assert new.decode(stored)[0] == NextAccount(8, "alice", "USD", {"day": 10})


def test_new_code_reads_what_old_code_wrote() -> None:
    assert codec(NextAccount).decode(codec(Account).encode(Account(5, "alice"))) == (NextAccount(5, "alice"), None)


def test_what_old_code_wrote_back_it_reads_itself() -> None:
    """The leftover is found again behind its own fingerprint."""
    old, new = codec(Account), codec(NextAccount)
    state, leftover = old.decode(new.encode(NextAccount(5, None, "USD")))
    stored = old.encode(state, leftover)

    again, still = old.decode(stored)

    assert again == Account(5)
    assert new.decode(old.encode(again, still))[0].currency == "USD"


class Address(msgspec.Struct):
    street: str = ""


class NextAddress(msgspec.Struct):
    street: str = ""
    zip: str = ""


class Person(msgspec.Struct):
    home: Address = msgspec.field(default_factory=Address)
    others: dict[str, Address] = {}
    work: Address | None = None


class NextPerson(msgspec.Struct):
    home: NextAddress = msgspec.field(default_factory=NextAddress)
    others: dict[str, NextAddress] = {}
    work: NextAddress | None = None


def test_fields_inside_fields_and_dicts_are_kept_too() -> None:
    old, new = codec(Person), codec(NextPerson)
    stored = new.encode(NextPerson(NextAddress("a", "1"), {"x": NextAddress("b", "2"), "y": NextAddress("c", "3")}, NextAddress("d", "4")))

    state, leftover = old.decode(stored)
    state.home.street = "moved"
    del state.others["y"]
    state.others["z"] = Address("e")
    state.work = None

    assert new.decode(old.encode(state, leftover))[0] == NextPerson(
        NextAddress("moved", "1"), {"x": NextAddress("b", "2"), "z": NextAddress("e")}, None
    )


class Book(msgspec.Struct):
    addresses: list[Address] = []


class NextBook(msgspec.Struct):
    addresses: list[NextAddress] = []


def test_what_cannot_be_kept_is_not_read() -> None:
    """Items of a list move: nobody could say whose fields those were."""
    stored = codec(NextBook).encode(NextBook([NextAddress("a", "1")]))

    problem = unreadable(codec(Book), stored)

    assert "zip in the items of $.addresses" in problem
    assert codec(Book).decode(codec(NextBook).encode(NextBook()))[0] == Book()


class Row(msgspec.Struct, array_like=True):
    a: int = 0


class NextRow(msgspec.Struct, array_like=True):
    a: int = 0
    b: int = 0


def test_an_array_that_has_grown_is_not_read() -> None:
    assert "1 more items in $" in unreadable(codec(Row), codec(NextRow).encode(NextRow(1, 2)))
    assert codec(NextRow).decode(codec(Row).encode(Row(1)))[0] == NextRow(1)


class Spare(msgspec.Struct, omit_defaults=True):
    a: int = 0
    b: int = 0


class NextSpare(msgspec.Struct, omit_defaults=True):
    a: int = 0
    b: int = 0
    c: int = 0


def test_a_known_field_that_is_left_out_does_not_come_back() -> None:
    """Known is what the type has, not what happens to be encoded: else an old value would rise again."""
    old, new = codec(Spare), codec(NextSpare)
    state, leftover = old.decode(new.encode(NextSpare(1, 2, 3)))
    state.b = 0

    assert new.decode(old.encode(state, leftover))[0] == NextSpare(1, 0, 3)


class Cat(msgspec.Struct, tag="cat"):
    name: str = ""


class Dog(msgspec.Struct, tag="dog"):
    name: str = ""


class NextDog(msgspec.Struct, tag="dog"):
    name: str = ""
    tricks: int = 0


class Home(msgspec.Struct):
    pet: Cat | Dog | None = None


class NextHome(msgspec.Struct):
    pet: Cat | NextDog | None = None


def test_the_fields_of_a_union_are_those_of_its_member() -> None:
    old, new = codec(Home), codec(NextHome)

    state, leftover = old.decode(new.encode(NextHome(NextDog("rex", 3))))

    assert new.decode(old.encode(state, leftover))[0] == NextHome(NextDog("rex", 3))
    assert leftover is not None
    assert list(leftover["pet"]) == ["tricks"]


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    balance: int = 0


def test_a_type_that_forbids_other_fields_is_not_read() -> None:
    assert "unknown field `owner`" in unreadable(codec(Strict), codec(Account).encode(Account(1, "x")))


# Versions


def test_a_newer_version_is_left_alone() -> None:
    """Whatever its bytes look like, and although they would decode."""
    stored = codec(Account, version=3).encode(Account(5))

    assert "state_version 3, here it is 2" in unreadable(codec(Account, version=2), stored)


def test_an_older_version_is_migrated() -> None:
    asked: list[tuple[int, Any]] = []

    def migrate(version: int, raw: Any) -> NextAccount:
        asked.append((version, raw))
        return NextAccount(raw["balance"] * 100, raw["owner"], "ct")

    reader = codec(NextAccount, version=3, migrate=migrate)

    assert reader.decode(codec(Account, version=1).encode(Account(5, "alice"))) == (NextAccount(500, "alice", "ct"), None)
    assert asked == [(1, {"balance": 5, "owner": "alice"})]


def returns(value: Any) -> Callable[[int, Any], Any]:
    return lambda _version, _raw: value


def raises(version: int, raw: Any) -> Any:
    raise KeyError(version)


def test_a_migration_may_return_plain_values() -> None:
    reader = codec(NextAccount, version=2, migrate=returns({"balance": 7}))

    assert reader.decode(codec(Account).encode(Account(5)))[0] == NextAccount(7)


@pytest.mark.parametrize("migrate", [raises, returns({"balance": "much"}), returns(object())], ids=["raises", "malformed", "unencodable"])
def test_a_migration_that_fails_leaves_the_state_alone(migrate: Any) -> None:
    assert unreadable(codec(Account, version=2, migrate=migrate), codec(Account).encode(Account(5)))


def test_without_a_migration_an_older_version_is_read_as_it_is() -> None:
    stored = codec(Account).encode(Account(5))

    assert codec(Account, version=2).decode(stored) == (Account(5), None)
    assert "migrate()" in unreadable(codec(Needless, version=2), stored)


class Needless(msgspec.Struct):
    balance: str = ""


def test_a_field_of_another_type_is_named() -> None:
    problem = unreadable(codec(Needless), codec(Account).encode(Account(5)))

    assert problem.startswith("Expected `str`, got `int` at $.balance. If its type has changed, raise state_version")


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda raw: b"\x94\x01\x01\xcf" + raw))
def test_any_bytes_are_a_state_or_unreadable(raw: bytes) -> None:
    for kind in (Account, Person, dict[str, Any], Row):
        try:
            codec(kind).decode(raw)
        except StateUnreadable as error:
            assert error.actor_type == "Account"  # noqa: PT017 - both ways out are fine


def test_a_state_as_deep_as_could_be_written_can_be_read() -> None:
    ours = codec(dict[str, Any])
    deep: dict[str, Any] = {}
    for _ in range(700):
        deep = {"x": deep}

    assert ours.decode(ours.encode(deep)) == (deep, None)


def test_a_state_nested_too_deep_is_not_decoded() -> None:
    ours = codec(dict[str, Any])
    stored = ours.encode({})[:-1] + b"\x81\xa1x" * 5000 + b"\xc0"

    assert "nested over" in unreadable(ours, stored)


# Fingerprints


def test_the_fingerprint_is_that_of_the_fields() -> None:
    """Not of names, docstrings or defaults; the same in every process."""

    class Renamed(msgspec.Struct):
        """Documented."""

        balance: int = 7
        owner: str | None = "x"

    ours = codec(Account)
    ours.resolve()
    renamed, following = codec(Renamed), codec(NextAccount)
    renamed.resolve()
    following.resolve()

    assert ours.fingerprint == renamed.fingerprint == 6133528472470088453
    assert ours.fingerprint != following.fingerprint


class Node(msgspec.Struct):
    value: int = 0
    children: list[Node] = []


def test_a_recursive_state_has_one_too() -> None:
    ours = codec(Node)
    tree = Node(1, [Node(2, [Node(3)])])

    assert ours.decode(ours.encode(tree)) == (tree, None)
