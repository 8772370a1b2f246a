"""What a change of the number of shards says to Redis: one method per step, no decisions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from actors._redis import scripts
from actors.cli.resharding import PARTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from actors._redis.connection import Connection
    from actors._redis.keys import Keys

PAGE: Final = 200


class ReshardStore:
    """One shard group's layout, old and new, over one connection."""

    def __init__(self, connection: Connection, keys: Keys, group: str) -> None:
        self._connection = connection
        self._keys = keys
        self._count = f"shards:{group}"
        self._progress = f"reshard:{group}"
        self._meta = f"{keys.tag}:z:{group}"

    # how far it is

    async def recorded(self) -> tuple[str, str]:
        """Return the recorded number of shards and the progress; empty where there is none."""
        count, progress = await self._connection.execute("HMGET", self._keys.facts, self._count, self._progress)
        return (count or b"").decode(), (progress or b"").decode()

    async def begin(self, old: int, new: int, members: Sequence[str], owners: Sequence[str]) -> str:
        """Close the group. Returns ``ok``, ``changed`` (look again), or the incarnation that is alive."""
        incarnations = [*members, *(owner for owner in owners if owner not in members)]
        keys = [self._keys.facts, self._keys.members, self._keys.own, *(self._keys.lease(who) for who in incarnations)]
        args: list[str | int] = [self._count, old, f"{old}>{new}", len(members), *incarnations]
        answer: list[bytes] = await scripts.run(self._connection, scripts.load("reshard_begin"), keys, args)
        return answer[-1].decode()

    async def note(self, progress: str) -> None:
        """Record the progress."""
        await self._connection.execute("HSET", self._keys.facts, self._progress, progress)

    async def end(self, new: int) -> None:
        """Record the new number, and forget how it came about."""
        await self._connection.execute("HSET", self._keys.facts, self._count, new)
        await self._connection.execute("HDEL", self._keys.facts, self._progress)
        await self._connection.execute("DEL", self._meta)

    # the old layout

    async def entries(self, label: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield id and envelope of a mailbox's entries."""
        async for entry, flat in self._stream(self._keys.mailbox(label)):
            yield entry, _payload(flat)

    async def filled(self, labels: Sequence[str]) -> list[str]:
        """Return the shards whose mailbox holds anything."""
        lengths = await self._all(("XLEN", self._keys.mailbox(label)) for label in labels)
        return [label for label, length in zip(labels, lengths, strict=True) if length]

    async def hashes(self, part: str, labels: Sequence[str]) -> list[dict[bytes, bytes]]:
        """Return a hash of each shard: held (``h``), marks (``x``) or streams (``g``)."""
        answers = await self._all(("HGETALL", self._old(part, label)) for label in labels)
        return [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in answers]

    async def timers(self, label: str) -> AsyncIterator[list[tuple[bytes, bytes, bytes]]]:
        """Yield pages of a shard's delayed messages: member, due time, envelope; now and then one twice."""
        cursor: bytes = b"0"
        while True:
            cursor, flat = await self._connection.execute("ZSCAN", self._keys.timers(label), cursor, "COUNT", PAGE)
            if flat:
                values = await self._connection.execute("HMGET", self._keys.timer_values(label), *flat[::2])
                yield [(name, due, value) for name, due, value in zip(flat[::2], flat[1::2], values, strict=True) if value is not None]
            if cursor == b"0":
                return

    async def backlog_lengths(self, backlogs: Sequence[tuple[str, str, str]]) -> list[int]:
        """Return how many messages wait in each backlog, named by label, type and key."""
        lengths: list[int] = await self._all(("XLEN", self._keys.backlog(*backlog)) for backlog in backlogs)
        return lengths

    async def in_backlog(self, label: str, actor_type: str, key: str, entry: bytes) -> bool:
        """Return whether an actor's backlog holds an entry."""
        return bool(await self._connection.execute("XRANGE", self._keys.backlog(label, actor_type, key), entry, entry))

    # the new one

    async def clear(self, labels: Sequence[str]) -> None:
        """Delete what a copy that was interrupted has left."""
        await self._connection.execute("DEL", self._meta)
        await self._all(("DEL", *(self._new(part, label) for part in PARTS)) for label in labels)

    async def put_entries(self, entries: Iterable[tuple[str, str, bytes]]) -> None:
        """Append entries (label, id, envelope) to the new mailboxes."""
        await self._all(("XADD", self._new("m", label), entry, "d", payload) for label, entry, payload in entries)

    async def put_hash(self, part: str, label: str, fields: Mapping[Any, Any]) -> None:
        """Add to a hash of a new shard."""
        if fields:
            await self._connection.execute("HSET", self._new(part, label), *(word for pair in fields.items() for word in pair))

    async def put_timers(self, timers: Iterable[tuple[str, bytes, bytes, bytes]]) -> None:
        """Add delayed messages (label, member, due time, envelope) to new shards."""
        commands: list[tuple[Any, ...]] = []
        for label, member, due, value in timers:
            commands += (("ZADD", self._new("t", label), due, member), ("HSET", self._new("tv", label), member, value))
        await self._all(commands)

    async def note_copied(self, notes: Mapping[str, str]) -> None:
        """Record, per shard, what the swap has to know of the copy."""
        if notes:
            await self._connection.execute("HSET", self._meta, *(word for pair in notes.items() for word in pair))

    async def copied(self) -> dict[str, str]:
        """Return what was noted of the copy."""
        flat = await self._connection.execute("HGETALL", self._meta)
        return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}

    # from one to the other

    async def rename_backlogs(self, backlogs: Iterable[tuple[str, str, str, str]]) -> None:
        """Rename backlogs (old label, new label, type, key), those that are still to be renamed."""
        pairs = [(self._keys.backlog(old, kind, key), self._keys.backlog(new, kind, key)) for old, new, kind, key in backlogs]
        there = await self._all(("EXISTS", old) for old, _ in pairs)
        await self._all(("RENAME", old, new) for (old, new), exists in zip(pairs, there, strict=True) if exists)

    async def swap(self, at: int, label: str, *, copied: str, backlog: str, suspects: str) -> bool:
        """Swap shard number ``at``; false when it was not its turn."""
        keys = [self._keys.facts, self._keys.own, self._keys.backlogs]
        keys += [self._old(part, label) for part in PARTS]
        keys += [self._new(part, label) for part in PARTS]
        args = [self._progress, f"swap {at}", f"swap {at + 1}", label, copied, backlog, suspects]
        swapped: int = await scripts.run(self._connection, scripts.load("reshard_swap"), keys, args)
        return swapped == 1

    async def move(self, label: str, entries: Sequence[tuple[str, str, bytes]]) -> int:
        """Move entries (id, label, envelope) out of a mailbox into those they belong in; return how many there were."""
        keys = [self._keys.mailbox(label), *(self._keys.mailbox(to) for _, to, _ in entries)]
        args = [word for entry, _, payload in entries for word in (entry, payload)]
        moved: int = await scripts.run(self._connection, scripts.load("reshard_move"), keys, args)
        return moved

    async def relabel(self, stream: str, label: Callable[[bytes, bytes], str]) -> None:
        """Write dead letters or parked messages anew, each with the shard that ``label(envelope, old)`` says; in the end at once."""
        new = f"{self._keys.tag}:z:{stream.removeprefix(self._keys.tag + ':')}"
        await self._connection.execute("DEL", new)
        batch: list[tuple[Any, ...]] = []
        any_there = False
        async for entry, flat in self._stream(stream):
            fields = dict(zip(flat[::2], flat[1::2], strict=False))
            fields[b"s"] = label(fields.get(b"d", b""), fields.get(b"s", b"")).encode()
            batch.append(("XADD", new, entry, *(word for pair in fields.items() for word in pair)))
            any_there = True
            if len(batch) >= PAGE:
                await self._all(batch)
                batch = []
        await self._all(batch)
        if any_there:
            await self._connection.execute("RENAME", new, stream)

    # inside

    def _old(self, part: str, label: str) -> str:
        return f"{self._keys.tag}:{part}:{label}"

    def _new(self, part: str, label: str) -> str:
        return f"{self._keys.tag}:z:{part}:{label}"

    async def _all(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        return await asyncio.gather(*(self._connection.execute(*command) for command in commands))

    async def _stream(self, name: str) -> AsyncIterator[tuple[str, Sequence[bytes]]]:
        start = "-"
        while page := await self._connection.execute("XRANGE", name, start, "+", "COUNT", PAGE):
            for entry, flat in page:
                yield entry.decode(), flat
            start = "(" + page[-1][0].decode()


def _payload(flat: Sequence[bytes]) -> bytes:
    return dict(zip(flat[::2], flat[1::2], strict=False)).get(b"d", b"")
