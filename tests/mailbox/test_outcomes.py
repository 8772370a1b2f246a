"""The outcomes of a batch, as the send script writes them down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._mailbox.outcomes import Code, Outcome, parse

OUTCOMES = st.lists(st.builds(Outcome, st.integers(0, 500), st.sampled_from(Code), st.binary(max_size=40)))


def text_of(outcomes: list[Outcome]) -> bytes:
    """Return what the script returns."""
    return b"".join(b"%d %s %d:%s" % (each.index, each.code.encode(), len(each.detail), each.detail) for each in outcomes)


@given(OUTCOMES)
def test_whatever_a_detail_holds_it_is_read_back(outcomes: list[Outcome]) -> None:
    """Answers are any bytes: digits, blanks and colons included."""
    assert parse(text_of(outcomes)) == outcomes


@given(message_id=st.text("0123456789ABCDEF", min_size=1), body=st.binary())
def test_a_stored_answer_is_told_from_its_message(message_id: str, body: bytes) -> None:
    """At the first blank."""
    assert Outcome(0, Code.DONE, message_id.encode() + b" " + body).done == (message_id, body)


def test_a_refusal_names_scope_limit_and_depth() -> None:
    """For the error's fields."""
    assert Outcome(3, Code.FULL, b"actor 100 117").full == ("actor", 100, 117)


def test_a_code_nobody_knows_is_a_bug() -> None:
    """Not an outcome to be passed over."""
    with pytest.raises(ValueError, match="surprise"):
        parse(b"0 surprise 0:")
