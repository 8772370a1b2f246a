"""Errors: each says what happened, and says the same on the other side of the wire."""

from __future__ import annotations

import contextlib
import copy
import pickle
import traceback
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import errors
from actors.errors import (
    AskTimeout,
    CallCycle,
    ClusterError,
    ConfigurationError,
    DomainError,
    MailboxFull,
    PartialSend,
    Reason,
    RemoteError,
    UnknownActorType,
    UnknownMessage,
    error_from_wire,
    error_to_wire,
    is_domain_error,
    leaves,
)
from actors.message import Receipt

LEAVES = sorted((cls for cls in ClusterError.__subclasses__() if cls.__module__ == errors.__name__), key=lambda cls: cls.__name__)
REQUIRED = {
    "MailboxFull": {"scope": "actor"},
    "UnknownActorType": {"actor_type": "Acount"},
    "UnknownMessage": {"actor_type": "Account", "method": "deposite"},
    "ConfigurationError": {"setting": "lease", "problem": "is 0"},
}


def made(cls: type[ClusterError]) -> ClusterError:
    return cls(**REQUIRED.get(cls.__name__, {}))


@dataclass
class Insufficient(DomainError):
    balance: int
    requested: int
    who: list[str] = field(default_factory=list[str])


class Closed(DomainError):
    pass


def test_there_is_one_class_for_each_reason() -> None:
    """So that ``match error.reason`` with ``assert_never`` covers them all."""
    assert {cls.reason for cls in LEAVES} == set(Reason)
    assert len(LEAVES) == len(Reason)


TABLE = """
MailboxFull yes not_delivered
PayloadTooLarge no not_delivered
SerializationFailed no not_delivered
MalformedMessage no not_delivered
UnknownActorType no not_delivered
UnknownMessage no not_delivered
IdempotencyConflict no not_delivered
AskTimeout yes unknown
RunnerUnavailable yes not_delivered
PersistenceFailed yes unknown
RemoteError no failed
DeadLettered no failed
ActivationFailed yes not_delivered
CallCycle no not_delivered
CallTooDeep no not_delivered
StreamInterrupted yes unknown
Fenced no unknown
Suspended no unknown
PartialSend no unknown
ConfigurationError no not_delivered
"""


@pytest.mark.parametrize("line", TABLE.split("\n")[1:-1])
def test_what_may_be_retried_and_what_became_of_the_message(line: str) -> None:
    name, retryable, outcome = line.split()
    error = made(getattr(errors, name))

    assert (error.retryable, error.outcome) == (retryable == "yes", outcome)


@pytest.mark.parametrize("cls", LEAVES)
def test_every_error_crosses_the_wire_as_itself(cls: type[ClusterError]) -> None:
    error = made(cls)
    raw = msgspec.msgpack.encode(error_to_wire(error))

    rebuilt = error_from_wire(*msgspec.msgpack.decode(raw, type=tuple[str, dict[str, Any]]))

    assert type(rebuilt) is cls
    assert str(rebuilt) == str(error)
    assert rebuilt.evidence() == error.evidence()


@pytest.mark.parametrize("cls", LEAVES)
def test_every_error_is_copied_and_pickled(cls: type[ClusterError]) -> None:
    """Test runners and process pools of the application do that."""
    error = made(cls)

    copies = [copy.copy(error), pickle.loads(pickle.dumps(error))]

    assert [(type(other), str(other)) for other in copies] == [(cls, str(error))] * 2


@given(
    reason=st.sampled_from([*Reason, "reason_of_next_year"]),
    evidence=st.dictionaries(
        st.sampled_from(["scope", "limit", "depth", "key", "known", "chain", "setting", "actor_type", "stage", "colour"]),
        st.none() | st.integers() | st.text() | st.floats() | st.lists(st.integers() | st.text()) | st.booleans(),
    ),
)
def test_evidence_of_another_release_never_breaks_the_error(reason: str, evidence: dict[str, object]) -> None:
    error = error_from_wire(reason, evidence)

    assert isinstance(error, ClusterError)
    assert str(error)


def test_an_unknown_reason_keeps_its_name() -> None:
    error = error_from_wire("out_of_coffee", {"cups": 0})

    assert isinstance(error, RemoteError)
    assert (error.type_name, error.message) == ("out_of_coffee", "cups=0")


def test_the_message_says_what_where_why_and_what_to_do() -> None:
    error = MailboxFull(scope="actor", limit=10_000, depth=10_000, actor_type="Account", key="alice")

    assert str(error) == (
        "Account 'alice': its backlog is full, 10,000 messages of at most 10,000 wait. Send slower or later, or raise backlog_capacity"
    )


