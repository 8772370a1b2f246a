"""What placement says to Redis: one method per script or statement, no decisions.

Every method raises :class:`~actors._redis.faults.RedisFault`; after an ``Unknown`` the call
may have been applied, or may be applied later. Each may be repeated: the scripts name what
they saw, and change nothing when it is no longer so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from actors._placement import membership
from actors._placement.membership import Holder, Member
from actors._placement.ownership import UNOWNED, Acquired, Grant, Moved, OwnerAlive, Record
from actors._placement.server import Host
from actors._redis import scripts
from actors._redis.connection import Connection
from actors._redis.faults import CommandFailed, NoPermission
from actors._redis.keys import Keys
from actors.ids import ShardId

# How many shards one acquire or release names: 6 keys each, and a reply that stays small.
BATCH = 64


class Found(Enum):
    """What a renewal found."""

    RENEWED = "renewed"  # the lease was there all along: nobody can have taken anything
    REVIVED = "revived"  # it was gone; what nobody took is still ours
    SUPERSEDED = "superseded"  # the name belongs to another incarnation: no lease for us


class Renewed(NamedTuple):
    """The answer to a renewal."""

    found: Found
    listed: bool = True
    """False: others took us off the list. Register again."""


class Wanted(NamedTuple):
    """A shard to acquire: the record seen, and the read group to create."""

    shard: ShardId
    seen: Record
    group: str


class Position(NamedTuple):
    """How far an epoch has read a shard's mailbox."""

    shard: ShardId
    epoch: str
    read: str
    """Last id read; ``0-0`` for none."""
    sequence: int = 0
    """Commits that this epoch knows to have been made."""


class Event(NamedTuple):
    """Something that happened in the system: ``kind`` and its fields, as the scripts wrote them."""

    id: str
    kind: str
    fields: dict[str, str]

    @property
    def shards(self) -> tuple[str, ...]:
        """The labels a release names."""
        return tuple(self.fields.get("s", "").split())


