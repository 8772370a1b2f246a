"""Replies: the caller gets the value, or the error, that the callee had."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import (
    ClusterError,
    DomainError,
    IdempotencyConflict,
    MailboxFull,
    RemoteError,
    SerializationFailed,
    UnknownMessage,
    members,
)
from actors.wire import domain, reply


class Integers:
    """The part of a method that a reply needs."""

    def decode_reply(self, raw: bytes, sender: object = None, key: str = "") -> Any:
        return msgspec.msgpack.decode(raw, type=int)


@dataclass
class LowBalance(DomainError):
    balance: int
    requested: int = 0


@dataclass
class Late(DomainError):
    due: datetime
    by: float = 0.0

    def __post_init__(self) -> None:
        self.text = f"{self.by:g} s late"

    def __str__(self) -> str:
        return self.text


@dataclass
class Rejected(DomainError):
    cause: LowBalance | None
    others: list[DomainError]


class Closed(DomainError):
    pass


def crossed(error: BaseException) -> BaseException:
    """The error, once it has been sent and received."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        reply.decode(reply.encode_error(error), Integers())
    return caught.value


def test_a_value_comes_back() -> None:
    assert reply.decode(reply.encode_value(b"\x2a"), Integers()) == 42


def test_items_come_back_and_then_the_end() -> None:
    bodies = [reply.encode_item(b"\x01"), reply.encode_item(b"\x02"), reply.encode_end()]

    assert [reply.decode(body, Integers()) for body in bodies] == [1, 2, reply.END_OF_STREAM]


@pytest.mark.parametrize(
    "error",
    [LowBalance(1, 2), Late(datetime(2026, 1, 2, tzinfo=UTC), by=1.5), Closed(), Closed("today", 3), Rejected(None, [])],
)
def test_a_domain_error_arrives_as_itself(error: DomainError) -> None:
    again = crossed(error)

    assert type(again) is type(error)
    assert (vars(again), again.args, str(again)) == (vars(error), error.args if isinstance(error, Closed) else again.args, str(error))
    assert traceback.format_exception(again)  # one made by msgspec itself would end the process here


def test_errors_inside_errors_arrive_as_what_they_are() -> None:
    """Under a field annotated with the base class, too."""
    error = Rejected(LowBalance(1, 2), [LowBalance(3, 4), Closed("today")])

    again = crossed(error)

    assert isinstance(again, Rejected)
    assert again.cause == LowBalance(1, 2)
    assert [type(other) for other in again.others] == [LowBalance, Closed]
    assert str(again) == str(error)


def test_a_group_arrives_with_its_groups() -> None:
    group = ExceptionGroup("all", [LowBalance(1), ExceptionGroup("inner", [Closed("a"), Closed("b")])])

    again = crossed(group)

    inside = members(again)
    assert inside is not None
    first, inner = inside
    assert (str(again), first) == (str(group), LowBalance(1))
    assert [error.args for error in members(inner) or ()] == [("a",), ("b",)]


def test_a_group_with_a_defect_in_it_is_a_defect() -> None:
    again = crossed(ExceptionGroup("mixed", [LowBalance(1), KeyError("x")]))

    assert isinstance(again, RemoteError)
    assert again.type_name == "ExceptionGroup"


def test_an_error_of_ours_arrives_as_itself() -> None:
    again = crossed(IdempotencyConflict(idempotency_key="k", actor_type="Account", key="alice", method="deposit"))

    assert isinstance(again, IdempotencyConflict)
    assert again.evidence() == {"idempotency_key": "k", "actor_type": "Account", "key": "alice", "method": "deposit"}


def test_a_defect_arrives_with_its_name_and_text() -> None:
    with pytest.raises(RemoteError) as caught:
        reply.decode(reply.encode_error(KeyError("x"), actor_type="Account", key="alice", method="deposit", attempts=5), Integers())

    assert (caught.value.type_name, caught.value.message, caught.value.attempts) == ("KeyError", "'x'", 5)
    assert "Account.deposit of 'alice'" in str(caught.value)