@pytest.mark.parametrize("stage", ["queued", "running", "no_runner", "unknown"])
def test_a_timeout_says_what_the_message_was_doing(stage: Any) -> None:
    error = AskTimeout(timeout=2, stage=stage, seconds=1.5, actor_type="Account", key="alice", method="deposit", waiting_on="Order/7")

    assert "Account.deposit of 'alice'" in str(error)
    assert "within 2 s" in str(error)
    assert "waiting on Order/7" in str(error)


def test_a_misspelt_name_is_answered_with_the_likely_one() -> None:
    unknown_type = UnknownActorType(actor_type="Acount", known=["Account", "Order"])
    unknown_message = UnknownMessage(actor_type="Account", method="depositt", known=["deposit", "withdraw"])
    unlike_any = UnknownMessage(actor_type="Account", method="xyz", known=["withdraw", "deposit"])

    assert "Did you mean 'Account'?" in str(unknown_type)
    assert "Did you mean 'deposit'?" in str(unknown_message)
    assert "Known are deposit, withdraw." in str(unlike_any)


def test_a_cycle_is_drawn() -> None:
    assert "A/1 → B/2 → A/1" in str(CallCycle(chain=["A/1", "B/2", "A/1"]))


def test_a_configuration_error_is_two_sentences() -> None:
    assert str(ConfigurationError(setting="lease", problem="is 0", hint="set it above 0")) == "lease is 0. Set it above 0."


def test_a_partial_send_keeps_what_became_of_each_message() -> None:
    full = MailboxFull(scope="shard", shard="default.3")
    error = PartialSend(results=[Receipt("1", duplicate=False), full])

    assert error.results == [Receipt("1", duplicate=False), full]
    assert str(error).startswith("1 of 2 messages were refused")


# The application's own


def test_a_domain_error_names_its_fields() -> None:
    """Also when it was built by keywords, where a plain exception would have an empty text."""
    assert str(Insufficient(balance=1, requested=2)) == "balance=1, requested=2, who=[]"


def test_domain_errors_are_equal_by_value_and_hashable() -> None:
    """What compares equal has to have one hash, lists in it or not."""
    one: Any = Insufficient(1, 2, ["x"])
    other: Any = Insufficient(1, 2, ["x"])

    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


def test_a_domain_error_is_raised_through_what_python_does_to_exceptions() -> None:
    @contextlib.contextmanager
    def through() -> Any:
        yield

    with pytest.raises(Insufficient) as caught, through():
        error = Insufficient(1, 2)
        error.add_note("noted")
        raise error from ValueError("cause")

    assert "Insufficient" in "".join(traceback.format_exception(caught.value))


def test_a_domain_error_is_copied_and_pickled() -> None:
    error = Insufficient(balance=1, requested=2)

    assert copy.copy(error) == pickle.loads(pickle.dumps(error)) == error
    assert pickle.loads(pickle.dumps(Closed("today"))).args == ("today",)


def test_one_without_fields_may_be_a_plain_class() -> None:
    assert str(Closed("for today")) == "for today"


def test_fields_without_dataclass_are_refused() -> None:
    class Forgot(DomainError):
        limit: ClassVar[int] = 3
        code: int

    with pytest.raises(TypeError, match=r"Forgot has fields \(code\) but is no dataclass. Decorate it with @dataclass"):
        Forgot(3)


def test_fields_added_without_dataclass_are_refused() -> None:
    """Its parent's ``__init__`` would be used, and lose them in silence."""

    class More(Insufficient):
        currency: str

    with pytest.raises(TypeError, match=r"More has fields \(currency\)"):
        More(1, 2)


def test_a_frozen_one_is_refused() -> None:
    """Raising it would fail in another place, with another error."""

    @dataclass(frozen=True)
    class Frozen(DomainError):
        code: int

    with pytest.raises(TypeError, match="frozen dataclass cannot be raised"):
        Frozen(1)


def test_one_that_could_not_be_rebuilt_is_refused() -> None:
    class Own(DomainError):
        def __init__(self, code: int) -> None:
            self.code = code

    @dataclass
    class Hidden(DomainError):
        code: InitVar[int]

    @dataclass
    class Clash(DomainError):
        args: list[str]  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]

    @dataclass(init=False)
    class Bare(DomainError):
        code: int

    refused: list[tuple[Any, str]] = [
        (Own, "an __init__ of its own"),
        (Hidden, "InitVar code"),
        (Clash, "cannot be called args"),
        (Bare, "init=False"),
    ]
    for make, said in refused:
        with pytest.raises(TypeError, match=said):
            make(1)


def test_a_group_of_domain_errors_is_one() -> None:
    group = ExceptionGroup("both", [Closed(), ExceptionGroup("inner", [Insufficient(1, 2)])])

    assert is_domain_error(group)
    assert [type(leaf) for leaf in leaves(group)] == [Closed, Insufficient]
    assert not is_domain_error(ExceptionGroup("mixed", [Closed(), ValueError()]))
