"""The assignment record: which runner should own which shard, as all have agreed.

There is no coordinator. Whoever first sees that the membership is not the one the record
was computed for computes the next version from (membership, previous record) and writes it
by compare-and-set; whoever loses that race follows the winner's. Runners act on the record
alone, so two that see different memberships for a moment still never want the same shard.

Stored as ``<version> <msgpack>``. Owners are packed as positions in the member list, two
bytes a shard: 100 runners and 10,000 shards take 23 KB.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

import msgspec

from actors._placement.membership import Member
from actors._placement.rebalance import rebalance
from actors._placement.rendezvous import seeds
from actors.ids import ShardId


class Share(NamedTuple):
    """What the assignment depends on of one member."""

    name: str
    weight: int
    groups: tuple[str, ...]


class Assignment(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One version of the record."""

    version: int = 0
    members: tuple[Share, ...] = ()
    """For whom it was computed, by name."""
    owners: dict[str, bytes] = {}
    """Shard group → per shard the position of its owner in ``members`` plus 1, or 0 for nobody; 16 bits, little-endian."""

    def wanted(self, name: str) -> frozenset[ShardId]:
        """Return the shards that the runner should own."""
        position = self._positions.get(name)
        if position is None:
            return frozenset()
        return frozenset(
            ShardId(group, index)
            for group, packed in self.owners.items()
            for index, owner in enumerate(_unpack(packed))
            if owner == position
        )

    def owner(self, shard: ShardId) -> str | None:
        """Return the runner that should own ``shard``."""
        packed = self.owners.get(shard.group, b"")[shard.index * 2 : shard.index * 2 + 2]
        position = int.from_bytes(packed, "little")
        return self.members[position - 1].name if 0 < position <= len(self.members) else None

    def of_group(self, group: str) -> list[str | None]:
        """Return the owner of each shard of ``group``."""
        names = [None, *(member.name for member in self.members)]
        return [names[position] if position < len(names) else None for position in _unpack(self.owners.get(group, b""))]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {member.name: i for i, member in enumerate(self.members, start=1)}


EMPTY = Assignment()


def eligible(members: Iterable[Member]) -> tuple[Share, ...]:
    """Return the members that may own shards, in the order of the record: all that are not on their way out."""
    return tuple(
        sorted(Share(member.name, max(member.weight, 1), tuple(sorted(member.groups))) for member in members if not member.draining)
    )


def stands(assignment: Assignment, members: tuple[Share, ...], shards: Mapping[str, int]) -> bool:
    """Whether the record is the one for these members, and these numbers of shards of each group."""
    counts = {group: len(packed) // 2 for group, packed in assignment.owners.items()}
    return members == assignment.members and counts == dict(shards)


def successor(previous: Assignment, members: tuple[Share, ...], shards: Mapping[str, int]) -> Assignment:
    """Return the next version. A group that no member takes is assigned to nobody."""
    positions = {member.name: i for i, member in enumerate(members, start=1)}
    owners: dict[str, bytes] = {}
    for group, count in sorted(shards.items()):
        weights = {member.name: member.weight for member in members if group in member.groups}
        if not weights:
            owners[group] = bytes(count * 2)
            continue
        before = previous.of_group(group)[:count]
        before += [None] * (count - len(before))
        owners[group] = _pack(positions[name] for name in rebalance(weights, before, seeds(group, count)))
    return Assignment(version=previous.version + 1, members=members, owners=owners)


def moves(before: Assignment, after: Assignment) -> int:
    """Return how many shards have another owner in ``after`` than they had."""
    return sum(
        old is not None and old != new
        for group in before.owners
        for old, new in zip(before.of_group(group), after.of_group(group), strict=False)
    )


def encode(assignment: Assignment) -> bytes:
    """Return the stored form."""
    return f"{assignment.version} ".encode() + _encoder.encode(assignment)


def decode(raw: bytes | None) -> Assignment:
    """Read what :func:`encode` wrote.

    A record that cannot be read is taken for an empty one of its version, so that the
    next version replaces it.
    """
    head, _, body = (raw or b"").partition(b" ")
    if not head.isdigit():
        return EMPTY
    version = int(head)
    try:
        return msgspec.structs.replace(_decoder.decode(body), version=version)
    except msgspec.MsgspecError:
        return Assignment(version=version)


def _pack(positions: Iterable[int]) -> bytes:
    packed = array("H", positions)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpack(packed: bytes) -> array[int]:
    positions = array("H", packed[: len(packed) // 2 * 2])
    if sys.byteorder == "big":
        positions.byteswap()
    return positions


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Assignment)
