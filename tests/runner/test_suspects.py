"""Messages that ran in two processes that died: they run one at a time, and whatever becomes of one, the next has its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
import pytest

from actors import Actor, ActorSystem, Settings, message
from actors._redis.faults import ScriptFailed
from actors.testing import ActorCluster, Fails, TestCluster

system = ActorSystem("suspects")

runs: list[str] = []
"""The key of its actor, for each run of a handler."""


class Count(msgspec.Struct):
    n: int = 0


@system.actor
class Suspect(Actor[Count]):
    @message
    async def go(self, *, fails: bool) -> None:
        runs.append(self.key)
        if runs.count(self.key) <= 2:
            await asyncio.sleep(3_600)  # its process dies meanwhile
        if fails and runs.count(self.key) == 3:
            await asyncio.sleep(0.01)
            raise RuntimeError("a defect, in its third life")
        self.state.n += 1


@asynccontextmanager
async def third_life(actor_cluster: ActorCluster, *, fails: bool = False) -> AsyncGenerator[TestCluster]:
    """Two processes have died with the messages of all three actors; a third is about to take the shard."""
    runs.clear()
    async with actor_cluster(system, runners=1, settings=Settings(lease=2, shards=1, crash_limit=5)) as cluster:
        for key in "abc":
            await cluster.client.get(Suspect, key).go.tell(fails=fails)
        await cluster.advance(1)
        await cluster.kill(cluster.runners[0])
        await cluster.start()
        await cluster.advance(5)
        await cluster.kill(cluster.runners[0])
        assert sorted(runs) == ["a", "a", "b", "b", "c", "c"]
        await cluster.start()
        yield cluster


def counts(cluster: TestCluster) -> list[int]:
    return [cluster.state(cluster.client.get(Suspect, key)).n for key in "abc"]


@pytest.mark.parametrize("fails", [False, True])
async def test_each_runs_when_the_one_before_has_ended(actor_cluster: ActorCluster, *, fails: bool) -> None:
    """Also when that one failed after it had waited, so that there is nothing of it to commit."""
    async with third_life(actor_cluster, fails=fails) as cluster:
        await cluster.settled()

        assert counts(cluster) == [1, 1, 1]


async def test_each_runs_when_the_commit_of_the_one_before_was_refused(actor_cluster: ActorCluster) -> None:
    """The shard starts over then: an acknowledgement that was waited for there never comes."""
    async with third_life(actor_cluster) as cluster:
        refused = cluster.faults.inject(Fails(ScriptFailed("WRONGTYPE")), script="commit")
        await cluster.settled()

        assert refused.hits == 1
        assert counts(cluster) == [1, 1, 1]
