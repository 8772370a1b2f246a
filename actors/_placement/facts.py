"""What the first runner records, and every later member has to agree with.

An actor's shard is ``hash(type, key) mod shards``. Two members that count shards differently,
or hash differently, or read another layout, would each be right by itself and together
run the same actor twice. So these facts stand in Redis, written once, and a member
that does not fit does not start. Clients read them, runners record what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actors._placement.rendezvous import VERSION as HASH
from actors.errors import ConfigurationError

LAYOUT = "1"  # of the keys and records in Redis
WIRE = (1, 1)  # wire versions that this code reads
_SHARDS = "shards:"


def expected(*, shards: int, groups: Sequence[str], slot_groups: int, wire: int = WIRE[1]) -> dict[str, str]:
    """Return the facts as this member would record them."""
    return {
        "layout": LAYOUT,
        "hash": HASH,
        "slot_groups": str(slot_groups),
        "wire": str(wire),
        **{_SHARDS + group: str(shards) for group in groups},
    }


def misfit(recorded: Mapping[str, str], own: Mapping[str, str], *, wire: tuple[int, int] = WIRE) -> ConfigurationError | None:
    """Return why this member must not start, or None. Facts not recorded yet fit."""
    for name, value in own.items():
        stands = recorded.get(name, value)
        if name == "wire":
            if not _readable(stands, wire):
                return ConfigurationError(
                    setting="wire version",
                    problem=f"recorded for this system is {stands}; this code reads {wire[0]} to {wire[1]}",
                    hint="Run a release that reads it",
                )
        elif stands != value:
            return _disagreement(name, stands, value)
    return None


def missing(recorded: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the facts that are still to be recorded."""
    return {name: value for name, value in own.items() if name not in recorded}


def shard_counts(recorded: Mapping[str, str]) -> dict[str, int]:
    """Return the number of shards of each shard group."""
    return {
        name.removeprefix(_SHARDS): int(value[:6]) for name, value in recorded.items() if name.startswith(_SHARDS) and value[:6].isdigit()
    }


def _readable(version: str, wire: tuple[int, int]) -> bool:
    return version.isdigit() and wire[0] <= int(version) <= wire[1]


def _disagreement(name: str, stands: str, value: str) -> ConfigurationError:
    if name.startswith(_SHARDS):
        group = name.removeprefix(_SHARDS)
        return ConfigurationError(
            setting="shards",
            problem=f"is {value}, but shard group {group!r} of this system was recorded with {stands}",
            hint=f"Set it to {stands}, or stop all runners and change the record with `actor-runner reshard {value}`",
        )
    if name == "slot_groups":
        return ConfigurationError(
            setting="slot_groups",
            problem=f"is {value}, but this system was recorded with {stands}",
            hint=f"Set it to {stands}",
        )
    return ConfigurationError(
        setting=name,
        problem=f"of this code is {value}, but this system was recorded with {stands}",
        hint="Run the release that recorded it, or give the system another name",
    )
