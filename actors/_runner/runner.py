"""A runner: one process' share of the system, with all its parts put together and kept alive.

Order of starting: connections, the parts, the services in turn (placement last, since it
takes shards as soon as it has a lease). Order of ending: no new shards, what runs ends
and is committed, shards are released, the member leaves; renewals outlive the last
handler; connections close last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Self

import msgspec

from actors._mailbox.commit import Limits
from actors._mailbox.committer import Committer
from actors._placement.membership import Member
from actors._placement.probe import probe
from actors._placement.service import PlacementService
from actors._redis.channel import Channel
from actors._redis.connection import Server
from actors._redis.faults import RedisFault
from actors._redis.keys import Keys
from actors._runner.activation import Phase
from actors._runner.asks import TurnClient
from actors._runner.backlogs import Backlogs
from actors._runner.closing import Closing
from actors._runner.cycles import Cycles
from actors._runner.deadlines import Deadlines
from actors._runner.dispatch import Dispatch
from actors._runner.engine import Engine
from actors._runner.failures import Failures
from actors._runner.host import Host
from actors._runner.loading import Loader
from actors._runner.parking import Parking
from actors._runner.redis_clock import RedisClock
from actors._runner.settlement import Settlement
from actors._runner.stepping import Stepper
from actors._runner.streaming import Streams
from actors._runner.suspects import Suspects
from actors._runner.threads import Threads
from actors._runner.turn import Turn
from actors._runner.world import World
from actors._timers.service import Timers
from actors.actor import ActorSpec
from actors.backoff import Backoff
from actors.client import CONNECTION_TIMEOUT, Client, ConnectedClient
from actors.clock import Clock
from actors.context import Context, ContextExecutor, mark_log_records
from actors.errors import ClusterError, ConfigurationError, PersistenceFailed
from actors.ids import RunnerId, new_incarnation
from actors.lifecycle import ServiceFailed, running
from actors.settings import Settings
from actors.telemetry.events import RunnerStarted, RunnerStopped
from actors.telemetry.hooks import Telemetry
from actors.wire.envelope import NEWEST, OLDEST

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.25
"""Seconds between two looks at what is idle, late or waiting for trust."""

CLOCK_EVERY = 5.0
"""Seconds between two readings of Redis' clock."""

LOOK_AT_PARKED_EVERY = 60.0

log = logging.getLogger("actors.runner")


class Statistics(msgspec.Struct, frozen=True):
    """What one runner holds right now."""

    shards: int
    resident: int
    running: int
    queued: int
    streams: int
    suspended: int
    calls: int
    commits: int
    retried_commits: int
    redis_commands: int


