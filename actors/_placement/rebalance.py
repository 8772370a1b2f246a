"""Which runner should own which shard: shares by weight, and as few moves as they allow.

A runner's share of n shards is n · weight / all weights, rounded down or up; at equal weight
all shares are within one of each other. The shares to be rounded up are given first to
runners that would otherwise have to give up a shard, so what moves is what *must* move:

* A join at equal weight moves exactly the newcomer's share, at most ceil(n / runners).
  The others' shares only shrink, and each held its old share, so nobody else gains.
* A leave moves exactly what the leaver had, since the others' shares only grow.

A runner with more than its share keeps the shards it scores highest for. Those that are
free, given up, or recorded for a runner that is not there go to the highest score among
the runners that have room (rendezvous hashing with bounds). The result depends on the
arguments alone, not on their order: any runner computes the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from actors._placement.rendezvous import affinity, best


def rebalance(weights: Mapping[str, int], previous: Sequence[str | None], seeds: Sequence[int]) -> list[str]:
    """Return an owner for every shard.

    ``weights`` are the runners that may own, at least one; ``previous`` who owned each shard
    (None or an unknown name: nobody); ``seeds`` the shards' :func:`~.rendezvous.seeds`.
    """
    names = sorted(weights)
    position = {name: i for i, name in enumerate(names)}
    encoded = [name.encode() for name in names]
    held: list[list[int]] = [[] for _ in names]
    free: list[int] = []
    for shard, owner in enumerate(previous):
        holder = position.get(owner) if owner is not None else None
        (free if holder is None else held[holder]).append(shard)
    wanted = shares(
        len(seeds),
        [weights[name] for name in names],
        [len(shards) for shards in held],
        [affinity(name, seeds[0]) for name in encoded],
    )

    owners: list[str] = [owner if owner is not None else "" for owner in previous]
    for holder, shards in enumerate(held):
        excess = len(shards) - wanted[holder]
        if excess > 0:
            name = encoded[holder]
            free += [shard for _, shard in heapq.nsmallest(excess, [(affinity(name, seeds[shard]), shard) for shard in shards])]

    room = [share - len(shards) for share, shards in zip(wanted, held, strict=True)]
    takers = [i for i, left in enumerate(room) if left > 0]
    bidders, bids = _bidders(takers, encoded, names, weights)
    for shard in sorted(free):
        choice = best(bidders, bids, seeds[shard])
        taker = takers[choice]
        owners[shard] = names[taker]
        room[taker] -= 1
        if not room[taker]:
            del takers[choice]
            bidders, bids = _bidders(takers, encoded, names, weights)
    return owners


def shares(shards: int, weights: Sequence[int], held: Sequence[int], ties: Sequence[int]) -> list[int]:
    """Return how many of ``shards`` each runner should own: its exact part, rounded down or up.

    Rounded up are first those that hold more than their part rounded down (they would
    have to give one up), then those with the largest fraction, then by ``ties``.
    """
    total = sum(weights)
    parts = [divmod(shards * weight, total) for weight in weights]
    wanted = [whole for whole, _ in parts]
    order = sorted(
        (i for i, (_, fraction) in enumerate(parts) if fraction),
        key=lambda i: (held[i] <= wanted[i], -parts[i][1], ties[i]),
    )
    for i in order[: shards - sum(wanted)]:
        wanted[i] += 1
    return wanted


def _bidders(
    takers: Sequence[int], encoded: Sequence[bytes], names: Sequence[str], weights: Mapping[str, int]
) -> tuple[list[bytes], list[int] | None]:
    bids = [weights[names[i]] for i in takers]
    return [encoded[i] for i in takers], bids if len(set(bids)) > 1 else None
