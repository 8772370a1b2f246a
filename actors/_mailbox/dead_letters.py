"""Messages that were set aside: looked at, replayed, purged.

A replayed message goes to the end of its shard's mailbox as a tell under its old id: its
asker was answered when it died. What could not be read as a message cannot be replayed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from actors._redis import scripts
from actors._redis.connection import Connection
from actors._redis.faults import RedisFault
from actors._redis.keys import Keys
from actors.errors import PersistenceFailed
from actors.wire.envelope import Envelope, Extra, Unreadable, decode, encode

_PAGE = 200


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One message that was set aside."""

    id: str
    """Its place among the dead letters, for show, replay and purge."""
    reason: str
    """In a word: ``attempts``, ``crashes``, ``unknown``, ``mailbox_full``, ``not_msgpack`` …"""
    error: str
    """The last error, in words."""
    at: float
    """When it was set aside, in seconds since 1970 by Redis' clock."""
    shard: str
    entry: str
    """The mailbox entry it was; empty where it never got that far."""
    attempts: int
    actor_type: str
    """Empty, like the next three, where it could not be read as a message."""
    key: str
    method: str
    message_id: str
    arguments: Any
    """Decoded as plain values; ``None`` where they cannot be."""
    raw: bytes
    """The envelope as it was sent."""

    @property
    def replayable(self) -> bool:
        """Whether it is a message at all."""
        return bool(self.actor_type)


class DeadLetters:
    """The dead letters of one system."""

    def __init__(self, connection: Callable[[], Awaitable[Connection]], keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def count(self) -> int:
        """Return how many there are."""
        return int(await self._execute("XLEN", self._keys.dead))

    async def dropped(self) -> int:
        """Return how many were dropped so far because there were too many."""
        return int(await self._execute("GET", self._keys.dead_lost) or 0)

    async def list(
        self,
        *,
        actor_type: str | None = None,
        key: str | None = None,
        method: str | None = None,
        reason: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[DeadLetter]:
        """Yield those that match, the oldest first, at most ``limit``."""
        start, found = "-", 0
        while True:
            page = await self._execute("XRANGE", self._keys.dead, start, "+", "COUNT", _PAGE)
            for entry, flat in page:
                letter = _read(entry, flat)
                if (
                    actor_type not in {None, letter.actor_type}
                    or key not in {None, letter.key}
                    or method not in {None, letter.method}
                    or reason not in {None, letter.reason}
                ):
                    continue
                yield letter
                found += 1
                if limit is not None and found >= limit:
                    return
            if len(page) < _PAGE:
                return
            start = f"({page[-1][0].decode()}"

    async def show(self, letter_id: str) -> DeadLetter | None:
        """Return one, or ``None`` if it is not there (any more)."""
        page = await self._execute("XRANGE", self._keys.dead, letter_id, letter_id)
        return _read(*page[0]) if page else None

    async def replay(self, letters: Sequence[DeadLetter]) -> int:
        """Put these back into their mailboxes; return how many went. Safe to repeat: none goes twice."""
        moved = 0
        replayable = [letter for letter in letters if letter.replayable]
        for at in range(0, len(replayable), _PAGE):
            some = replayable[at : at + _PAGE]
            moved += await self._run(
                "put_back",
                [self._keys.dead, *(self._keys.mailbox(letter.shard) for letter in some)],
                [part for letter in some for part in (letter.id, _again(letter.raw))],
            )
        return moved

    async def purge(self, letters: Sequence[DeadLetter]) -> int:
        """Delete these for good; return how many were there."""
        gone = 0
        for at in range(0, len(letters), _PAGE):
            some = letters[at : at + _PAGE]
            gone += int(await self._execute("XDEL", self._keys.dead, *(letter.id for letter in some)))
        return gone

    async def _execute(self, *command: Any) -> Any:
        connection = await self._connection()
        try:
            return await connection.execute(*command)
        except RedisFault as fault:
            raise PersistenceFailed(problem=str(fault)) from fault

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> int:
        connection = await self._connection()
        try:
            return int(await scripts.run(connection, scripts.load(script), keys, args))
        except RedisFault as fault:
            raise PersistenceFailed(problem=str(fault)) from fault


def _read(entry: bytes, flat: Sequence[bytes]) -> DeadLetter:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    raw = fields.get(b"d", b"")
    envelope: Envelope | None
    try:
        envelope = decode(raw)
    except Unreadable:
        envelope = None
    arguments: Any = None
    if envelope is not None:
        try:
            arguments = msgspec.msgpack.decode(envelope.args)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            arguments = None

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode(errors="replace")

    return DeadLetter(
        id=entry.decode(),
        reason=text(b"r"),
        error=text(b"e"),
        at=int(text(b"t") or 0) / 1000,
        shard=text(b"s"),
        entry=text(b"i"),
        attempts=int(text(b"a") or 0),
        actor_type=envelope.type if envelope is not None else "",
        key=envelope.key if envelope is not None else "",
        method=envelope.method if envelope is not None else "",
        message_id=envelope.id if envelope is not None else "",
        arguments=arguments,
        raw=raw,
    )


def _again(raw: bytes) -> bytes:
    """Return the envelope of a replay: nobody waits for it, and it has no deadline."""
    envelope = decode(raw)
    headers = envelope.extra.headers if envelope.extra is not None else None
    return encode(
        Envelope(
            envelope.version,
            envelope.type,
            envelope.key,
            envelope.method,
            envelope.args,
            envelope.id,
            extra=Extra(headers=headers) if headers else None,
        )
    )
