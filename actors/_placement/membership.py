"""Who is there: the member records, and what their leases say.

A member is listed under its runner name with its incarnation; its lease is a key of its
own. Listed without a lease means dead, and whoever notices takes it off the list. One
look without a lease is not enough: when Redis has stalled for longer than a lease, all of
them are gone for a moment, until the renewals that wait in its sockets are read. So a
lease must be missing in two looks some time apart (:class:`Absences`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

INCARNATION = 16  # hex digits


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One runner as the others see it."""

    name: str
    incarnation: str
    groups: tuple[str, ...] = ("default",)
    """Shard groups it takes shards of."""
    weight: int = 1
    types: dict[str, tuple[str, ...]] = {}
    """Actor types it has, each with its methods."""
    wire: tuple[int, int] = (1, 1)
    """Oldest and newest wire version it reads."""
    http: str = ""
    """Address of its probes and metrics, ``host:port``; empty: none."""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    """Seconds since 1970, by its own clock."""
    draining: bool = False
    """It is on its way out and takes nothing new."""

    def knows(self, actor_type: str, method: str | None = None) -> bool:
        """Whether it has this type and, if one is named, this method."""
        methods = self.types.get(actor_type)
        return methods is not None and (method is None or method in methods)


class Holder(NamedTuple):
    """Who was seen to hold a runner name, and how long its lease then had to live (0: none)."""

    incarnation: str
    time_to_live: float


def encode(member: Member) -> bytes:
    """Return the stored form: the incarnation, which scripts compare, then msgpack."""
    return member.incarnation.encode() + _encoder.encode(member)


def decode(raw: bytes) -> Member:
    """Read what :func:`encode` wrote, by this version of the code or another. Raises ``msgspec.MsgspecError``."""
    return _decoder.decode(raw[INCARNATION:])


def renewed(before: Holder, now: Holder | None) -> bool:
    """Whether the holder has renewed its lease between two looks: time to live only ever grows by that."""
    return now is not None and now.incarnation == before.incarnation and now.time_to_live > before.time_to_live


class Absences:
    """Since when leases have been missing. ``grace`` is how long one must be missing to be called gone."""

    __slots__ = ("_grace", "_since")

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._since: dict[str, float] = {}

    def look(self, leases: Mapping[str, bool], *, now: float) -> None:
        """Take in one look: incarnation → whether its lease is there. Those not looked at are forgotten."""
        self._since = {incarnation: self._since.get(incarnation, now) for incarnation, there in leases.items() if not there}

    def gone(self, *, now: float) -> frozenset[str]:
        """Return the incarnations that have been missing for the grace."""
        return frozenset(who for who, since in self._since.items() if now - since >= self._grace)

    def since(self, incarnation: str, *, default: float) -> float:
        """Return when this one was first seen missing; ``default`` where it was not."""
        return self._since.get(incarnation, default)

    def unconfirmed(self, *, now: float) -> bool:
        """Whether a lease is missing that may yet come back."""
        return any(now - since < self._grace for since in self._since.values())

    def forget(self) -> None:
        """Start over: what was seen before proves nothing (this runner, or Redis, was out itself)."""
        self._since.clear()


def by_name(members: Iterable[Member]) -> dict[str, Member]:
    """Return the members under their runner names."""
    return {member.name: member for member in members}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Member)
