"""Envelopes: what goes in comes out, and nothing that comes in does harm."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.wire.envelope import NEWEST, Envelope, Extra, Kind, Link, Record, ReplyTo, Unreadable, decode, encode

TEXT = st.text(min_size=1, max_size=20)
EXTRAS = st.builds(
    Extra,
    headers=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
    chain=st.lists(st.builds(Link, TEXT, TEXT, TEXT), max_size=3).map(tuple),
    record=st.none() | st.builds(Record, TEXT, TEXT),
    kind=st.sampled_from(Kind),
    attempt=st.integers(0, 100),
)
ARGUMENTS = st.dictionaries(TEXT, st.integers(-(1 << 63), 1 << 63) | TEXT | st.lists(st.booleans(), max_size=5), max_size=4).map(
    msgspec.msgpack.encode
)
ENVELOPES = st.builds(
    Envelope,
    version=st.just(NEWEST),
    type=TEXT,
    key=TEXT,
    method=TEXT,
    args=ARGUMENTS.map(msgspec.Raw),
    id=TEXT,
    reply=st.none() | st.builds(ReplyTo, TEXT, st.integers(0, 1 << 40)),
    budget_ms=st.integers(0, 1 << 40),
    extra=st.none() | EXTRAS,
)


def plain(**changes: Any) -> Envelope:
    fields: dict[str, Any] = {
        "version": 1,
        "type": "Account",
        "key": "alice",
        "method": "deposit",
        "args": msgspec.Raw(b"\x81\xa6amount\x01"),
        "id": "m1",
    }
    return Envelope(**(fields | changes))


def outcome_of(raw: bytes) -> str:
    try:
        decode(raw)
    except Unreadable as error:
        return error.why
    return "an envelope"


@given(ENVELOPES)
def test_what_goes_in_comes_out(envelope: Envelope) -> None:
    again = decode(encode(envelope))

    assert bytes(again.args) == bytes(envelope.args)
    assert msgspec.structs.replace(again, args=b"") == msgspec.structs.replace(envelope, args=b"")  # Raw compares by identity


@given(st.binary(max_size=600))
@example(b"")
@example(b"\x91" * 100_000)
@example(b"\x99" + b"\x01" * 9)
def test_any_bytes_are_an_envelope_or_unreadable(raw: bytes) -> None:
    """A message that cannot be read must not stop the reader of those behind it."""
    assert outcome_of(raw) in ("an envelope", "not_msgpack", "wrong_version", "wrong_shape", "too_deep")


@given(ENVELOPES, st.data())
def test_a_damaged_envelope_is_an_envelope_or_unreadable(envelope: Envelope, data: st.DataObject) -> None:
    raw = bytearray(encode(envelope))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))

    assert outcome_of(bytes(raw[:cut])) in ("an envelope", "not_msgpack", "wrong_version", "wrong_shape", "too_deep")


@pytest.mark.parametrize("extra", [0, 300])
def test_arguments_may_be_nested_up_to_the_limit(extra: int) -> None:
    """The envelope is a level of its own. Short and long envelopes are looked at in different ways."""
    fitting = plain(id="m" * (1 + extra), args=msgspec.Raw(b"\x81\xa1x" + b"\x91" * 62 + b"\xc0"))
    deeper = plain(id="m" * (1 + extra), args=msgspec.Raw(b"\x81\xa1x" + b"\x91" * 63 + b"\xc0"))

    assert decode(encode(fitting)).id == fitting.id
    with pytest.raises(Unreadable) as caught:
        decode(encode(deeper))

    assert caught.value.why == "too_deep"


def test_a_newer_version_is_named() -> None:
    for raw in (encode(plain(version=2)), msgspec.msgpack.encode([2, {"all": "different"}])):
        with pytest.raises(Unreadable) as caught:
            decode(raw)

        assert caught.value.why == "wrong_version"
        assert "wire version 2" in caught.value.detail


def test_a_later_release_may_append() -> None:
    """Of the same version: what it adds at the end of an array is passed over."""
    items = msgspec.msgpack.decode(encode(plain(extra=Extra(attempt=3))))
    items[8].append("new")
    items.append({"newer": 1})

    assert decode(msgspec.msgpack.encode(items)).extra == Extra(attempt=3)


def test_an_earlier_release_may_end_sooner() -> None:
    items = msgspec.msgpack.decode(encode(plain()))[:6]

    assert decode(msgspec.msgpack.encode(items)).reply is None


@pytest.mark.parametrize("changes", [{"type": ""}, {"key": ""}, {"key": "x" * 1025}, {"budget_ms": -1}])
def test_what_no_sender_writes_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unreadable) as caught:
        decode(encode(plain(**changes)))

    assert caught.value.why == "wrong_shape"


def test_the_kind_is_a_message_unless_said_otherwise() -> None:
    kinds = [plain().kind, plain(extra=Extra()).kind, plain(extra=Extra(kind=Kind.CANCEL)).kind]

    assert kinds == [Kind.MESSAGE, Kind.MESSAGE, Kind.CANCEL]


def test_nesting_does_not_end_a_process_with_a_small_stack() -> None:
    """A decoder goes down one C frame a level; this has ended processes."""
    program = """
import threading
from actors.wire.envelope import Unreadable, decode
outcome = []
def read():
    envelope = b"\\x96\\x01\\xa1a\\xa1k\\xa1m"
    for raw in (b"\\x91" * 200_000, b"\\x99\\x01" + b"\\x91" * 200_000, envelope + b"\\x81\\xa1x" * 50_000, envelope + b"\\x91" * 248):
        try:
            decode(raw)
        except Unreadable as error:
            outcome.append(error.why)
threading.stack_size(64 * 1024)
thread = threading.Thread(target=read)
thread.start()
thread.join()
print(outcome)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['too_deep', 'too_deep', 'too_deep', 'not_msgpack']"
