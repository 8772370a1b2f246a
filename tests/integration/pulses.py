"""A beat in every shard, so that it shows how long none could be heard when a shard changed hands."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from actors._redis.connection import SyncConnection
from actors.client import Client
from actors.errors import ClusterError
from actors.ids import ShardId, shard_of
from tests.integration.cast import Change, Pulse
from tests.integration.fleet import until
from tests.integration.system import KEYS, system

SHARDS = system.settings.shards


def key_in(shard: int, *, kind: str = "Pulse", but: Sequence[str] = (), shards: int = SHARDS) -> str:
    """Return the key of an actor that lives in this shard."""
    number = 0
    while True:
        key = f"{shard}-{number}"
        if key not in but and shard_of(kind, key, shards, "default") == ShardId("default", shard):
            return key
        number += 1


def owners(redis: SyncConnection) -> dict[str, str]:
    """Return the incarnation that owns each shard; ``-`` where it is free."""
    flat = redis.execute("HGETALL", KEYS.own)
    return {label.decode(): value.split(b" ")[0].decode() for label, value in zip(flat[::2], flat[1::2], strict=True)}


async def balanced(redis: SyncConnection, incarnations: Sequence[str], *, shards: int = SHARDS, within: float = 15.0) -> dict[str, str]:
    """Wait until these and no others own all shards, with no two counts further apart than 1; return who owns what."""

    def holds() -> bool:
        owned = list(owners(redis).values())
        counts = [owned.count(incarnation) for incarnation in incarnations]
        return sum(counts) == shards and max(counts) - min(counts) <= 1

    await until(holds, within=within, what=f"a balance of {shards} shards over {len(incarnations)} runners")
    return owners(redis)


@dataclass
class Pulses:
    """One actor in each shard that is asked again and again."""

    client: Client
    pause: float = 0.01
    shards: int = SHARDS
    errors: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.keys = [key_in(shard, shards=self.shards) for shard in range(self.shards)]
        self.asked = dict.fromkeys(self.keys, 0)
        self.beats = dict.fromkeys(self.keys, 0)
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._beat(key)) for key in self.keys]
        await self.all_beat()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def all_beat(self, *, within: float = 20.0) -> None:
        """Wait until every shard has answered once more from now on."""
        before = dict(self.beats)
        await until(lambda: all(self.beats[key] > before[key] for key in self.keys), within=within, what="a beat in every shard")

    async def changes(self) -> list[Change]:
        """Return how the shards changed hands, all of them."""
        states = await asyncio.gather(*[self.client.get(Pulse, key).read() for key in self.keys])
        return [change for state in states for change in state.changes]

    async def _beat(self, key: str) -> None:
        pulse = self.client.get(Pulse, key)
        while not self._stopping:
            self.asked[key] += 1
            try:
                beats = await pulse.beat()
            except ClusterError as error:
                self.errors.append(f"{key}: {type(error).__name__}: {error}")
            else:
                if beats != self.beats[key] + 1:
                    self.errors.append(f"{key}: {beats} after {self.beats[key]}")
                self.beats[key] = beats
            await asyncio.sleep(self.pause)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of ``values`` that at least ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
