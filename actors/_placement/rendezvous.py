"""Rendezvous hashing: every (shard, runner) pair has a score, and a shard likes its highest best.

The scores of a pair depend on nothing but the pair and the weight, so a runner that comes or
goes changes nothing between the others. A weight multiplies the share of shards that like
a runner best: with u uniform in (0, 1], ``weight / -ln(u)`` is the largest of several with
probability proportional to the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat

from xxhash import xxh3_64_intdigest

VERSION = "xxh3_64/1"  # of every hash that decides where an actor lives; recorded at first start


@lru_cache(maxsize=64)
def seeds(group: str, shards: int) -> tuple[int, ...]:
    """Return one number per shard of ``group``, from which its scores are made."""
    return tuple(xxh3_64_intdigest(f"{group}.{index}".encode()) for index in range(shards))


def affinity(runner: bytes, seed: int) -> int:
    """Return the unweighted score of a runner for a shard: 64 bits."""
    return xxh3_64_intdigest(runner, seed)


def best(runners: Sequence[bytes], weights: Sequence[int] | None, seed: int) -> int:
    """Return which of ``runners``, by position, scores highest. ``weights``: None where all are equal."""
    scores: list[int] = list(map(xxh3_64_intdigest, runners, repeat(seed)))
    if weights is None:
        return scores.index(max(scores))
    weighted = [weight / -_log((score + 1) * _UNIT) for score, weight in zip(scores, weights, strict=True)]
    return weighted.index(max(weighted))


_log = math.log
_UNIT = 1 / (2**64 + 2**12)  # keeps u below 1 in floating point: ln(1) would divide by zero