def test_an_error_that_cannot_even_say_what_it_is() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    again = crossed(Mute())

    assert isinstance(again, RemoteError)
    assert again.type_name.endswith("Mute")


class Unfinished(ClusterError):
    """An application's own, which it should not have made one of ours."""


@given(st.sampled_from([ValueError, KeyError, Closed, Unfinished]), st.text(st.characters(categories=["Cs", "L"])) | st.just("x" * 100_000))
def test_every_error_is_sent_somehow(cls: type[Exception], text: str) -> None:
    """Half surrogate pairs, endless texts, classes of unknown make."""
    body = reply.encode_error(cls(text))

    assert len(body) < 20_000 or cls is Closed
    with pytest.raises((DomainError, ClusterError)):
        reply.decode(body, Integers())


def test_evidence_that_has_no_encoding_is_sent_as_it_can() -> None:
    again = crossed(IdempotencyConflict(idempotency_key="a\ud800", key="k"))

    assert isinstance(again, IdempotencyConflict)
    assert (again.idempotency_key, again.key) == ("a?", "k")


def test_a_field_that_has_no_encoding_is_named_instead() -> None:
    error: Any = LowBalance
    again = crossed(error(balance=object()))

    assert isinstance(again, SerializationFailed)
    assert again.what == "error LowBalance"


def test_a_class_that_the_caller_does_not_have() -> None:
    flat = domain.Flat("app.orders:KnownElsewhere", msgspec.Raw(b"\x80"), "item=7")

    error = domain.from_wire(flat)

    assert isinstance(error, RemoteError)
    assert (error.type_name, error.message) == ("KnownElsewhere", "item=7")


def test_a_class_that_has_moved_is_found_by_its_short_name() -> None:
    """In a rolling deploy, one side has it in another module."""
    sent = domain.to_wire(LowBalance(5))

    error = domain.from_wire(msgspec.structs.replace(sent, name="bank.old:LowBalance"))

    assert error == LowBalance(5)


def test_two_classes_of_one_name_are_told_apart() -> None:
    class LowBalance(DomainError):  # the module has one, too
        pass

    assert type(crossed(LowBalance())) is LowBalance
    assert isinstance(domain.from_wire(domain.Flat("elsewhere:LowBalance", msgspec.Raw(b"\x80"))), RemoteError)


def test_fields_of_another_release() -> None:
    """More than here: passed over. Fewer: the defaults. Of another kind: told in words."""
    name = domain.to_wire(LowBalance(1)).name

    def sent(**fields: object) -> Exception:
        return domain.from_wire(domain.Flat(name, msgspec.Raw(msgspec.msgpack.encode(fields)), "as text"))

    assert sent(balance=1, currency="EUR") == LowBalance(1)
    assert sent(balance=1) == LowBalance(1, 0)
    other = sent(balance="none")
    assert isinstance(other, RemoteError)
    assert "as text" in other.message
    assert "Expected `int`, got `str`" in other.message


@given(st.binary(max_size=200).map(lambda raw: b"\x92" + raw) | st.binary(max_size=200))
def test_any_body_is_a_value_or_an_error_of_ours(raw: bytes) -> None:
    try:
        reply.decode(raw, Integers())
    except (ClusterError, DomainError, ExceptionGroup, msgspec.MsgspecError, ValueError):
        pass  # the last two are the method's own, and msgspec's only here


def test_a_body_nested_too_deep_is_refused() -> None:
    with pytest.raises(SerializationFailed, match="levels"):
        reply.decode(b"\x92\x03" + b"\x91" * 10_000, Integers())


def test_a_notice_says_what_a_call_waits_for() -> None:
    """It is no reply: that is still to come."""
    body = reply.encode_notice(UnknownMessage(actor_type="Account", method="close"))

    assert reply.is_notice(body)
    assert not any(map(reply.is_notice, (reply.encode_value(b"\x01"), reply.encode_error(MailboxFull(scope="actor")), reply.encode_end())))
    assert isinstance(reply.read_notice(body), UnknownMessage)
    assert isinstance(reply.read_notice(body[:5]), SerializationFailed)
