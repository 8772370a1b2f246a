"""How long a runner thinks about who owns what, among 100 runners and 10,000 shards."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil

from actors._placement.assignment import EMPTY, Assignment, Share, decode, encode, moves, successor
from benchmarks.figures import Section, at_most, figure
from benchmarks.stage import Stage

RUNNERS = 100
SHARDS = {"default": 10_000}
CHANGE_CEILING_MS = at_most(50)
FIRST_CEILING_MS = at_most(1_000)


async def measure(stage: Stage) -> Section:
    """A first placement, a join and a leave; and how many shards the latter two move."""
    members = _members(RUNNERS)
    joined = _members(RUNNERS + 1)
    left = members[:41] + members[42:]
    stage.say(f"{RUNNERS} runners, {SHARDS['default']:,} shards")
    first = successor(EMPTY, members, SHARDS)
    rounds = max(5, stage.rounds)

    def timed(previous: Assignment, after: tuple[Share, ...]) -> list[float]:
        return [_milliseconds(lambda: successor(previous, after, SHARDS)) for _ in range(rounds)]

    after_join = successor(first, joined, SHARDS)
    after_leave = successor(first, left, SHARDS)
    share = ceil(SHARDS["default"] / (RUNNERS + 1))
    had = len(first.wanted(members[41].name))
    raw = encode(first)
    return Section(
        name="placement",
        title=f"Placement of {SHARDS['default']:,} shards on {RUNNERS} runners",
        figures=[
            figure("first placement", "ms", timed(EMPTY, members), bound=FIRST_CEILING_MS),
            figure("a join", "ms", timed(first, joined), bound=CHANGE_CEILING_MS),
            figure("a leave", "ms", timed(first, left), bound=CHANGE_CEILING_MS),
            figure("shards moved by a join", "shards", [moves(first, after_join)], bound=at_most(share + 1)),
            figure("shards moved by a leave", "shards", [moves(first, after_leave)], bound=at_most(had + 1)),
            figure("reading the record", "ms", [_milliseconds(lambda: decode(raw)) for _ in range(rounds)], note=f"{len(raw):,} B"),
        ],
    )


def _members(count: int) -> tuple[Share, ...]:
    return tuple(Share(f"runner-{number:03}", 1, ("default",)) for number in range(count))


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3
