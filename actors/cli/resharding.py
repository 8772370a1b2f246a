"""Changing the number of shards: what comes next, and where everything goes. Pure.

An actor's shard is its hash modulo the number of shards, so with another number most
actors live elsewhere. Their states stay where they are (their keys name the actor, not
the shard); what moves is what waits: mailboxes, backlogs, timers, and with them the
marks of suspects. All of it is done with no runner alive, in steps of which each may be
interrupted and done again:

1. *begin*: the recorded number becomes ``<old>><new>``, which fits no member: nothing can
   start before the end. Refused while any lease is there.
2. *copy*: the new layout is built beside the old one, which is only read. Begun again
   from nothing when it was interrupted.
3. *backlogs*: the streams of held actors are renamed, each by itself.
4. *swap*: shard by shard, the new layout takes the place of the old, each in one step
   that writes the progress too.
5. *strays*: what clients have sent meanwhile by the old number is moved to where it belongs,
   and what was set aside (dead letters, parked messages) learns where it would go back to.
6. *end*: the new number is recorded.

Order is kept per actor: entries of all old mailboxes are merged by id, and keep their ids
where these still increase (asks age by them).
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple

from actors.ids import shard_of

COPY: Final = "copy"
BACKLOGS: Final = "backlogs"
SWAP: Final = "swap"
STRAYS: Final = "strays"

PARTS: Final = ("m", "h", "x", "t", "tv", "g")
"""What a shard has: mailbox, held, marks, timers, timer values, streams; as their keys name it."""


class Begin(NamedTuple):
    """Nothing has been done yet."""

    old: int


class Resume(NamedTuple):
    """A change from ``old`` is under way, at ``step`` (and shard ``at``)."""

    old: int
    step: str
    at: int


class Done(NamedTuple):
    """The number is recorded already."""


class Other(NamedTuple):
    """Another change is under way, and has to be finished first."""

    old: int
    new: int


def standing(recorded: str, progress: str, wanted: int) -> Begin | Resume | Done | Other:
    """Return how far a group is on its way to ``wanted`` shards, from what is recorded of it."""
    if ">" not in recorded:
        return Done() if int(recorded) == wanted else Begin(int(recorded))
    old, new = (int(part) for part in recorded.split(">"))
    if new != wanted:
        return Other(old, new)
    step, _, at = progress.partition(" ")
    return Resume(old, step or COPY, int(at or 0))


def label_of(group: str, shards: int, actor_type: str, key: str) -> str:
    """Return the label of the shard an actor lives in when there are ``shards``."""
    return shard_of(actor_type, key, shards, group).label


class Ids:
    """The ids under which entries go into a new mailbox: their own, or the next free one behind the last."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}

    def place(self, label: str, entry: str) -> str:
        """Return the id for an entry of ``label``."""
        ms, sequence = _order(entry)
        last = self._last.get(label, (0, 0))
        here = max((ms, sequence), (last[0], last[1] + 1))
        self._last[label] = here
        return f"{here[0]}-{here[1]}"

    def last(self, label: str) -> str:
        """Return the last id given out for ``label``; ``0-0`` for none."""
        return "{}-{}".format(*self._last.get(label, (0, 0)))


def later(one: str, other: str) -> str:
    """Return the later of two ids."""
    return max(one, other, key=_order)


def _order(entry: str) -> tuple[int, int]:
    ms, _, sequence = entry.partition("-")
    return int(ms), int(sequence or 0)


class Moving(NamedTuple):
    """One entry on its way."""

    label: str
    """The old shard."""
    id: str
    payload: bytes


async def merged(sources: Mapping[str, AsyncIterator[tuple[str, bytes]]]) -> AsyncIterator[Moving]:
    """Yield the entries of all old mailboxes by id."""
    heads: list[tuple[int, int, str, str, bytes]] = []

    async def advance(label: str) -> None:
        async for entry, payload in sources[label]:
            heapq.heappush(heads, (*_order(entry), label, entry, payload))
            return

    for label in sources:
        await advance(label)
    while heads:
        _, _, label, entry, payload = heapq.heappop(heads)
        yield Moving(label, entry, payload)
        await advance(label)
