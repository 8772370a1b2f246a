"""Runners that only record what placement tells them, and a world to put them in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from actors._placement.membership import Member
from actors._placement.ownership import Grant, Record
from actors._placement.service import PlacementService
from actors._redis.connection import Server
from actors._redis.keys import Keys
from actors.clock import Clock
from actors.ids import ShardId
from actors.settings import Settings
from actors.telemetry.events import Event
from actors.telemetry.hooks import NoTelemetry
from actors.testing.clock import VirtualLoop
from actors.testing.fake import FakeServer

T = TypeVar("T")


class Told(NoTelemetry):
    """Telemetry that keeps every event."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


class RecordingHost:
    """Holds the shards it is granted, and drains each in ``drain_takes`` seconds."""

    def __init__(self, clock: Clock, referee: Referee) -> None:
        self.held: dict[ShardId, Grant] = {}
        self.log: list[tuple[str, ShardId]] = []
        self.drain_takes = 0.0
        self.generation = 0
        self.incarnation = ""
        self.trusted: Callable[[], bool] = lambda: False
        self._clock = clock
        self._referee = referee
        referee.hosts.append(self)

    def reserve(self, shards: Sequence[ShardId]) -> Sequence[tuple[ShardId, str]]:
        self.generation += 1
        return [(shard, f"{self.incarnation}.0.{self.generation}") for shard in shards]

    async def granted(self, grants: Sequence[Grant]) -> None:
        for grant in grants:
            self._referee.check(self, grant.shard)
            assert grant.shard not in self.held
            self.held[grant.shard] = grant
            self.log.append(("granted", grant.shard))

    async def drain(self, shard: ShardId) -> str | None:
        self.log.append(("draining", shard))
        await self._clock.sleep(self.drain_takes)
        grant = self.held.pop(shard, None)
        self.log.append(("drained", shard))
        return grant.token if grant is not None else None

    def lost(self, shard: ShardId, why: str) -> None:
        del self.held[shard]
        self.log.append(("lost", shard))

    def held_shards(self) -> Mapping[ShardId, str]:
        return {shard: grant.epoch for shard, grant in self.held.items()}


class Referee:
    """Sees all hosts: no two may trust that they own the same shard."""

    def __init__(self) -> None:
        self.hosts: list[RecordingHost] = []
        self.strict = True

    def check(self, taker: RecordingHost, shard: ShardId) -> None:
        for host in self.hosts:
            if self.strict and host is not taker and shard in host.held and host.trusted():
                raise AssertionError(f"{taker.incarnation} was granted {shard}, which {host.incarnation} still trusts to own")


class Runner:
    """One placement service with its host."""

    def __init__(self, world: World, name: str, incarnation: str, settings: Settings, random: Random) -> None:
        self.name = name
        self.incarnation = incarnation
        self.telemetry = Told()
        self.host = RecordingHost(world.clock, world.referee)
        self.host.incarnation = incarnation
        self.service = PlacementService(
            server=world.server_for(name),
            keys=world.keys,
            host=self.host,
            member=Member(name=name, incarnation=incarnation, groups=settings.shard_groups, weight=settings.weight, pid=1, host="here"),
            settings=settings,
            clock=world.clock,
            random=random,
            telemetry=self.telemetry,
        )
        self.host.trusted = self.service.lease.trusted
        self.ready = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self.service.run(self.ready.set), name=f"runner {name}")

    @property
    def held(self) -> int:
        return len(self.host.held)

    async def started(self) -> Runner:
        waiting = asyncio.create_task(self.ready.wait())
        await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            await self.task
        return self

    async def end(self) -> None:
        """End the task, whatever it raised."""
        self.task.cancel()
        await asyncio.wait({self.task})


class World:
    """A server and the runners on it."""

    def __init__(self, clock: Clock, settings: Settings, server_for: Callable[[str], Server], *, incarnations_from: int = 1) -> None:
        self.clock = clock
        self.settings = settings
        self.server_for = server_for
        self.keys = Keys("bank")
        self.referee = Referee()
        self.runners: list[Runner] = []
        self._made = incarnations_from - 1

    def runner(self, name: str, settings: Settings | None = None) -> Runner:
        self._made += 1
        runner = Runner(self, name, f"{self._made:016x}", settings or self.settings, Random(self._made))
        self.runners.append(runner)
        return runner

    async def join(self, *names: str) -> list[Runner]:
        runners = [self.runner(name) for name in names]
        for runner in runners:
            await runner.started()
        return runners

    async def until(self, holds: Callable[[], object], *, within: float = 60.0) -> float:
        """Wait for a state; return how long it took. It is looked at every few ms of the world's time."""
        began = self.clock.boottime()
        while not holds():
            if self.clock.boottime() - began > within:
                raise AssertionError(f"not so after {within} s: {[(r.name, r.held, r.service.statistics()) for r in self.runners]}")
            for runner in self.runners:
                if runner.task.done() and not runner.task.cancelled():
                    runner.task.result()
            await self.clock.sleep(0.002)
        return self.clock.boottime() - began

    def spread(self, *runners: Runner) -> list[int]:
        return sorted(runner.held for runner in runners)

    async def end(self) -> None:
        for runner in self.runners:
            await runner.end()


class FakeWorld(World):
    """A world in virtual time."""

    def __init__(self, clock: Clock, settings: Settings, server_clock: Clock | None = None) -> None:
        self.server = FakeServer(server_clock)
        super().__init__(clock, settings, self.server.for_owner)

    def runner(self, name: str, settings: Settings | None = None) -> Runner:
        self.server.faults.revive(name)
        return super().runner(name, settings)

    def kill(self, runner: Runner) -> None:
        """No goodbye."""
        self.server.faults.kill(runner.name)
        runner.task.cancel()
        runner.host.trusted = lambda: False
        self.runners.remove(runner)

    def record(self, shard: ShardId) -> Record:
        raw = self.server.execute("HGET", self.keys.own, shard.label)
        return Record.parse(raw.decode() if raw is not None else "")

    def owners(self) -> dict[str, str | None]:
        flat = self.server.execute("HGETALL", self.keys.own)
        return {label.decode(): Record.parse(text.decode()).owner for label, text in zip(flat[::2], flat[1::2], strict=True)}


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit=3600.0)) as runner:
        return runner.run(main)
