"""``actor-runner reshard``: another number of shards, with all runners stopped."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from actors.cli.console import confirmed
from actors.cli.failure import Failure, Usage
from actors.cli.resharding import BACKLOGS, COPY, STRAYS, SWAP, Begin, Done, Ids, Other, Resume, label_of, later, merged, standing
from actors.cli.where import Where, ask, operands, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors._placement.store import PlacementStore
    from actors._redis.connection import Connection
    from actors._redis.keys import Keys
    from actors.cli.reshard_store import ReshardStore

BATCH: Final = 500

JOINING: Final = 2.0
"""Seconds in which a runner that had read the old number before it was changed has joined, and is seen."""


def reshard(
    *words: Annotated[str, Parameter(show=False)],
    where: Where = Where(),  # noqa: B008 - frozen
    yes: Annotated[bool, Parameter(help="Do not ask.", negative=())] = False,
) -> int:
    """Change the number of shards of every shard group: ``reshard module:system N``.

    All runners have to be stopped, and none can start before it is done. What waits is
    moved to its new shard; states stay where they are. Interrupted, it goes on where it
    was when it is called again. Restart clients that were connected: they send by the old
    number. Afterwards start the runners with ``--shards N`` (``ACTORS_SHARDS``).
    """
    usage = "actor-runner reshard module:system N"
    found, rest = place(where, words, usage=usage)
    (text,) = operands(rest, least=1, most=1, usage=usage)
    if not text.isdigit() or not 1 <= int(text) <= 1 << 16:
        raise Usage(f"{text!r} is no number of shards", "give 1 to 65,536")
    new = int(text)
    if not confirmed(f"change {found.name} to {new:,} shards a group?", yes=yes):
        raise Failure("nothing was changed", "say --yes to go on without being asked")
    moved = ask(found, lambda connection, keys: reshard_all(connection, keys, new))
    print(
        f"{found.name} has {new:,} shards a group; start its runners with --shards {new}"
        + (f" ({moved:,} messages were moved)" if moved else "")
    )
    return 0


async def reshard_all(connection: Connection, keys: Keys, new: int) -> int:
    """Bring every shard group to ``new`` shards; return how many waiting messages were moved.

    May be called again after any failure. Raises :class:`Failure` while a runner lives, or
    while another change is under way.
    """
    from actors._placement.store import PlacementStore
    from actors.cli.reshard_store import ReshardStore

    facts = await PlacementStore(connection, keys).facts()
    groups = sorted(name.removeprefix("shards:") for name in facts if name.startswith("shards:"))
    if not groups:
        raise Failure("no runner has ever started, so nothing is recorded", f"start the first one with --shards {new}")
    moved = 0
    for group in groups:
        moved += await _Group(ReshardStore(connection, keys, group), PlacementStore(connection, keys), keys, group, new).run()
    return moved


class _Group:
    """One shard group on its way."""

    def __init__(self, store: ReshardStore, placement: PlacementStore, keys: Keys, group: str, new: int) -> None:
        self._store = store
        self._keys = keys
        self._placement = placement
        self._group = group
        self._new = new
        self._moved = 0

    async def run(self) -> int:
        store = self._store
        match standing(*await store.recorded(), self._new):
            case Done():
                return 0
            case Other(old, under_way):
                raise Failure(
                    f"shard group {self._group} is on its way from {old} to {under_way} shards", f"finish that first: reshard {under_way}"
                )
            case Begin(old):
                await self._begin(old)
                step, at = COPY, 0
            case Resume(old, step, at):
                _say(f"{self._group}: going on where it was interrupted ({step})")
        labels = self._labels(max(old, self._new))
        if step == COPY:
            await asyncio.sleep(JOINING)
            await self._copy_unchanged(self._labels(old))
            await store.note(BACKLOGS)
            step = BACKLOGS
        if step == BACKLOGS:
            await self._rename_backlogs(self._labels(old))
            await store.note(f"{SWAP} 0")
            step = SWAP
        if step == SWAP:
            await self._swap(labels, at)
            await store.note(STRAYS)
        await self._strays(labels)
        for stream in (self._keys.dead, self._keys.parked):
            await store.relabel(stream, self._relabelled)
        await store.end(self._new)
        return self._moved

    def _labels(self, count: int) -> list[str]:
        return [f"{self._group}.{index}" for index in range(count)]

    async def _begin(self, old: int) -> None:
        while True:
            members = {member.incarnation: member.name for member in await self._placement.members()}
            records = (await self._placement.records()).values()
            owners = sorted({record.owner for record in records if record.owner is not None} - members.keys())
            answer = await self._store.begin(old, self._new, list(members), owners)
            if answer == "ok":
                return
            if answer != "changed":
                raise _alive(members.get(answer, answer))

    async def _copy_unchanged(self, labels: Sequence[str]) -> None:
        """Copy, again if a runner was still there meanwhile."""
        before = None
        while (records := await self._placement.records()) != before:
            members = {member.incarnation: member.name for member in await self._placement.members()}
            owners = {record.owner for record in records.values() if record.owner is not None}
            for who, lives in (await self._placement.leases(sorted(owners | members.keys()))).items():
                if lives:
                    raise _alive(members.get(who, who))
            await self._copy(labels)
            before = records

    async def _copy(self, labels: Sequence[str]) -> None:
        """Build the new layout beside the old one."""
        store, ids = self._store, Ids()
        await store.clear(self._labels(max(len(labels), self._new)))
        unclean = await self._unclean()
        marks = dict(zip(labels, await store.hashes("x", labels), strict=True))
        copied: dict[str, str] = {}
        suspects: dict[str, str] = {}
        batch: list[tuple[str, str, bytes]] = []
        filled = await store.filled(labels)
        async for label, entry, payload in merged({label: store.entries(label) for label in filled}):
            copied[label] = entry
            to = self._target(label, payload)
            if to is None:
                continue
            here = ids.place(to, entry)
            batch.append((to, here, payload))
            if label in unclean:
                suspects[to] = here
            if (mark := marks[label].pop(entry.encode(), None)) is not None:
                await store.put_hash("x", to, {here: _kept(mark)})
            if len(batch) >= BATCH:
                await self._put(batch)
        await self._put(batch)
        totals: dict[str, int] = {}
        for label, held in zip(labels, await store.hashes("h", labels), strict=True):
            for to in await self._copy_held(label, held, marks[label], totals):
                if label in unclean:
                    suspects[to] = later(suspects.get(to, "0-0"), unclean[label])
        await self._copy_timers(labels)
        for label, fields in zip(labels, await store.hashes("g", labels), strict=True):
            await store.put_hash("g", self._same_place(label), fields)
        await store.note_copied({f"c:{label}": entry for label, entry in copied.items()})
        await store.note_copied({f"b:{label}": str(total) for label, total in totals.items() if total})
        await store.note_copied({f"u:{label}": entry for label, entry in suspects.items() if entry != "0-0"})

    async def _unclean(self) -> dict[str, str]:
        """Return the shards with suspects, and up to where: their owner is dead, or an earlier one went unclean."""
        records = await self._placement.records()
        return {shard.label: record.upto for shard, record in records.items() if record.owner is not None or record.upto != "0-0"}

    def _target(self, label: str, payload: bytes) -> str | None:
        """Return the new shard of a message; ``None`` for one that is about the old shard only."""
        from actors.wire.envelope import Kind, Unreadable, decode

        try:
            envelope = decode(payload)
        except Unreadable:
            # A nudge names no actor, and says that timers have changed: who acquires looks at them anyway.
            # Anything else that cannot be read is for the dead letters, wherever it is met.
            return None if payload == NUDGE else self._same_place(label)
        if envelope.kind is Kind.NUDGE:
            return None
        return label_of(self._group, self._new, envelope.type, envelope.key)

    def _relabelled(self, payload: bytes, label: bytes) -> str:
        """Return the shard to which a message that was set aside goes back, if it ever does."""
        text = label.decode()
        if text.rpartition(".")[0] != self._group:
            return text
        return self._target(text, payload) or text

    def _same_place(self, label: str) -> str:
        """Return the new shard for what names no actor."""
        return f"{self._group}.{int(label.rpartition('.')[2]) % self._new}"

    async def _put(self, batch: list[tuple[str, str, bytes]]) -> None:
        if batch:
            await self._store.put_entries(batch)
            self._moved += len(batch)
            _progress(f"{self._group}: {self._moved:,} messages copied")
            batch.clear()

    async def _copy_held(self, label: str, held: dict[bytes, bytes], marks: dict[bytes, bytes], totals: dict[str, int]) -> list[str]:
        """Copy which actors of a shard run from their backlog, and the marks of what is in it; return their new shards."""
        store = self._store
        named = [_named(field) for field in held]
        goals = [label_of(self._group, self._new, kind, key) for kind, key in named]
        lengths = await store.backlog_lengths([(label, kind, key) for kind, key in named])
        for to, (kind, key), (field, value), length in zip(goals, named, held.items(), lengths, strict=True):
            await store.put_hash("h", to, {field: value})
            totals[to] = totals.get(to, 0) + length
            for entry, mark in marks.items():  # those left are of backlogs, whose entries keep their ids
                if await store.in_backlog(label, kind, key, entry):
                    await store.put_hash("x", to, {entry: _kept(mark)})
        return goals

    async def _copy_timers(self, labels: Sequence[str]) -> None:
        count = 0
        for label in labels:
            async for page in self._store.timers(label):
                await self._store.put_timers(
                    (to, member, due, value) for member, due, value in page if (to := self._target(label, value)) is not None
                )
                count += len(page)
                _progress(f"{self._group}: {count:,} delayed messages copied")
        self._moved += count

    async def _rename_backlogs(self, labels: Sequence[str]) -> None:
        for label, held in zip(labels, await self._store.hashes("h", labels), strict=True):
            named = [_named(field) for field in held]
            goals = [(label, label_of(self._group, self._new, kind, key), kind, key) for kind, key in named]
            await self._store.rename_backlogs(goal for goal in goals if goal[0] != goal[1])

    async def _swap(self, labels: Sequence[str], at: int) -> None:
        notes = await self._store.copied()
        for place_ in range(at, len(labels)):
            label = labels[place_]
            swapped = await self._store.swap(
                place_,
                label,
                copied=notes.get(f"c:{label}", "0-0"),
                backlog=notes.get(f"b:{label}", "0"),
                suspects=notes.get(f"u:{label}", ""),
            )
            if not swapped:
                raise Failure(f"shard group {self._group} is being changed by somebody else too", "let them finish, then look again")
            _progress(f"{self._group}: {place_ + 1:,} of {len(labels):,} shards in place")

    async def _strays(self, labels: Sequence[str]) -> None:
        """Move what was sent by the old number since the copy."""
        for label in await self._store.filled(labels):
            strays: list[tuple[str, str, bytes]] = []
            async for entry, payload in self._store.entries(label):
                to = self._target(label, payload)
                if to is not None and to != label:
                    strays.append((entry, to, payload))
            for start in range(0, len(strays), BATCH):
                self._moved += await self._store.move(label, strays[start : start + BATCH])


NUDGE: Final = b"\x99\x01\xa0\xa0\xa0\x80\xa0\xc0\x00\x94\xc0\xc0\xc0\x02"
"""The envelope that tells a shard's owner to look at its timers, as the scripts write it."""


def _named(field: bytes) -> tuple[str, str]:
    kind, _, key = field.decode().partition(":")
    return kind, key


def _kept(mark: bytes) -> bytes:
    """Return a mark of an epoch that is over: nobody takes it back any more."""
    return mark.split(b" ")[0] + b" -"


def _alive(runner: str) -> Failure:
    return Failure(f"runner {runner} is alive", "stop all runners first, then call this again")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
