"""Depth is found out without recursion, for any bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.wire.depth import deeper_than

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300)
    | st.text(alphabet="é🙂", max_size=20)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5) | st.integers(-9, 9), inner, max_size=20)
)


def depth(value: Any) -> int:
    items: Any = value
    if isinstance(value, dict):
        return 1 + max(map(depth, items.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, items), default=0)
    return 0


@given(VALUES, st.integers(0, 6))
def test_it_is_the_depth_of_what_was_encoded(value: Any, limit: int) -> None:
    assert deeper_than(msgspec.msgpack.encode(value), limit) == (depth(value) > limit)


@pytest.mark.parametrize(
    "opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01", b"\xde\x00\x01\x01", b"\xdf\x00\x00\x00\x01\x01"]
)
@pytest.mark.parametrize("limit", [1, 64, 512])
def test_the_limit_is_exact(opening: bytes, limit: int) -> None:
    assert not deeper_than(opening * limit + b"\xc0", limit)
    assert deeper_than(opening * (limit + 1) + b"\xc0", limit)


def test_keys_nest_too() -> None:
    """A map whose key is a map whose key is a map: a decoder follows that as well."""
    assert deeper_than(b"\x81" * 65 + b"\xc0" * 66, 64)


@given(st.binary(max_size=400), st.integers(0, 20))
@example(b"\xc6\xff\xff\xff\xff", 0)
@example(b"\xdf\xff\xff\xff\xff" + b"\x91" * 80, 64)
def test_any_bytes_will_do(raw: bytes, limit: int) -> None:
    """And those that a decoder could follow deeper than the limit are never passed."""
    deep = deeper_than(raw, limit)

    if not deep:
        assert decoder_depth(raw) <= limit


def decoder_depth(raw: bytes) -> int:
    """How deep a recursive decoder gets before its end or its first error."""
    deepest = 0
    position = 0

    def value(level: int) -> None:
        nonlocal position, deepest
        byte = raw[position]
        position += 1
        if byte <= 0x7F or byte >= 0xE0 or byte in (0xC0, 0xC1, 0xC2, 0xC3):
            return
        if 0xA0 <= byte <= 0xBF:
            position += byte - 0xA0
        elif 0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF:
            deepest = max(deepest, level + 1)
            if byte <= 0x9F:
                count = (byte & 15) * (2 if byte <= 0x8F else 1)
            else:
                width = 2 if byte in (0xDC, 0xDE) else 4
                count = int.from_bytes(raw[position : position + width]) * (1 if byte <= 0xDD else 2)
                position += width
            for _ in range(count):
                value(level + 1)
        elif byte in (0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB, 0xC7, 0xC8, 0xC9):
            width = {0xC4: 1, 0xD9: 1, 0xC7: 1, 0xC5: 2, 0xDA: 2, 0xC8: 2}.get(byte, 4)
            size = int.from_bytes(raw[position : position + width])
            position += width + size + (1 if 0xC7 <= byte <= 0xC9 else 0)
        else:
            position += {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}.get(byte) or 1 + (
                1 << (byte - 0xD4)
            )

    try:
        value(0)
    except IndexError:
        pass
    return deepest