class Runner:
    """Owns shards and runs their actors, from ``async with`` to its end.

    Entering returns when the first shards are served. Leaving drains: see :meth:`drain`.
    If a service of it fails, the body is cancelled and the failure raised.
    """

    def __init__(  # noqa: PLR0913 - each seam is named where everything is put together
        self,
        *,
        server: Server,
        system: str,
        specs: Mapping[str, ActorSpec],
        settings: Settings,
        name: str,
        clock: Clock,
        random: Random,
        telemetry: Telemetry,
        strict: bool = False,
        http: str = "",
    ) -> None:
        self.id = RunnerId(name, new_incarnation(random))
        self.telemetry = telemetry
        self.settings = settings
        self.specs = specs
        self._server = server
        self._system = system
        self.clock = clock
        self._random = random
        self._strict = strict
        self._http = http
        self._keys = Keys(system)
        self._world = World()
        self._stack: Any = None
        self._drained = False
        self._turned_at = 0.0
        self._undo: Callable[[], None] | None = None
        self.placement: PlacementService
        self.host: Host

    @property
    def name(self) -> str:
        """The runner's stable name."""
        return self.id.name

    @property
    def client(self) -> Client:
        """The client this runner contains, for code that runs beside its actors."""
        return self._world.client

    @property
    def lease_trusted_until(self) -> float:
        """Boottime up to which this runner may act as an owner."""
        return self.placement.lease.until

    @property
    def loop_turned_at(self) -> float:
        """Boottime at which the event loop last woke a timer."""
        return self._turned_at

    def statistics(self) -> Statistics:
        """Return what it holds right now."""
        world = self._world
        committer = world.committer
        return Statistics(
            shards=len(world.shards),
            resident=world.engine.resident,
            running=world.engine.running,
            queued=self.host.queued(),
            streams=world.streams.running,
            suspended=world.stepper.driven,
            calls=world.calls.pending,
            commits=committer.commits,
            retried_commits=committer.retries,
            redis_commands=self._commands_sent(),
        )

    async def ping(self, timeout: float = 2.0) -> None:
        """Ask Redis for an answer. Raises :class:`~actors.errors.PersistenceFailed` if none comes in time."""
        connection = self._world.state.connection
        if connection is None:
            raise PersistenceFailed(problem=str(self._world.state.last_fault or "not connected"))
        try:
            async with asyncio.timeout(timeout):
                await connection.execute("PING")
        except TimeoutError:
            raise PersistenceFailed(problem=f"no answer within {timeout:g} s") from None
        except RedisFault as fault:
            raise PersistenceFailed(problem=str(fault)) from fault

    def handler_now(self) -> str:
        """Name the handler the event loop is in, from any thread; empty if it is in none."""
        engine = getattr(self._world, "engine", None)
        turn = engine.current_turn if engine is not None else None
        return turn.label if turn is not None else ""

    # its life

    async def __aenter__(self) -> Self:
        """Start. Raises :class:`~actors.errors.ConfigurationError` or :class:`~actors.errors.PersistenceFailed`."""
        started = self.clock.boottime()
        try:
            await self._build()
            self._stack = running([self.placement, _Ticks(self)], stop_within=CONNECTION_TIMEOUT)
            await self._stack.__aenter__()
        except BaseException as error:
            await self._tear_down()
            cause: BaseException | None = error
            if isinstance(error, ServiceFailed) and error.__cause__ is not None:
                cause = error.__cause__
            if isinstance(cause, ClusterError):
                raise cause from None
            if isinstance(cause, RedisFault):
                raise PersistenceFailed(problem=str(cause)) from cause
            raise
        self._world.parking.look()
        self.telemetry.emit(
            RunnerStarted(
                runner=self.id.name,
                incarnation=self.id.incarnation,
                system=self._system,
                types=len(self.specs),
                groups=", ".join(self.settings.shard_groups),
                seconds=self.clock.boottime() - started,
            )
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Drain, leave and close."""
        try:
            if exc[0] is None or isinstance(exc[1], asyncio.CancelledError):
                await self.drain()
        finally:
            try:
                await self._stack.__aexit__(*exc)
            finally:
                await self._tear_down()

    async def drain(self) -> None:
        """Hand every shard over and leave the system; safe to call twice.

        Running handlers finish, up to ``drain_timeout``; what does not is cut and run again
        elsewhere. Cancelled, the leaving goes on in the background.
        """
        if self._drained:
            return
        self._drained = True
        started = self.clock.boottime()
        shards = len(self._world.shards)
        await self.placement.stop()
        self.telemetry.emit(RunnerStopped(runner=self.id.name, shards=shards, seconds=self.clock.boottime() - started))

    def abandon(self) -> None:
        """Be as if the process had died: from here on nothing is run, sent, told or given back.

        Leaving then only cleans up on this side; the others wait for the lease.
        """
        self._drained = True
        if hasattr(self, "placement"):
            self.placement.lease.end()
        if hasattr(self._world, "committer"):
            self._world.committer.close()
        if hasattr(self._world, "client"):
            self._world.client.sender.close()

    def unfinished(self) -> list[str]:
        """Name what is under way: activations, turns, messages in memory, commits, sends. Streaming replies are not counted."""
        world = self._world
        found: list[str] = []
        for shard in world.shards.values():
            for activation in shard.activations.values():
                address = activation.address
                if activation.phase in {Phase.LOADING, Phase.CLOSING}:
                    found.append(f"{address} is {activation.phase.value}")
                found += [f"{turn.label} runs" for turn in activation.running]
                if activation.queue:
                    found.append(f"{len(activation.queue)} messages of {address} wait, {activation.queue[0].envelope.method} first")
                if activation.threads:
                    found.append(f"a handler of {address} runs in a thread")
        if not world.committer.idle:
            found.append("a commit is under way")
        if world.client.sender.queued:
            found.append(f"{world.client.sender.queued} sends are under way")
        return found

    async def _build(self) -> None:
        world = self._world
        settings = self.settings
        if not self.specs:
            raise ConfigurationError(
                setting=f"system {self._system}", problem="has no actor types", hint="decorate a class with @system.actor"
            )
        for spec in self.specs.values():
            if spec.shard_group in settings.shard_groups:
                try:
                    spec.resolve()
                except (TypeError, NameError) as error:
                    raise ConfigurationError(setting=f"actor type {spec.name}", problem=f"cannot be run: {error}") from error
        loop = world.loop = asyncio.get_running_loop()
        world.runner, world.keys, world.settings, world.specs = self.id, self._keys, settings, self.specs
        world.clock, world.random, world.telemetry = self.clock, self._random, self.telemetry
        world.strict, world.tick_seconds = self._strict, TICK
        self._crashed: asyncio.Future[None] = loop.create_future()
        world.crash = self._crash
        world.client_of = lambda turn: TurnClient(world, turn)
        world.context_of = self._context_of
        loop.set_default_executor(ContextExecutor(thread_name_prefix="actors-default"))
        world.redis_clock = RedisClock(self.clock)
        self.host = Host(world, self._server)
        self.placement = PlacementService(
            server=self._server,
            keys=self._keys,
            host=self.host,
            member=self._member(),
            settings=settings,
            clock=self.clock,
            random=self._random,
            telemetry=self.telemetry,
            running=self.handler_now,
        )
        self.host.on_lost = self.placement.recheck
        world.lease = self.placement.lease
        world.stepper = Stepper(loop)
        world.threads = Threads(world)
        world.state = self._channel("state")
        self._commits = self._channel("commit")
        world.client = ConnectedClient(
            self._server,
            self._keys,
            settings,
            self.specs,
            clock=self.clock,
            random=self._random,
            telemetry=self.telemetry,
            name="runner",
        )
        world.engine = Engine(world)
        world.committer = Committer(
            self._commits,
            self._keys,
            Limits(shard_capacity=settings.shard_capacity, dead_letter_capacity=settings.dead_letter_capacity),
            world.engine,
            random=self._random,
            batches=self.telemetry.runner.batch,
        )
        world.settlement, world.deadlines = Settlement(world), Deadlines(world)
        world.failures, world.dispatch = Failures(world), Dispatch(world)
        world.cycles = Cycles(world)
        world.engine.bind()
        world.loader, world.backlogs, world.suspects = Loader(world), Backlogs(world), Suspects(world)
        world.closing, world.streams, world.timers = Closing(world), Streams(world), Timers(world)
        world.parking = Parking(world)
        self._undo = mark_log_records()
        try:
            await world.state.open()
            await self._commits.open()
        except RedisFault as fault:
            raise PersistenceFailed(problem=str(fault)) from fault
        await self.read_clock()
        if not self._server.virtual:
            # Before anything of ours is asked for: a right that is missing is named here, and nowhere else.
            # Anything else that is the matter is met again, and waited out, when this runner joins.
            with contextlib.suppress(RedisFault):
                await probe(await world.state.until_up(), self._keys, self.id.incarnation)
        await world.client.__aenter__()
        world.ids, world.inbox, world.calls = world.client.ids, world.client.inbox, world.client.calls
        world.client.shards.learn(dict.fromkeys(settings.shard_groups, settings.shards))
        self.placement.watch(lambda _members: world.parking.look())

    async def _tear_down(self) -> None:
        world = self._world
        if self._undo is not None:
            self._undo()
            self._undo = None
        if hasattr(world, "committer"):
            world.committer.close()
        if hasattr(self, "host"):
            await self.host.close()
        if hasattr(world, "deadlines"):
            world.deadlines.close()
        if hasattr(world, "stepper"):
            await world.stepper.close()
        if hasattr(world, "threads"):
            world.threads.close()
        if hasattr(world, "client"):
            await world.client.__aexit__(None, None, None)
        for channel in (getattr(world, "state", None), getattr(self, "_commits", None)):
            if channel is not None:
                await channel.close()

    def _channel(self, purpose: str) -> Channel:
        backoff = Backoff(random=self._random, initial=0.02, maximum=1.0)
        channel = Channel(self._server, purpose, clock=self.clock, backoff=backoff, timeout=CONNECTION_TIMEOUT)
        channel.on_error = self._crash
        return channel

    def _member(self) -> Member:
        settings = self.settings
        return Member(
            name=self.id.name,
            incarnation=self.id.incarnation,
            groups=settings.shard_groups,
            weight=settings.weight,
            types={name: tuple(sorted(spec.methods)) for name, spec in self.specs.items()},
            wire=(OLDEST, NEWEST),
            http=self._http,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self.clock.time(),
        )

    def _context_of(self, turn: Turn) -> Context:
        activation, message = turn.activation, turn.message
        envelope = message.envelope if message is not None else None
        headers = envelope.extra.headers if envelope is not None and envelope.extra is not None else None
        return Context(
            message_id=turn.message_id,
            actor_type=activation.address.type,
            key=activation.address.key,
            method=envelope.method if envelope is not None else "",
            shard_id=activation.shard.id,
            runner_id=self.id,
            epoch=activation.shard.epoch,
            attempt=turn.attempt,
            deadline=self.clock.time() + turn.deadline - self.clock.boottime() if turn.deadline else None,
            headers=headers or {},
        )

    def _crash(self, error: BaseException) -> None:
        """A part of this runner is broken, and with it what it holds: end loudly rather than stand still."""
        if not self._crashed.done():
            self._crashed.set_exception(error)

    @property
    def crashed(self) -> asyncio.Future[None]:
        """Done, with the error, once a part of this runner is broken."""
        return self._crashed

    def _commands_sent(self) -> int:
        world = self._world
        channels = [world.state, self._commits, world.client.sending, world.client.receiving, *self.host.channels]
        return sum(channel.commands_sent for channel in channels)

    # what goes on by itself

    def tick(self) -> None:
        """Look at what is idle, late or waiting for trust."""
        self._turned_at = self.clock.boottime()
        world = self._world
        world.engine.tick()
        if self.placement.lease.trusted():
            world.client.sender.go_on()
            world.committer.flush()
            if not self._was_trusted:
                self._was_trusted = True
                for shard in list(world.shards.values()):
                    world.engine.pump_shard(shard)
        else:
            self._was_trusted = False
            world.client.sender.hold()
        self.host.room()
        world.closing.sweep()

    _was_trusted = True

    def look_at_parked(self) -> None:
        """Look for parked messages that can run here."""
        self._world.parking.look()

    async def read_clock(self) -> None:
        """Take a reading of Redis' clock."""
        connection = self._world.state.connection
        if connection is None:
            return
        asked = self.clock.boottime()
        try:
            seconds, micros = await connection.execute("TIME")
        except RedisFault:
            return
        self._world.redis_clock.sample(int(seconds) + int(micros) / 1e6, asked=asked, heard=self.clock.boottime())


class _Ticks:
    """The runner's own timer."""

    name = "ticks"

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def run(self, started: Callable[[], None]) -> None:
        """Tick until cancelled."""
        runner = self._runner
        lag = runner.telemetry.runner.loop_lag
        clock = runner.clock
        read_at = clock.boottime() + CLOCK_EVERY
        look_at = clock.boottime() + LOOK_AT_PARKED_EVERY
        started()
        while True:
            due = clock.boottime() + TICK
            await clock.sleep(TICK)
            if runner.crashed.done():
                await runner.crashed
            now = clock.boottime()
            lag.observe(max(now - due, 0.0))
            runner.tick()
            if now >= read_at:
                read_at = now + CLOCK_EVERY
                await runner.read_clock()
            if now >= look_at:
                look_at = now + LOOK_AT_PARKED_EVERY
                runner.look_at_parked()
