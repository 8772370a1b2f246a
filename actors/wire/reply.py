"""The body of a reply: a msgpack array of a status and what it says.

======  ==========================================================
status  body
======  ==========================================================
0       the value
1       a domain error
2       an error of ours: its reason and its evidence
3       a group of domain errors, groups inside it included
4       an item of a streaming reply
5       the end of a streaming reply
6       a notice, before the reply: why it may take long
======  ==========================================================

A value is copied behind two fixed bytes and decoded from behind them: the status of
what nearly every reply is costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from actors.errors import ClusterError, RemoteError, SerializationFailed, error_from_wire, error_to_wire, is_domain_error, members
from actors.wire import domain
from actors.wire.depth import deeper_than

if TYPE_CHECKING:
    from collections.abc import Callable

VALUE, DOMAIN_ERROR, CLUSTER_ERROR, ERROR_GROUP, ITEM, END, NOTICE = range(7)

# The head of a body: a msgpack array of two, and the status.
_VALUE: Final = bytes((0x92, VALUE))
_ITEM: Final = bytes((0x92, ITEM))
_CLUSTER_ERROR: Final = bytes((0x92, CLUSTER_ERROR))
_NOTICE: Final = bytes((0x92, NOTICE))
_END_BODY: Final = bytes((0x92, END, 0xC0))
_MAX_DEPTH: Final = 64
_LONGEST_TEXT: Final = 4096


class End:
    """A streaming reply is over."""


END_OF_STREAM: Final = End()


class Method(Protocol):
    """What decoding a reply needs to know of the method."""

    @property
    def decode_reply(self) -> Callable[..., Any]:
        """``(raw, sender, key)``: the value in ``raw``."""
        ...


def encode_value(raw: bytes) -> bytes:
    """Return the body that carries an encoded value."""
    return _VALUE + raw


def encode_item(raw: bytes) -> bytes:
    """Return the body that carries one encoded item of a stream."""
    return _ITEM + raw


def encode_end() -> bytes:
    """Return the body that ends a stream."""
    return _END_BODY


def encode_error(error: BaseException, *, actor_type: str = "", key: str = "", method: str = "", attempts: int = 1) -> bytes:
    """Return the body that carries an error. Never raises.

    Domain errors, and groups of nothing else, arrive as they are; so does a
    :class:`ClusterError`; anything else becomes a :class:`RemoteError` of the given actor,
    method and number of attempts.
    """
    where = {"actor_type": actor_type, "key": key, "method": method}
    if is_domain_error(error):
        try:
            return _encode_domain_error(error)
        except Exception as problem:  # noqa: BLE001 - a field's own encoding may raise anything
            error = SerializationFailed(what=f"error {type(error).__qualname__}", problem=_text(problem), **where)
    if not isinstance(error, ClusterError) or type(error).__module__ != ClusterError.__module__:
        error = RemoteError(type_name=type(error).__qualname__, message=_text(error), attempts=attempts, **where)
    return _CLUSTER_ERROR + _encode_ours(error)


def encode_notice(error: ClusterError) -> bytes:
    """Return the body that tells an asker what its call waits for: the error it ends with should its deadline pass."""
    return _NOTICE + _encode_ours(error)


def is_item(raw: bytes) -> bool:
    """Return whether the body is an item of a streaming reply, and not its end or an error."""
    return raw[:2] == _ITEM


def is_notice(raw: bytes) -> bool:
    """Return whether the body is a notice, behind which the reply is still to come."""
    return raw[:2] == _NOTICE


def read_notice(raw: bytes) -> ClusterError:
    """Return the error in a notice."""
    error = _error_in(raw)
    return error if isinstance(error, ClusterError) else SerializationFailed(what="notice received", problem=_text(error))


def decode(raw: bytes, method: Method, sender: object = None, key: str = "") -> Any:
    """Return the value or item in a reply's body, or :data:`END_OF_STREAM`; raise the error that it carries.

    Raises :class:`SerializationFailed` for a body that cannot be read.
    """
    status = raw[:2]
    if status in (_VALUE, _ITEM):
        return method.decode_reply(raw[2:], sender, key)
    if raw == _END_BODY:
        return END_OF_STREAM
    raise _error_in(raw)


def _error_in(raw: bytes) -> BaseException:
    try:
        if deeper_than(raw, _MAX_DEPTH):
            raise ValueError(f"nested over {_MAX_DEPTH} levels")
        status, body = _decode_body(raw)
        if status == DOMAIN_ERROR:
            return domain.from_wire(_decode_domain(body))
        if status == ERROR_GROUP:
            return domain.group_from_wire(_decode_group(body))
        if status in (CLUSTER_ERROR, NOTICE):
            return error_from_wire(*_decode_cluster(body))
        raise ValueError(f"status {status} is none this version knows")
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        return SerializationFailed(what="reply received", problem=str(problem))


def _encode_ours(error: ClusterError) -> bytes:
    reason, evidence = error_to_wire(error)
    try:
        return _encode_evidence((reason, evidence))
    except UnicodeEncodeError:
        return _encode_evidence(
            (reason, {name: _printable(value) if isinstance(value, str) else repr(value) for name, value in evidence.items()})
        )


def _encode_domain_error(error: Any) -> bytes:
    if members(error) is None:
        return msgspec.msgpack.encode((DOMAIN_ERROR, domain.to_wire(error)))
    return msgspec.msgpack.encode((ERROR_GROUP, domain.group_to_wire(error)))


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 - its __str__ is the application's
        return f"(its text failed with {type(second).__qualname__})"
    return _printable(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()  # half a surrogate pair has no encoding


_encode_evidence = msgspec.msgpack.Encoder(enc_hook=repr).encode
_decode_body = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw]).decode
_decode_domain = msgspec.msgpack.Decoder(domain.Flat).decode
_decode_group = msgspec.msgpack.Decoder(domain.Group).decode
_decode_cluster = msgspec.msgpack.Decoder(tuple[str, dict[str, Any]]).decode
