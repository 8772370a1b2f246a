"""The envelope of a message: who it is for, what it carries, where its reply goes.

A msgpack array, its version first. It only ever grows at its end, so that code reads
the envelopes of any later release of the same version; the arguments inside travel as a
map by name (:mod:`actors.wire.codec`) and are not looked at here.

:func:`decode` takes any bytes and either returns an envelope or raises
:class:`Unreadable`, whatever they are: a message that cannot be read must not stop the
reader of the messages behind it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal, TypeAlias

import msgspec

from actors.wire.depth import deeper_than

OLDEST, NEWEST = 1, 1
"""The wire versions that this code reads. It writes the one recorded in Redis."""

MAX_DEPTH = 64
_ANY_STACK = 256  # bytes, and so levels, that any thread's stack can take

Why: TypeAlias = Literal["not_msgpack", "wrong_version", "wrong_shape", "too_deep"]

_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Kind(IntEnum):
    """What an envelope asks of the actor's owner."""

    MESSAGE = 0
    CANCEL = 1
    """Forget the message whose id this carries, or cancel its turn."""
    NUDGE = 2
    """Timers of the shard have changed."""
    CREDIT = 3
    """A streaming reply may send more."""


class ReplyTo(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where a reply goes: the inbox of a client, and which of its calls."""

    inbox: str
    call: int


class Link(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One turn in the chain of asks that led here."""

    type: str
    key: str
    message_id: str


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The idempotency record of a message: the suffix of its key, and the prefix of its fields there."""

    suffix: str
    prefix: str


class Extra(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What few messages carry."""

    headers: dict[str, str] | None = None
    chain: tuple[Link, ...] = ()
    record: Record | None = None
    kind: Kind = Kind.MESSAGE
    attempt: _Count = 0


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One message on its way. ``args`` is an encoded map; ``budget_ms`` 0 means no deadline."""

    version: int
    type: _Name
    key: _Key
    method: str
    args: msgspec.Raw
    id: str
    reply: ReplyTo | None = None
    budget_ms: _Count = 0
    extra: Extra | None = None

    @property
    def kind(self) -> Kind:
        """What it asks for."""
        return Kind.MESSAGE if self.extra is None else self.extra.kind


class Unreadable(Exception):
    """These bytes are no envelope that this code can read."""

    def __init__(self, why: Why, detail: str) -> None:
        self.why: Why = why
        self.detail = detail
        super().__init__(f"{why.replace('_', ' ')}: {detail}")


encode = msgspec.msgpack.Encoder().encode
"""Return the envelope's bytes."""

_decode = msgspec.msgpack.Decoder(Envelope).decode


def decode(raw: bytes, *, max_depth: int = MAX_DEPTH) -> Envelope:
    """Return the envelope in ``raw``, or raise :class:`Unreadable`. Its arguments are nested at most ``max_depth - 1`` levels."""
    short = len(raw) <= _ANY_STACK
    if not short and deeper_than(raw, max_depth):
        raise _too_deep(max_depth)
    try:
        envelope = _decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _diagnosed(raw, error) from None
    if not OLDEST <= envelope.version <= NEWEST:
        raise Unreadable("wrong_version", _version_text(envelope.version))
    if short and len(envelope.args) >= max_depth and deeper_than(bytes(envelope.args), max_depth - 1):
        raise _too_deep(max_depth)
    return envelope


def _too_deep(limit: int) -> Unreadable:
    return Unreadable("too_deep", f"nested over {limit} levels")


def _diagnosed(raw: bytes, error: Exception) -> Unreadable:
    if not isinstance(error, msgspec.ValidationError):
        return Unreadable("not_msgpack", str(error))
    try:
        first = msgspec.msgpack.decode(raw, type=list[msgspec.Raw])[0]
        version = msgspec.msgpack.decode(first, type=int)
    except (msgspec.MsgspecError, ValueError, IndexError):
        return Unreadable("wrong_shape", str(error))
    if not OLDEST <= version <= NEWEST:
        return Unreadable("wrong_version", _version_text(version))
    return Unreadable("wrong_shape", str(error))


def _version_text(version: int) -> str:
    return f"wire version {version}, this code reads {OLDEST} to {NEWEST}"
