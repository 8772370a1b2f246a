"""Refs: an address that passes for its actor, and carries its messages alone."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from actors.actor import Actor, actor_spec
from actors.ids import ActorAddress
from actors.message import message
from actors.ref import address_of
from actors.wire.codec import decoder, encode


class Account(Actor[dict[str, int]]):
    """An account."""

    limit: int = 3

    @message
    async def deposit(self, amount: int) -> int:
        raise NotImplementedError

    @message
    async def withdraw(self, amount: int) -> int:
        raise NotImplementedError

    def helper(self) -> int:
        return 1

    @property
    def worth(self) -> int:
        return 1


class Savings(Account):
    pass


class Order(Actor[None]):
    pass


ACCOUNT, SAVINGS, ORDER = actor_spec(Account), actor_spec(Savings), actor_spec(Order)


def ref(key: str = "alice", sender: Any = None) -> Any:
    return ACCOUNT.ref_class.make(ActorAddress("Account", key), sender)


def test_a_ref_passes_for_its_actor() -> None:
    savings = SAVINGS.ref_class.make(ActorAddress("Savings", "s"), None)

    assert isinstance(ref(), Account)
    assert isinstance(savings, Account)
    assert not isinstance(ref(), Savings)


def test_refs_to_one_actor_are_equal_whoever_made_them() -> None:
    other_client: Any = object()

    assert ref() == ref(sender=other_client)
    assert len({ref(), ref(sender=other_client), ref("bob")}) == 2
    assert ref() != ref("bob")
    assert ref() != ORDER.ref_class.make(ActorAddress("Order", "alice"), None)
    assert ref() != ("Account", "alice")


def test_a_ref_shows_its_address() -> None:
    assert repr(ref("a/b c")) == "<ref Account 'a/b c'>"
    assert ref().key == "alice"
    assert address_of(ref()) == ActorAddress("Account", "alice")


@pytest.mark.parametrize("name", ["state", "helper", "worth", "limit", "context", "deactivate", "nope"])
def test_what_is_no_message_is_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=r"Account.*\(deposit, withdraw\)") as caught:
        getattr(ref(), name)

    assert caught.value.name == name
    assert not hasattr(ref(), name)


def test_a_ref_cannot_be_changed() -> None:
    account = ref()

    with pytest.raises(AttributeError, match="a ref only carries messages"):
        account.state = {}
    with pytest.raises(AttributeError):
        account.__sender__ = None


def test_a_ref_lists_its_messages() -> None:
    assert dir(ref()) == ["deposit", "key", "withdraw"]
    assert type(ref()).__doc__ == "An account."


def test_a_copy_of_a_ref_is_the_ref() -> None:
    account = ref()

    assert copy.copy(account) is account
    assert copy.deepcopy([account])[0] is account


def test_a_ref_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="is not pickled"):
        pickle.dumps(ref())


def test_only_actors_have_an_address() -> None:
    with pytest.raises(TypeError, match="is not a ref"):
        address_of(3)


class Transfer(msgspec.Struct):
    to: Account
    more: list[Account] = []
    last: Account | None = None


@dataclass
class Plain:
    to: Account


def test_refs_travel_wherever_a_value_may_stand() -> None:
    transfer = Transfer(ref("a"), [ref("b"), ref("c")], ref("d"))

    assert decoder(Transfer)(encode(transfer)) == transfer
    assert decoder(Plain)(encode(Plain(ref("a")))) == Plain(ref("a"))
    assert decoder(dict[str, Account])(encode({"x": ref()})) == {"x": ref()}


def test_a_base_class_takes_refs_to_all_that_derive_from_it() -> None:
    anything: Any = Actor
    savings = SAVINGS.ref_class.make(ActorAddress("Savings", "s"), None)

    assert decoder(Account)(encode(savings)) == savings
    assert decoder(anything)(encode(savings)) == savings


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["Order", "x"], "a ref to Order where Account is expected"),
        (["Acount", "x"], "a ref to Acount where Account is expected"),
        (["Account", ""], "cannot be empty"),
        (["Account", "x" * 1025], "at most 1,024"),
        (["Account"], r"written as \[type, key\]"),
        ("alice", r"written as \[type, key\]"),
        (["Account", 3], r"written as \[type, key\]"),
    ],
)
def test_what_is_no_ref_of_that_type_is_refused(value: Any, said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        decoder(Account)(encode(value))


async def test_a_ref_without_a_client_says_where_to_get_one() -> None:
    with pytest.raises(RuntimeError, match=r"Take one from a client: client.get\(Account, 'alice'\)"):
        await ref().deposit(1)
    with pytest.raises(RuntimeError, match="belongs to no client"):
        await ref().deposit.tell(1)