class PlacementStore:
    """Placement's calls over one connection."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    @property
    def connection(self) -> Connection:
        """What it speaks over."""
        return self._connection

    # membership and leases

    async def register(self, member: Member, *, lease: float, holder: Holder | None = None) -> str | None:
        """List ``member`` and give its incarnation a lease.

        ``holder`` is who was watched to hold the name without renewing. Returns the
        incarnation that holds the name, with nothing changed, or None once it is done.
        """
        keys, seen = self._keys, holder or Holder("", 0.0)
        lease_of_holder = keys.lease(seen.incarnation or member.incarnation)
        status, *rest = await self._run(
            _REGISTER,
            [keys.members, keys.lease(member.incarnation), keys.control, lease_of_holder],
            [member.name, member.incarnation, membership.encode(member), ms(lease), seen.incarnation, ms(seen.time_to_live)],
        )
        return rest[0].decode() if status == b"taken" else None

    async def holder(self, name: str) -> Holder | None:
        """Return which incarnation is listed under ``name``, with what its lease has left."""
        raw = await self._connection.execute("HGET", self._keys.members, name)
        if raw is None:
            return None
        incarnation = raw[: membership.INCARNATION].decode()
        left = await self._connection.execute("PTTL", self._keys.lease(incarnation))
        return Holder(incarnation, max(left, 0) / 1000)

    async def renew(self, name: str, incarnation: str, *, lease: float) -> Renewed:
        """Renew, or revive, the lease."""
        command = renewal(self._keys, name, incarnation, lease)
        return renewal_answer(await self._connection.execute(*command))

    async def leave(self, name: str, incarnation: str) -> tuple[ShardId, ...]:
        """Go for good. Returns the shards whose records still name us, with nothing changed; none: we have left."""
        keys = self._keys
        status, *labels = await self._run(_LEAVE, [keys.members, keys.lease(incarnation), keys.control, keys.own], [name, incarnation])
        return tuple(ShardId.parse(label.decode()) for label in labels) if status == b"owns" else ()

    async def prune(self, members: Sequence[Member]) -> tuple[str, ...]:
        """Take those of ``members`` off the list that have no lease; return their names."""
        keys = self._keys
        names = await self._run(
            _PRUNE,
            [keys.members, keys.control, *(keys.lease(member.incarnation) for member in members)],
            [word for member in members for word in (member.name, member.incarnation)],
        )
        return tuple(name.decode() for name in names)

    async def members(self) -> tuple[Member, ...]:
        """Return who is listed, by name. Records that cannot be read are left out."""
        return self._read_members(await self._connection.execute("HGETALL", self._keys.members))

    async def leases(self, incarnations: Sequence[str]) -> dict[str, bool]:
        """Return for each incarnation whether its lease is there, in one command."""
        if not incarnations:
            return {}
        values = await self._connection.execute("MGET", *map(self._keys.lease, incarnations))
        return {who: value is not None for who, value in zip(incarnations, values, strict=True)}

    # assignment

    async def view(self) -> tuple[tuple[Member, ...], bytes | None]:
        """Return the members and the assignment record."""
        replies: Any = await asyncio.gather(
            self._connection.execute("HGETALL", self._keys.members),
            self._connection.execute("GET", self._keys.assignment),
            return_exceptions=True,  # both have been waited for, whichever fails
        )
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        members, assignment = replies
        return self._read_members(members), assignment

    async def assign(self, seen: int, record: bytes) -> bytes | None:
        """Replace assignment version ``seen`` by ``record``. Returns the record that stands instead, or None once it is done."""
        status, *rest = await self._run(_ASSIGN, [self._keys.assignment, self._keys.control], [seen, record])
        return rest[0] if status == b"stale" else None

    # ownership

    async def records(self, shards: Sequence[ShardId] | None = None) -> dict[ShardId, Record]:
        """Return the ownership records: of ``shards``, or all there are."""
        if shards is None:
            flat = await self._connection.execute("HGETALL", self._keys.own)
            return {shard: _record(text) for label, text in _pairs(flat) if (shard := _shard(label)) is not None}
        if not shards:
            return {}
        texts = await self._connection.execute("HMGET", self._keys.own, *(shard.label for shard in shards))
        return {shard: UNOWNED if text is None else _record(text) for shard, text in zip(shards, texts, strict=True)}

    async def acquire(self, incarnation: str, wanted: Sequence[Wanted]) -> list[Acquired] | None:
        """Take shards; one answer each, in order. None, with nothing changed, when our own lease is gone."""
        keys = self._keys
        names = [keys.own, keys.lease(incarnation)]
        words: list[str | bytes] = [incarnation]
        for shard, seen, group in wanted:
            label = shard.label
            names += (
                keys.lease(seen.owner or incarnation),
                keys.mailbox(label),
                keys.held(label),
                keys.marks(label),
                keys.streams(label),
                keys.timers(label),
            )
            words += (label, seen.text.encode(errors="surrogateescape"), group)
        status, *answers = await self._run(_ACQUIRE, names, words)
        if status == b"lease":
            return None
        return [_acquired(shard, answer) for (shard, _, _), answer in zip(wanted, answers, strict=True)]

    async def release(self, tokens: Sequence[tuple[ShardId, str]]) -> list[bool]:
        """Give shards back, each named with its record as it stands; False where the record is another."""
        keys = self._keys
        names = [keys.own, keys.control]
        words: list[str] = []
        for shard, token in tokens:
            label = shard.label
            names += (keys.mailbox(label), keys.marks(label))
            words += (label, token)
        return [answer == b"ok" for answer in await self._run(_RELEASE, names, words)]

    async def regroup(self, incarnation: str, reader: str, generation: int, positions: Sequence[Position]) -> list[bool] | None:
        """Give a reader's streams the group ``<incarnation>.<reader>.<generation>``, each from where it has read.

        Returns per shard whether it is still ours, or None when this generation or a newer
        one is there already: take a higher one. After an ``Unknown``, too.
        """
        names = [self._keys.own, *(self._keys.mailbox(position.shard.label) for position in positions)]
        words: list[str | int] = [incarnation, reader, generation]
        for shard, epoch, read, sequence in positions:
            words += (shard.label, epoch, read, sequence)
        status, *answers = await self._run(_REGROUP, names, words)
        return None if status == b"old" else [answer == b"ok" for answer in answers]

    # events

    async def last_event(self) -> str:
        """Return the id of the newest event, to read on from; ``0-0`` when there is none."""
        newest = await self._connection.execute("XREVRANGE", self._keys.control, "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else "0-0"

    async def events(self, after: str, *, wait: float) -> list[Event]:
        """Return the events after id ``after``; waits up to ``wait`` seconds for the first."""
        reply = await self._connection.execute("XREAD", "COUNT", 1000, "BLOCK", ms(wait), "STREAMS", self._keys.control, after)
        if not reply:
            return []
        return [_event(entry, flat) for entry, flat in reply[0][1]]

    # what was recorded at first start, and the server itself

    async def facts(self) -> dict[str, str]:
        """Return what the first runner recorded; empty before that."""
        return _texts(await self._connection.execute("HGETALL", self._keys.facts))

    async def record_facts(self, facts: dict[str, str]) -> dict[str, str]:
        """Record ``facts``, all of them or, when one is recorded with another value, none. Returns what stands."""
        return _texts(await self._run(_FACTS, [self._keys.facts], [word for pair in facts.items() for word in pair]))

    async def host(self) -> Host:
        """Ask the server what it is. What this user may not ask stays empty."""
        info = await self._permitted("INFO")
        role = await self._permitted("ROLE")
        config: dict[str, str] = {}
        for name in ("maxmemory-policy", "appendonly", "appendfsync", "save"):
            config |= _texts(await self._permitted("CONFIG", "GET", name) or [])
        return Host(_sections(info or b""), config, role[0].decode() if role else "")

    # inside

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await scripts.run(self._connection, scripts.load(script), keys, args)

    async def _permitted(self, *command: str) -> Any:
        try:
            return await self._connection.execute(*command)
        except (NoPermission, CommandFailed):
            return None

    @staticmethod
    def _read_members(flat: Sequence[bytes]) -> tuple[Member, ...]:
        members: list[Member] = []
        for _, raw in _pairs(flat):
            try:
                members.append(membership.decode(raw))
            except msgspec.MsgspecError:
                continue
        return tuple(sorted(members, key=lambda member: member.name))


def renewal(keys: Keys, name: str, incarnation: str, lease: float) -> tuple[str | int, ...]:
    """Return the command of a renewal, whole: it must not depend on what scripts the server has loaded."""
    return ("EVAL", scripts.load(_RENEW).text, 2, keys.members, keys.lease(incarnation), name, incarnation, ms(lease))


def renewal_answer(reply: Any) -> Renewed:
    """Read the reply to :func:`renewal`."""
    return Renewed(Found(reply[0].decode()), listed=len(reply) < 2 or reply[1] == 1)


def ms(seconds: float) -> int:
    """Return whole milliseconds, at least 1 for any time above 0."""
    return max(round(seconds * 1000), 1) if seconds > 0 else 0


def _acquired(shard: ShardId, answer: Sequence[Any]) -> Acquired:
    status = answer[0]
    if status == b"moved":
        return Moved(shard, _record(answer[1]))
    if status == b"alive":
        return OwnerAlive(shard)
    _, token, held, marks, streams, due = answer
    record = Record.parse(token.decode())
    return Grant(
        shard=shard,
        epoch=record.epoch,
        token=record.text,
        upto=record.upto,
        held=dict(_pairs(held)),
        marks=dict(_pairs(marks)),
        streams=dict(_pairs(streams)),
        next_timer=_time(due),
    )


def _shard(label: bytes) -> ShardId | None:
    """Read a shard's label; None for what is none."""
    try:
        return ShardId.parse(label.decode())
    except ValueError:
        return None


def _record(raw: bytes) -> Record:
    """Read an ownership record. One that cannot be read is nobody's: whoever acquires the shard replaces it."""
    text = raw.decode(errors="surrogateescape")
    try:
        return Record.parse(text)
    except ValueError:
        return UNOWNED._replace(text=text)


def _time(raw: bytes) -> int | None:
    """Read when the first timer is due; None for none, or for none that ever comes."""
    due = float(raw or "inf")
    return None if due == float("inf") else max(int(max(due, 0.0)), 0)


def _event(entry: bytes, flat: Sequence[bytes]) -> Event:
    fields = _texts(flat)
    return Event(entry.decode(), fields.pop("e", ""), fields)


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    words = iter(flat)
    return zip(words, words, strict=True)


def _texts(flat: Sequence[bytes]) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in _pairs(flat)}


def _sections(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


_REGISTER, _RENEW, _LEAVE, _PRUNE = "register", "renew", "leave", "prune"
_ASSIGN, _ACQUIRE, _RELEASE, _REGROUP, _FACTS = "assign", "acquire", "release", "regroup", "facts"
