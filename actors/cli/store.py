"""What the commands that look at a system ask Redis: one method per question, no decisions.

Every method raises :class:`~actors._redis.faults.RedisFault`. All but :meth:`forget` only read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from actors._redis import scripts
from actors.wire.envelope import Unreadable, decode

if TYPE_CHECKING:
    from actors._redis.connection import Connection
    from actors._redis.keys import Keys

PAGE: Final = 500
"""Entries of one read."""

LABELS: Final = 1000
"""Shards of one script call: one key each."""


class Depth(msgspec.Struct, frozen=True):
    """What waits in one shard."""

    label: str
    mailbox: int
    """Messages in the shard's stream, those that are being handled included."""
    backlog: int
    """Messages in the backlogs of its held actors."""
    oldest_age: float | None
    """Age of the first message in the stream, in seconds; ``None`` where there is none."""


class Entry(msgspec.Struct, frozen=True):
    """One stored message."""

    id: str
    payload: bytes


class SystemStore:
    """A system's data over one connection."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def time_ms(self) -> int:
        """Return the server's time."""
        seconds, micros = await self._connection.execute("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def depths(self, labels: Sequence[str]) -> list[Depth]:
        """Return what waits in each of the shards."""
        found: list[Depth] = []
        for start in range(0, len(labels), LABELS):
            batch = labels[start : start + LABELS]
            keys = [self._keys.backlogs, *(self._keys.mailbox(label) for label in batch)]
            now, *rest = await scripts.run(self._connection, scripts.load("depths"), keys, batch)
            for place, label in enumerate(batch):
                length, first, backlog = rest[place * 3 : place * 3 + 3]
                age = max(0.0, (int(now) - int(first.partition(b"-")[0])) / 1000) if first else None
                found.append(Depth(label, length, backlog, age))
        return found

    async def lease_left(self, incarnations: Sequence[str]) -> dict[str, float]:
        """Return the seconds each lease has left; those that are gone are not there."""
        answers: list[int] = await asyncio.gather(
            *(self._connection.execute("PTTL", self._keys.lease(incarnation)) for incarnation in incarnations)
        )
        return {incarnation: left / 1000 for incarnation, left in zip(incarnations, answers, strict=True) if left > 0}

    async def held(self, label: str) -> dict[str, bytes]:
        """Return the actors of a shard that run from their backlog: ``type:key`` → record."""
        flat = await self._connection.execute("HGETALL", self._keys.held(label))
        return {flat[place].decode(errors="surrogateescape"): flat[place + 1] for place in range(0, len(flat), 2)}

    async def held_record(self, label: str, actor_type: str, key: str) -> bytes | None:
        """Return the record of an actor that runs from its backlog."""
        record: bytes | None = await self._connection.execute("HGET", self._keys.held(label), f"{actor_type}:{key}")
        return record

    async def state(self, actor_type: str, key: str) -> tuple[bytes | None, float | None]:
        """Return an actor's stored state and, where it expires, the seconds it has left."""
        name = self._keys.state(actor_type, key)
        raw, left = await asyncio.gather(self._connection.execute("GET", name), self._connection.execute("PTTL", name))
        return raw, left / 1000 if left >= 0 else None

    async def mailbox(self, label: str, *, limit: int) -> AsyncIterator[Entry]:
        """Yield the first entries of a shard's stream, ``limit`` at most."""
        async for entry in self._entries(self._keys.mailbox(label), limit):
            yield entry

    async def backlog_length(self, label: str, actor_type: str, key: str) -> int:
        """Return how many messages wait in an actor's backlog."""
        length: int = await self._connection.execute("XLEN", self._keys.backlog(label, actor_type, key))
        return length

    async def backlog(self, label: str, actor_type: str, key: str, *, limit: int) -> AsyncIterator[Entry]:
        """Yield the first messages of an actor's backlog, ``limit`` at most."""
        async for entry in self._entries(self._keys.backlog(label, actor_type, key), limit):
            yield entry

    async def timers(self, label: str, *, limit: int) -> list[tuple[int, bytes]]:
        """Return the next delayed messages of a shard: due time in ms, envelope."""
        flat = await self._connection.execute("ZRANGE", self._keys.timers(label), 0, limit - 1, "WITHSCORES")
        if not flat:
            return []
        values = await self._connection.execute("HMGET", self._keys.timer_values(label), *flat[::2])
        return [(int(float(due)), value) for due, value in zip(flat[1::2], values, strict=True) if value is not None]

    async def stored(self, actor_type: str | None) -> AsyncIterator[tuple[str, str]]:
        """Yield type and key of every actor with stored state, as SCAN comes by them; now and then one twice."""
        prefix = self._keys.state(actor_type, "") if actor_type is not None else f"{self._keys.tag}:s:"
        pattern = "".join(f"\\{letter}" if letter in "*?[]^-\\" else letter for letter in prefix) + "*"
        cursor: bytes = b"0"
        while True:
            cursor, names = await self._connection.execute("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            for name in names:
                found, _, key = name.decode(errors="replace")[len(self._keys.tag) + 3 :].partition(":")
                yield found, key
            if cursor == b"0":
                return

    async def dead_letters_of(self, actor_type: str, key: str, *, limit: int) -> AsyncIterator[dict[str, str]]:
        """Yield reason and error of an actor's dead letters, oldest first, looking through ``limit`` at most."""
        async for entry, fields in self._read(self._keys.dead, limit):
            try:
                envelope = decode(fields.get(b"d", b""))
            except Unreadable:
                continue
            if (envelope.type, envelope.key) == (actor_type, key):
                yield {"id": entry, "reason": _text(fields, b"r"), "error": _text(fields, b"e")}

    async def counts(self) -> tuple[int, int, int]:
        """Return how many dead letters there are, how many were dropped for lack of room, and how many messages are parked."""
        dead, dropped, parked = await asyncio.gather(
            self._connection.execute("XLEN", self._keys.dead),
            self._connection.execute("GET", self._keys.dead_lost),
            self._connection.execute("XLEN", self._keys.parked),
        )
        return dead, int(dropped or 0), parked

    async def forget(self, label: str, actor_type: str, key: str) -> bool:
        """Delete an actor's state and free its shard in one step; return whether there was a state."""
        keys = self._keys
        names = [keys.own, keys.control, keys.mailbox(label), keys.marks(label), keys.state(actor_type, key)]
        deleted: int = await scripts.run(self._connection, scripts.load("forget"), names, [label])
        return deleted > 0

    async def _entries(self, stream: str, limit: int) -> AsyncIterator[Entry]:
        async for entry, fields in self._read(stream, limit):
            yield Entry(entry, fields.get(b"d", b""))

    async def _read(self, stream: str, limit: int) -> AsyncIterator[tuple[str, dict[bytes, bytes]]]:
        start = "-"
        while limit > 0:
            page: list[Any] = await self._connection.execute("XRANGE", stream, start, "+", "COUNT", min(PAGE, limit))
            for entry, flat in page:
                yield entry.decode(), dict(zip(flat[::2], flat[1::2], strict=False))
            limit -= len(page)
            if len(page) < PAGE:
                return
            start = "(" + page[-1][0].decode()


def _text(fields: dict[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode(errors="replace")
