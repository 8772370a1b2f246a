"""How a call is written down to be sent: its envelope, its bounds, the record it goes under. Pure.

A client and a turn send the same things in different ways; what both have to agree on is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from xxhash import xxh3_128_digest

from actors.errors import PayloadTooLarge
from actors.wire.depth import deeper_than
from actors.wire.envelope import Envelope, Extra, ReplyTo, encode

if TYPE_CHECKING:
    from actors.message import Outgoing
    from actors.settings import Settings


def written(
    call: Outgoing, message_id: str, settings: Settings, *, reply: ReplyTo | None = None, budget: int = 0, extra: Extra | None = None
) -> bytes:
    """Return the envelope of a call as it goes into the mailbox.

    ``budget``: ms until its caller gives up, 0 where nobody waits. Raises
    :class:`~actors.errors.PayloadTooLarge` if it is larger or deeper than the settings allow.
    """
    address = call.address
    payload = encode(Envelope(1, address.type, address.key, call.method, msgspec.Raw(call.payload), message_id, reply, budget, extra))
    if len(payload) > settings.max_payload:
        raise PayloadTooLarge(size=len(payload), limit=settings.max_payload, actor_type=address.type, key=address.key, method=call.method)
    if len(call.payload) > settings.max_depth and deeper_than(payload, settings.max_depth):
        raise PayloadTooLarge(limit=settings.max_depth, unit="levels", actor_type=address.type, key=address.key, method=call.method)
    return payload


def record_of(call: Outgoing) -> str:
    """Return the record suffix of an idempotency key, scoped to the actor it is used on."""
    address = call.address
    return f"i:{address.type}:{len(address.key)}:{address.key}:{call.options.idempotency_key}"


def digest_of(call: Outgoing) -> bytes:
    """Return a hash over what a call asks for: target, method, arguments."""
    address = call.address
    return xxh3_128_digest(b"\0".join((address.type.encode(), address.key.encode(), call.method.encode(), call.payload)))


def due_of(call: Outgoing) -> str | None:
    """Return when a delayed message is due, as the scripts read it: ``+ms`` from now, or ms since 1970."""
    options = call.options
    if options.after is not None:
        return f"+{int(options.after * 1000)}"
    return f"{int(options.at * 1000)}" if options.at is not None else None
