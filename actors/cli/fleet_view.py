"""Runners and shards as they stand: what was recorded of them, joined into rows. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from actors._placement.assignment import Assignment
    from actors._placement.membership import Member
    from actors._placement.ownership import Record
    from actors.cli.store import Depth
    from actors.ids import ShardId


def runner_rows(
    members: Iterable[Member], leases: Mapping[str, float], records: Mapping[ShardId, Record], assignment: Assignment, *, now: float
) -> list[dict[str, Any]]:
    """Return a row for each listed runner, and one for each owner that is listed no more.

    ``leases`` are the seconds left by incarnation, ``now`` is in seconds since 1970.
    """
    owned = Counter(record.owner for record in records.values() if record.owner is not None)
    rows: list[dict[str, Any]] = []
    for member in sorted(members, key=lambda member: member.name):
        left = leases.get(member.incarnation)
        rows.append(
            {
                "runner": member.name,
                "state": "gone" if left is None else "draining" if member.draining else "up",
                "shards": owned.pop(member.incarnation, 0),
                "assigned": len(assignment.wanted(member.name)),
                "lease_left": left,
                "groups": list(member.groups),
                "weight": member.weight,
                "types": sorted(member.types),
                "host": member.host,
                "pid": member.pid,
                "http": member.http,
                "up_for": max(0.0, now - member.started) if member.started else None,
                "incarnation": member.incarnation,
            }
        )
    for incarnation, count in sorted(owned.items()):
        left = leases.get(incarnation)
        row: dict[str, Any] = dict.fromkeys(rows[0]) if rows else {}
        state = "gone" if left is None else "not listed"
        rows.append({**row, "runner": "?", "state": state, "shards": count, "lease_left": left, "incarnation": incarnation})
    return rows


def shard_rows(
    depths: Iterable[Depth],
    records: Mapping[str, Record],
    names: Mapping[str, str],
    leases: Mapping[str, float],
    assignment: Mapping[str, str | None],
) -> list[dict[str, Any]]:
    """Return a row for each shard: who owns it, who should, what waits."""
    rows: list[dict[str, Any]] = []
    for depth in depths:
        record = records.get(depth.label)
        owner = record.owner if record is not None else None
        if owner is None:
            state = "free"
        elif owner in leases:
            state = "owned"
        else:
            state = "owner gone"
        rows.append(
            {
                "shard": depth.label,
                "state": state,
                "owner": None if owner is None else names.get(owner, owner),
                "assigned": assignment.get(depth.label),
                "mailbox": depth.mailbox,
                "backlog": depth.backlog,
                "oldest_age": depth.oldest_age,
                "epoch": record.epoch if record is not None else None,
                "commits": record.sequence if record is not None else None,
            }
        )
    return rows


def moved(assignment: Assignment, shard: ShardId, runner: str) -> Assignment:
    """Return the next version of the record, in which ``runner`` should own ``shard``.

    Raises :class:`LookupError` saying why it cannot.
    """
    import msgspec

    member = next((member for member in assignment.members if member.name == runner), None)
    if member is None:
        names = ", ".join(member.name for member in assignment.members) or "none"
        raise LookupError(f"{runner} is not among the runners that take shards: {names}")
    if shard.group not in member.groups:
        raise LookupError(f"{runner} takes shards of {', '.join(member.groups)}, not of {shard.group}")
    packed = assignment.owners.get(shard.group, b"")
    if shard.index * 2 >= len(packed):
        raise LookupError(f"there is no shard {shard.label}: group {shard.group} has {len(packed) // 2}")
    position = assignment.members.index(member) + 1
    at = shard.index * 2
    changed = packed[:at] + position.to_bytes(2, "little") + packed[at + 2 :]
    return msgspec.structs.replace(assignment, version=assignment.version + 1, owners={**assignment.owners, shard.group: changed})
