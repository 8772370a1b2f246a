"""Seeded schedules of everything at once: joins, stops, kills, pauses, cuts, lost and late calls, restarts.

The seed is the test's parameter, and replays: ``pytest "tests/placement/test_schedules.py::test_every_schedule_comes_right[17]"``.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from actors._placement.assignment import eligible, stands
from actors._redis.faults import Loading
from actors.settings import Settings
from actors.testing.faults import Action, Call, Delays, Disconnects, DropsReply, DropsRequest, ExecutesLate, Fails
from tests.placement.world import FakeWorld, Runner

SHARDS = 24
LEASE = 4.0


class Storm:
    """One schedule."""

    def __init__(self, world: FakeWorld, seed: int) -> None:
        self.world = world
        self.random = Random(seed)
        self.raging = True
        self.stopping: list[Runner] = []
        world.server.faults.decide = self.decide
        self._names = 0

    def decide(self, call: Call) -> Action | None:
        if not self.raging or self.random.random() > 0.04:
            return None
        pick = self.random.random()
        if pick < 0.25:
            return DropsReply()
        if pick < 0.4:
            return DropsRequest()
        if pick < 0.6:
            return ExecutesLate(self.random.choice([0.1, 1.0, 3.0, 6.0, 12.0]))
        if pick < 0.8:
            return Delays(self.random.uniform(0, 0.3), self.random.uniform(0, 0.3))
        if pick < 0.9:
            return Disconnects(applied=self.random.random() < 0.5)
        return Fails(Loading("LOADING")) if call.name != "CONNECT" else None

    def join(self) -> Runner:
        if self.random.random() < 0.3 and self._names:
            name = f"r{self.random.randrange(self._names)}"  # a pod that comes again
            if any(runner.name == name for runner in self.world.runners + self.stopping):
                return self.join_new()
            return self._join(name)
        return self.join_new()

    def join_new(self) -> Runner:
        self._names += 1
        return self._join(f"r{self._names - 1}")

    def _join(self, name: str) -> Runner:
        settings = Settings(shards=SHARDS, lease=LEASE, drain_timeout=2.0, weight=self.random.choice([1, 1, 1, 2]))
        runner = self.world.runner(name, settings)
        runner.host.drain_takes = self.random.choice([0.0, 0.0, 0.1, 1.0, 9.0])
        return runner

    async def rage(self, seconds: float) -> None:
        world, random, faults = self.world, self.random, self.world.server.faults
        end = world.clock.boottime() + seconds
        while world.clock.boottime() < end:
            await world.clock.sleep(random.expovariate(1.0))
            self.bury()
            live = list(world.runners)
            if len(live) < 2 or (len(live) < 5 and random.random() < 0.3):
                self.join()
                continue
            victim = random.choice(live)
            match random.randrange(7):
                case 0:
                    world.kill(victim)
                case 1:
                    self.stop(victim)
                case 2:
                    faults.pause(victim.name)
                    self.later(faults.resume, victim.name)
                case 3:
                    faults.partition(victim.name)
                    self.later(faults.heal, victim.name, late=random.random() < 0.5)
                case 4:
                    faults.disconnect(victim.name)
                case 5:
                    faults.partition(victim.name, "placement")
                    self.later(faults.heal, victim.name, "placement", late=random.random() < 0.5)
                case _:
                    if random.random() < 0.2:
                        world.server.stop()
                        self.later(world.server.start)

    def later(self, call: Any, *args: Any, **kwargs: Any) -> None:
        seconds = self.random.choice([0.05, 0.5, 2.0, LEASE, LEASE * 1.5, LEASE * 3])
        asyncio.get_running_loop().call_later(seconds, lambda: call(*args, **kwargs))

    def stop(self, runner: Runner) -> None:
        self.world.runners.remove(runner)
        self.stopping.append(runner)
        runner.service.leave()

    def bury(self) -> None:
        """Forget runners that could not start: the first connect was refused, or their name is taken by one that freezes."""
        for runner in list(self.world.runners):
            if runner.task.done():
                runner.task.exception()
                assert not runner.host.held or not runner.host.trusted(), "a runner that has failed trusts nothing"
                self.world.runners.remove(runner)
                runner.host.held.clear()

    async def calm(self) -> None:
        """Everything heals; all that is left must come right by itself."""
        world = self.world
        self.raging = False
        await world.clock.sleep(LEASE * 3 + 0.1)
        self.bury()
        if not world.runners:
            self.join_new()
        for runner in self.stopping:
            runner.host.drain_takes = 0.0
            await runner.service.stop()
            assert not runner.host.held
            await runner.end()

        def settled() -> bool:
            self.bury()
            owners, names = world.owners(), {runner.name for runner in world.runners}
            return (
                sum(runner.held for runner in world.runners) == SHARDS
                and all(
                    stands(runner.service.assignment, eligible(runner.service.members.values()), {"default": SHARDS})
                    for runner in world.runners
                )
                and all(runner.service.lease.trusted() and set(runner.service.members) == names for runner in world.runners)
                and all(set(runner.host.held) == set(runner.service.assignment.wanted(runner.name)) for runner in world.runners)
                and all(owners[shard.label] == runner.incarnation for runner in world.runners for shard in runner.host.held)
            )

        await world.until(settled, within=LEASE * 3 + 30)
        await world.clock.sleep(LEASE + 0.1)
        assert settled(), "and it stays so"
        leases = {key.decode().rsplit(":", 1)[1] for key in world.server.execute("KEYS", world.keys.lease("*"))}
        assert leases == {runner.incarnation for runner in world.runners}, "no lease is leaked"
        for shard in range(SHARDS):
            assert len(world.server.execute("XINFO", "GROUPS", world.keys.mailbox(f"default.{shard}"))) == 1


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 120))])
def test_every_schedule_comes_right(virtually: Any, seed: int) -> None:
    """No two ever trust that they own a shard (the referee sees to that); in the end each shard has one owner."""

    async def scenario(world: FakeWorld) -> None:
        storm = Storm(world, seed)
        storm.join_new()
        await storm.rage(60.0)
        await storm.calm()

    virtually(scenario, Settings(shards=SHARDS, lease=LEASE))
