"""How deep bytes are nested, found out without recursion.

A decoder goes down one C stack frame for each level, and in a thread with a small stack
some hundred levels end the process. So bytes from outside are checked first.

Levels cost bytes: ``n`` of them need ``n`` bytes that open an array or a map. Most
messages have too few bytes, or too few of that kind, and are done in one C call; only
the rest is walked, token by token.
"""

from __future__ import annotations

_NO_CONTAINER = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))

# What follows a header byte. Scalars of fixed size: how many bytes; with a length: how many bytes of it, and what comes besides.
_FIXED = {
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
    0xD4: 2,
    0xD5: 3,
    0xD6: 5,
    0xD7: 9,
    0xD8: 17,
}
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1), 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
_SKIP = [
    0
    if byte in _SIZED or 0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF
    else 1 + (byte - 0xA0 if 0xA0 <= byte <= 0xBF else _FIXED.get(byte, 0))
    for byte in range(256)
]  # 0: not known from the header byte alone


def deeper_than(raw: bytes, limit: int) -> bool:
    """Return whether ``raw``, as msgpack, is nested over ``limit`` levels. Any bytes will do; O(n).

    Of bytes that are no msgpack it may say either, but never passes any that a decoder
    would follow deeper before it fails.
    """
    if len(raw) <= limit or len(raw.translate(None, _NO_CONTAINER)) <= limit:
        return False
    return _walk(raw, limit)


def _walk(raw: bytes, limit: int) -> bool:
    position, end, skip = 0, len(raw), _SKIP
    left = 1  # items still to come in the innermost open container
    outer: list[int] = []  # the same of those around it
    while position < end:
        byte = raw[position]
        size = skip[byte]
        if not size:
            size, items = _open(raw, position, byte)
            if items:
                outer.append(left - 1)
                if len(outer) > limit:
                    return True
                left = items + 1
            elif items is not None and len(outer) >= limit:
                return True
        position += size
        left -= 1
        while not left:
            if not outer:
                return False
            left = outer.pop()
    return False


def _open(raw: bytes, position: int, byte: int) -> tuple[int, int | None]:
    """Return the size of a token's header, with its content if it is a scalar, and for a container the number of its items."""
    if byte in _SIZED:
        width, besides = _SIZED[byte]
        return 1 + width + besides + int.from_bytes(raw[position + 1 : position + 1 + width]), None
    if byte <= 0x8F:
        return 1, 2 * (byte & 0x0F)
    if byte <= 0x9F:
        return 1, byte & 0x0F
    width = 2 if byte in (0xDC, 0xDE) else 4
    items = int.from_bytes(raw[position + 1 : position + 1 + width])
    return 1 + width, items if byte <= 0xDD else 2 * items
