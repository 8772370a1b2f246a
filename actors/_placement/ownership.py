"""What a runner does about each shard, given what it sees.

Every shard has one record in Redis, without expiry: who owns it, in which epoch, how many
commits that epoch has made, and up to where its mailbox is suspect. The record is the truth;
the assignment only says who *should* own a shard, and leases say whose records still count.
A runner compares three things and closes the gaps:

* the shards assigned to it, which it wants to own;
* the records, which say what Redis believes;
* the shards it holds, which its own memory believes.

The gaps, and why each is closed the way it is:

* *Wanted, and the record is free, dead or our own*: acquire. Dead means the lease of the
  incarnation named is gone. Our own record without the shard in hand is an acquire whose
  answer was lost: acquiring anew takes a new epoch, so whatever the lost one started is void.
* *Held, but assigned elsewhere, or we are leaving*: drain.
* *Recorded as ours, not held, and not wanted*: release. Nobody else can take it while our
  lease lives, and we may not exit while it stands.
* *Held, but the record no longer names us in that epoch*: lost. Another took it, or
  Redis lost its memory; either way nothing of it may go on.

Shards that are being drained are left alone: their drain decides.

A decision rests on records that may be old by the time it is carried out. That is safe,
because acquire and release name the record they saw and change nothing when it is
another one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import msgspec

from actors.ids import ShardId

FREE = "-"
NO_ENTRY = "0-0"


class Record(NamedTuple):
    """The ownership record of a shard; ``text`` is what Redis holds, compared byte by byte."""

    owner: str | None
    epoch: str
    sequence: int
    clean: bool
    upto: str
    text: str

    @classmethod
    def parse(cls, text: str) -> Record:
        """Read a record; ``''`` is one that was never written. ValueError for anything else that is none."""
        if not text:
            return UNOWNED
        owner, epoch, sequence, clean, upto = text.split(" ")
        return cls(None if owner == FREE else owner, epoch, int(sequence), clean == "1", upto, text)


UNOWNED = Record(None, "0", 0, True, NO_ENTRY, "")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A shard just acquired, and all that its owner must know before the first turn."""

    shard: ShardId
    epoch: str
    token: str
    """The record as written: ``<incarnation> <epoch> 0 0 <upto>``. Each commit counts its third word up."""
    upto: str
    """Entries up to this stream id are suspects: they stood there when an owner went without a release."""
    held: dict[bytes, bytes]
    """``type:key`` → record of the actors that run from their backlog."""
    marks: dict[bytes, bytes]
    """Entry id → ``<count> <epoch>`` of suspects that were started and not finished."""
    streams: dict[bytes, bytes]
    """Entry id → what is known of the streaming replies that were running."""
    next_timer: int | None
    """When the first timer is due, in ms since 1970."""


class Moved(NamedTuple):
    """The record was not the one seen: somebody was first. ``record`` is the one that stands."""

    shard: ShardId
    record: Record


class OwnerAlive(NamedTuple):
    """The owner's lease is there (again)."""

    shard: ShardId


Acquired = Grant | Moved | OwnerAlive


class Plan(NamedTuple):
    """What to do now. The order of the fields is the order to do it in."""

    lost: tuple[ShardId, ...] = ()
    drain: tuple[ShardId, ...] = ()
    release: tuple[tuple[ShardId, Record], ...] = ()
    acquire: tuple[tuple[ShardId, Record], ...] = ()
    waiting: tuple[ShardId, ...] = ()
    """Wanted, and still owned by somebody who is alive: nothing to do but watch."""


def plan(
    *,
    me: str,
    wanted: AbstractSet[ShardId],
    records: Mapping[ShardId, Record],
    dead: AbstractSet[str],
    held: Mapping[ShardId, str],
    draining: Collection[ShardId] = (),
) -> Plan:
    """Return what incarnation ``me`` should do.

    ``records`` may be of some shards only; the others are not decided about. ``dead`` are
    the incarnations whose lease is known to be gone: an owner not among them counts as
    alive. A runner that is leaving wants nothing.
    """
    lost: list[ShardId] = []
    drain: list[ShardId] = []
    release: list[tuple[ShardId, Record]] = []
    acquire: list[tuple[ShardId, Record]] = []
    waiting: list[ShardId] = []
    for shard, record in records.items():
        if shard in draining:
            continue
        epoch = held.get(shard)
        if epoch is not None and (record.owner != me or record.epoch != epoch):
            lost.append(shard)
            epoch = None
        if epoch is not None:
            if shard not in wanted:
                drain.append(shard)
        elif shard in wanted:
            if record.owner is None or record.owner == me or record.owner in dead:
                acquire.append((shard, record))
            else:
                waiting.append(shard)
        elif record.owner == me:
            release.append((shard, record))
    return Plan(tuple(lost), tuple(drain), tuple(release), tuple(acquire), tuple(waiting))
