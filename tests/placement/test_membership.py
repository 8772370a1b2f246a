"""Member records, names that are taken, leases that are missing."""

from __future__ import annotations

import msgspec
import pytest

from actors._placement.membership import Absences, Holder, Member, decode, encode, renewed

MEMBER = Member(
    name="a", incarnation="0123456789abcdef", groups=("default", "gpu"), weight=2, types={"Account": ("deposit",)}, http="h:1", pid=7
)


def test_a_record_begins_with_the_incarnation_and_reads_as_it_was_written() -> None:
    raw = encode(MEMBER)

    assert raw[:16] == b"0123456789abcdef"
    assert decode(raw) == MEMBER


def test_records_of_newer_and_older_code_can_be_read() -> None:
    """In a rolling deploy both are on the list."""
    newer = b"f" * 16 + msgspec.msgpack.encode({**msgspec.structs.asdict(MEMBER), "invented_later": [1, 2]})
    older = b"f" * 16 + msgspec.msgpack.encode({"name": "a", "incarnation": "f" * 16})

    assert decode(newer) == MEMBER
    assert decode(older) == Member(name="a", incarnation="f" * 16)


@pytest.mark.parametrize("raw", [b"", b"f" * 16, b"f" * 16 + b"\xc1", b"f" * 16 + b"\x01"])
def test_what_is_no_record_is_an_error_of_one_kind(raw: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(raw)


def test_a_member_knows_its_types_and_methods() -> None:
    assert MEMBER.knows("Account")
    assert MEMBER.knows("Account", "deposit")
    assert not MEMBER.knows("Account", "withdraw")
    assert not MEMBER.knows("Order")


@pytest.mark.parametrize(
    ("before", "now", "alive"),
    [
        (Holder("a", 6.0), Holder("a", 9.9), True),
        (Holder("a", 6.0), Holder("a", 5.9), False),
        (Holder("a", 6.0), Holder("a", 6.0), False),
        (Holder("a", 6.0), Holder("a", 0.0), False),
        (Holder("a", 0.0), Holder("a", 10.0), True),
        (Holder("a", 6.0), Holder("b", 9.9), False),
        (Holder("a", 6.0), None, False),
    ],
)
def test_only_a_renewal_makes_time_to_live_grow(before: Holder, now: Holder | None, *, alive: bool) -> None:
    assert renewed(before, now) is alive


def test_one_look_without_a_lease_is_not_enough() -> None:
    """When Redis has stalled longer than a lease all are gone for a moment, until the waiting renewals are read."""
    absences = Absences(grace=0.3)
    absences.look({"a": True, "b": False}, now=10.0)
    assert absences.gone(now=10.0) == frozenset()
    assert absences.unconfirmed(now=10.0)
    absences.look({"a": True, "b": False}, now=10.3)

    assert absences.gone(now=10.3) == {"b"}
    assert not absences.unconfirmed(now=10.3)
    assert absences.since("b", default=99.0) == 10.0
    assert absences.since("a", default=99.0) == 99.0


def test_a_lease_that_is_back_counts_from_the_start_when_it_goes_again() -> None:
    absences = Absences(grace=0.3)
    absences.look({"a": False}, now=1.0)
    absences.look({"a": True}, now=1.2)
    absences.look({"a": False}, now=1.4)

    assert absences.gone(now=1.5) == frozenset()


def test_what_was_seen_before_an_outage_of_ones_own_proves_nothing() -> None:
    absences = Absences(grace=0.3)
    absences.look({"a": False}, now=1.0)
    absences.forget()
    absences.look({"a": False}, now=9.0)

    assert absences.gone(now=9.0) == frozenset()


def test_those_not_looked_at_any_more_are_forgotten() -> None:
    absences = Absences(grace=0.0)
    absences.look({"a": False}, now=1.0)
    absences.look({}, now=2.0)

    assert absences.gone(now=2.0) == frozenset()
