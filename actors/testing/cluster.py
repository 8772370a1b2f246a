"""A whole system inside one test: several runners, a client, and a Redis, in virtual time.

Every runner is a real one, every message goes through the codecs, the scripts and the
commits; only Redis is a fake in this process, and time jumps to the next timer whenever
nothing is to be done. So a test of a crash and its takeover takes milliseconds, and the
same every time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random, SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import msgspec

from actors._redis.connection import Server
from actors._redis.keys import Keys
from actors.actor import Actor, ActorSpec
from actors.cli.fleet_view import moved
from actors.client import ConnectedClient
from actors.clock import Clock, SystemClock
from actors.ids import ShardId, shard_of
from actors.ref import address_of
from actors.settings import Settings
from actors.system import ActorSystem
from actors.telemetry.events import Event
from actors.telemetry.logs import EventLog
from actors.telemetry.recorder import Recorder
from actors.testing.clock import VirtualLoop
from actors.testing.faults import Faults
from actors.testing.network import FakeNetwork, Network, RealNetwork
from actors.testing.process import RunnerProcess, inside
from actors.testing.view import DeadLetter, View

if TYPE_CHECKING:
    from actors._runner.runner import Runner
    from actors.testing.fake import FakeServer

SHARDS = 16
"""Shards of a test cluster, where the settings name no number of their own."""

SETTLES_WITHIN = 300.0
"""Seconds of cluster time after which :meth:`TestCluster.settled` gives up; a tenth of it in real time."""

EVENTS_KEPT = 20_000

_CLIENT = "client"
_NAMED = 10
_LEAST, _MOST = 0.001, 0.25

S = TypeVar("S")
T = TypeVar("T")


class Told(NamedTuple):
    """An event, and who told it when."""

    time: float
    runner: str
    event: Event

    def __str__(self) -> str:
        return f"{self.time:10.3f}  {self.runner:<10}  {type(self.event).__name__}: {self.event}"


class NotSettled(AssertionError):
    """Something still waits, or runs, after more time than it should take. The message names it."""


class Leaked(AssertionError):
    """The test has ended and left something behind. The message names it."""


class TestCluster:
    """Runners of one system on a Redis of their own. Use it as an async context manager.

    Runners are called ``runner-1``, ``runner-2`` and so on. All times are seconds of cluster
    time: virtual, unless the cluster runs on a real server.
    """

    __test__ = False  # no test class, whatever its name looks like to pytest

    client: ConnectedClient
    """A client outside of all runners."""
    server: FakeServer
    """The fake Redis: ``execute`` runs a command on it, ``stop`` and ``start`` take it down and up."""

    def __init__(
        self,
        system: ActorSystem,
        *,
        runners: int | Sequence[str] = 2,
        url: str | None = None,
        settings: Settings | None = None,
        seed: int | None = None,
    ) -> None:
        """Nothing happens before it is entered. See :class:`ActorCluster` for the arguments."""
        self.seed = seed if seed is not None else SystemRandom().randrange(1 << 32)
        self.events: list[Told] = []
        """What the runners told, oldest first: the last 20,000."""
        self._settings = _kit_settings(settings or system.settings, system)
        self._first = [f"runner-{i + 1}" for i in range(runners)] if isinstance(runners, int) else list(runners)
        self._url = url
        # On a server that others use too, the keys of this cluster must be its own.
        self.system = system if url is None else _renamed(system, f"{system.name[:40]}.test-{SystemRandom().getrandbits(48):012x}")
        self._processes: dict[str, RunnerProcess] = {}
        self._past: list[RunnerProcess] = []
        self._names: dict[str, str] = {}
        self._cut: set[str] = set()
        self._clients: list[ConnectedClient] = []
        self._made = 0
        self._log = EventLog()
        self._stack = contextlib.AsyncExitStack()
        self._loop: VirtualLoop
        self._network: Network
        self._clock: Clock
        self._view: View
        self._began = 0.0

    # its life

    async def __aenter__(self) -> Self:
        """Start everything; return when the shards are where they should be."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise TypeError(
                "a test cluster needs a virtual event loop: let the test take the fixture actor_cluster, or use actors.testing.simulate()"
            )
        self._loop = loop
        self._clock = loop.clock if self._url is None else SystemClock()
        if self._url is not None:
            loop.keep_real_time()
        self._began = loop.time()
        try:
            await self._open()
        except BaseException:
            await self._abandon()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop everything. Raises :class:`Leaked` where the test passed and left something behind."""
        if error is not None:
            await self._abandon()
            return
        try:
            left = self._unanswered()
            await self._stop_all()
            left += self._left_behind()
        except BaseException:
            await self._abandon()
            raise
        await self._stack.aclose()
        self._past.clear()  # whoever keeps the cluster keeps no dead runners with all their actors
        if left:
            raise Leaked("left behind at the end of the cluster:\n" + "\n".join(f"  {each}" for each in left))

    async def _open(self) -> None:
        if self._url is None:
            network = FakeNetwork()
            self._network = network
            self.server = network.server
        else:
            self._network = RealNetwork(self._url)
        self._stack.push_async_callback(self._network.close)
        self._view = View(self._network.execute, self.keys)
        if self._url is not None:
            self._stack.callback(self._view.clear)
        await asyncio.gather(*[self.start(name) for name in self._first])
        self.client = await self._connect(_CLIENT)
        if self._first:
            await self.balanced()

    async def _stop_all(self) -> None:
        for client in list(self._clients):
            await self._close(client)
        for name in [name for name, member in self._processes.items() if member.frozen or name in self._cut]:
            await self.kill(name)
        processes, self._processes = self._processes, {}
        self._past += processes.values()
        results = await asyncio.gather(*[member.stop() for member in processes.values()], return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _abandon(self) -> None:
        """End everything without ceremony: there is an error already, which must not be hidden."""
        with contextlib.suppress(Exception):
            for member in list(self._processes.values()):
                self._network.kill(member.name)
                await member.kill()
            self._past += self._processes.values()
            self._processes.clear()
            for client in list(self._clients):
                client.sender.close()
                await self._close(client)
        with contextlib.suppress(Exception):
            await self._stack.aclose()
        self._past.clear()

    def _unanswered(self) -> list[str]:
        return [
            f"{client.calls.pending} calls without an outcome: await them, cancel them, or close their stream"
            for client in self._clients
            if client.calls.pending
        ]

    def _left_behind(self) -> list[str]:
        left: list[str] = []
        for member in self._past:
            left += [f"task {task.get_name()} of {member.name}: {task.get_coro()!r}" for task in self._loop.tasks_of(member.tag)]
        for name in {member.name for member in self._past}:
            count = self._network.connections(name)
            if count:
                left.append(f"{count} connections of {name}")
        return left

    # what there is

    @property
    def runners(self) -> list[str]:
        """The names of the runners that are there, frozen and cut off ones included."""
        return sorted(self._processes)

    @property
    def time(self) -> float:
        """Seconds of cluster time since it began."""
        return self._loop.time() - self._began

    @property
    def settings(self) -> Settings:
        """What its runners run with."""
        return self._settings

    @property
    def faults(self) -> Faults:
        """What else can go wrong between processes and the fake server, by the runners' names; ``client`` is the client's."""
        return self._network.faults

    @property
    def keys(self) -> Keys:
        """The names of the system's keys in Redis."""
        return Keys(self.system.name)

    def runner(self, name: str) -> Runner:
        """Return a runner itself, for what only it knows: ``statistics()``, ``client``."""
        return self._member(name).runner

    def execute(self, *command: bytes | str | float) -> Any:
        """Run a command on the server, past everything that was cut, and return its reply."""
        return self._view.execute(*command)

    def shard_of(self, ref: Actor[Any]) -> ShardId:
        """Return the shard an actor lives in."""
        address = address_of(ref)
        return shard_of(address.type, address.key, self._settings.shards, self._spec(address.type).shard_group)

    def owner_of(self, ref: Actor[Any]) -> str:
        """Return the name of the runner that owns an actor's shard, dead ones included until another has taken it.

        Between two owners it is the one that the shard is assigned to. ``LookupError`` where there is none.
        """
        shard = self.shard_of(ref)
        owner = self._view.record(shard).owner
        if owner is not None:
            return self._names.get(owner, owner)
        assigned = self._view.assignment().owner(shard)
        if assigned is None:
            raise LookupError(f"shard {shard.label} is nobody's: there is no runner for it")
        return assigned

    def state(self, ref: Actor[S]) -> S:
        """Return an actor's state as it is stored; a fresh one where nothing is."""
        address = address_of(ref)
        codec = self._spec(address.type).state
        if codec is None:
            raise TypeError(f"{address.type} has no state")
        raw = self._view.state(address.type, address.key)
        state: S = codec.fresh() if raw is None else codec.decode(raw)[0]
        return state

    def is_stored(self, ref: Actor[Any]) -> bool:
        """Whether anything is stored of an actor's state."""
        address = address_of(ref)
        return self._view.state(address.type, address.key) is not None

    def dead_letters(self) -> list[DeadLetter]:
        """Return the messages that were set aside, oldest first."""
        return self._view.dead_letters()

    def trace(self) -> str:
        """Return the events as lines."""
        return "\n".join(map(str, self.events))

    # what can be done

    async def start(self, name: str | None = None, *, system: ActorSystem | None = None, settings: Settings | None = None) -> str:
        """Start a runner; return its name when it has joined. Shards move to it from then on: see :meth:`balanced`.

        ``system``: another version of the code, of the same name. ``settings``: for this runner alone.
        """
        name = name or next(f"runner-{i}" for i in range(1, 1 << 16) if f"runner-{i}" not in self._known())
        if name in self._processes or name == _CLIENT:
            raise ValueError(f"the name {name} is taken")
        self._made += 1
        tag = f"{name}#{self._made}"
        code = system or self.system
        if code.name != self.system.name:
            code = _renamed(code, self.system.name)
        server = await self._network.open(name)
        runner = code.build_runner(
            server,
            name=name,
            settings=_kit_settings(settings, code) if settings is not None else self._settings,
            clock=self._clock,
            random=self._random(tag),
            telemetry=Recorder(sinks=(lambda event: self._hear(member, event),)),
            strict=True,
        )
        member = RunnerProcess(name, tag, runner, self._loop)
        self._processes[name] = member
        self._names[runner.id.incarnation] = name
        try:
            await member.start()
        except BaseException:
            del self._processes[name]
            self._past.append(member)
            raise
        return name

    async def stop(self, name: str) -> None:
        """Let a runner drain, hand its shards over and leave, as SIGTERM does."""
        member = self._member(name)
        if member.frozen:
            raise ValueError(f"{name} is paused: resume it first, or kill it")
        await member.stop()
        self._processes.pop(name, None)
        self._past.append(member)

    async def kill(self, name: str) -> None:
        """End a runner as SIGKILL does: no release, no goodbye. Its shards run again elsewhere within lease + 2 s."""
        member = self._member(name)
        del self._processes[name]
        self._past.append(member)
        self._cut.discard(name)
        self._network.kill(name)
        await member.kill()

    async def pause(self, name: str) -> None:
        """Stop a runner as SIGSTOP does: nothing of it runs, its answers wait; its lease runs out."""
        self._member(name).freeze()

    async def resume(self, name: str) -> None:
        """Let a paused runner go on, as SIGCONT does; it has yet to notice how late it is."""
        self._member(name).thaw()

    async def partition(self, name: str) -> None:
        """Cut a runner (or ``client``) off from Redis: nothing arrives, and nobody is told."""
        if name != _CLIENT:
            self._member(name)
        self._cut.add(name)
        self._network.cut(name)

    async def heal(self, name: str) -> None:
        """End a partition."""
        self._cut.discard(name)
        self._network.heal(name)

    async def handoff(self, ref: Actor[Any], to: str | None = None) -> str:
        """Move an actor's shard to another runner; return its name when that one owns it.

        ``to=None``: the one with the fewest shards. The move lasts until somebody joins or leaves.
        """
        shard = self.shard_of(ref)
        owner = self.owner_of(ref)
        target = to or self._other_than(owner, shard)
        self._member(target)
        while True:
            stands = self._view.assignment()
            if self._view.assign(stands, moved(stands, shard, target)):
                break
        incarnation = self._processes[target].runner.id.incarnation
        await self._until(
            lambda: self._view.record(shard).owner == incarnation and shard in self._processes[target].runner.host.held_shards(),
            self._patience(120.0),
            lambda: [f"shard {shard.label} is owned by {self.owner_of(ref)}", *self._view.waiting(shard.label)],
        )
        return target

    async def advance(self, seconds: float) -> None:
        """Let time pass. Everything due meanwhile happens, in its order."""
        await asyncio.sleep(seconds)

    async def balanced(self, *, within: float | None = None) -> None:
        """Wait until the runners that can be reached own the shards they are assigned, and no others."""
        await self._until(lambda: not self._misplaced(), within or self._patience(120.0), self._misplaced)

    async def settled(self, *, within: float | None = None) -> None:
        """Wait until every message sent so far is handled, and every message that those have sent.

        Nothing is left in mailboxes and backlogs, nothing runs or waits in memory, and all
        commits are acknowledged. Not waited for: delayed messages that are not due yet,
        parked ones, streaming replies. Raises :class:`NotSettled` naming what still waits
        after ``within`` seconds (300; 30 on a real server).
        """
        # What the caller's own tasks are about to send counts as sent.
        await asyncio.sleep(0)
        await self._until(lambda: not self._depths() and not self._busy(), within or self._patience(SETTLES_WITHIN), self._unsettled)

    @contextlib.asynccontextmanager
    async def connect(self, name: str | None = None) -> AsyncGenerator[ConnectedClient, None]:
        """Give another client, under a name that :meth:`partition` and faults know it by."""
        self._made += 1
        client = await self._connect(name or f"{_CLIENT}-{self._made}")
        try:
            yield client
        finally:
            await self._close(client)

    # inside

    async def _connect(self, name: str) -> ConnectedClient:
        server: Server = await self._network.open(name)
        client = self.system.build_client(
            server, settings=self._settings, clock=self._clock, random=self._random(name), telemetry=Recorder()
        )
        # In a context of its own, so that it keeps nothing of the test's.
        await self._loop.create_task(client.__aenter__(), context=inside(name))
        self._clients.append(client)
        return client

    async def _close(self, client: ConnectedClient) -> None:
        self._clients.remove(client)
        await client.__aexit__(None, None, None)

    def _random(self, purpose: str) -> Random:
        return Random(f"{self.seed}/{purpose}")

    def _hear(self, member: RunnerProcess, event: Event) -> None:
        if member.dead:
            return
        self.events.append(Told(self.time, member.name, event))
        if len(self.events) > EVENTS_KEPT:
            del self.events[: EVENTS_KEPT // 10]
        self._log(event)

    def _member(self, name: str) -> RunnerProcess:
        member = self._processes.get(name)
        if member is None:
            raise LookupError(f"there is no runner {name} now: {', '.join(self.runners) or 'none at all'}")
        if member.failure is not None:
            raise member.failure
        return member

    def _known(self) -> set[str]:
        return {member.name for member in self._past} | set(self._processes)

    def _spec(self, actor_type: str) -> ActorSpec:
        return self.system.actors[actor_type]

    def _labels(self) -> list[str]:
        groups = {spec.shard_group for spec in self.system.actors.values()} | set(self._settings.shard_groups)
        return [f"{group}.{index}" for group in sorted(groups) for index in range(self._settings.shards)]

    def _reachable(self) -> list[RunnerProcess]:
        return [member for member in self._processes.values() if not member.frozen and member.name not in self._cut]

    def _other_than(self, owner: str, shard: ShardId) -> str:
        others = [member for member in self._reachable() if member.name != owner and shard.group in member.runner.settings.shard_groups]
        if not others:
            raise LookupError(f"there is no other runner than {owner} that could take shard {shard.label}")
        return min(others, key=lambda member: (len(member.runner.host.held_shards()), member.name)).name

    def _misplaced(self) -> list[str]:
        reachable = {member.name: member for member in self._reachable()}
        self._raise_failures()
        assigned = self._view.assignment()
        missing = sorted(set(reachable) - {share.name for share in assigned.members})
        if missing:
            return [f"{name} is assigned nothing yet" for name in missing]
        owners = self._view.owners()
        wrong: list[str] = []
        for name, member in reachable.items():
            wanted = {shard.label for shard in assigned.wanted(name)}
            recorded = {label for label, owner in owners.items() if owner == member.runner.id.incarnation}
            held = {shard.label for shard in member.runner.host.held_shards()}
            wrong += [f"{label} should be {name}'s" for label in sorted(wanted - recorded)]
            wrong += [f"{label} is still {name}'s" for label in sorted(recorded - wanted)]
            wrong += [f"{label} is not served by {name} yet" for label in sorted((wanted & recorded) - held)]
        return wrong

    def _depths(self) -> dict[str, tuple[int, int]]:
        return self._view.depths(self._labels())

    def _busy(self) -> list[str]:
        """Name what runs or is under way in the processes that can be reached."""
        self._raise_failures()
        busy = [f"{client.sender.queued} sends of a client are under way" for client in self._clients if client.sender.queued]
        for member in self._reachable():
            busy += [f"{each} on {member.name}" for each in member.runner.unfinished()]
        return busy

    def _unsettled(self) -> list[str]:
        found = self._busy()
        for label, (entries, waiting) in self._depths().items():
            found.append(f"{entries} messages in mailbox {label}, {waiting} in backlogs; it is {self._described(label)}")
            found += self._view.waiting(label)
        return found

    def _described(self, label: str) -> str:
        owner = self._view.record(ShardId.parse(label)).owner
        if owner is None:
            return "nobody's"
        name = self._names.get(owner, owner)
        member = self._processes.get(name)
        if member is None or member.runner.id.incarnation != owner:
            return f"{name}'s, which is dead"
        if member.frozen:
            return f"{name}'s, which is paused"
        return f"{name}'s, which is cut off" if name in self._cut else f"{name}'s"

    def _raise_failures(self) -> None:
        for member in self._processes.values():
            if member.failure is not None:
                raise member.failure

    def _patience(self, seconds: float) -> float:
        return seconds / 10 if self._loop.real else seconds

    async def _until(self, holds: Callable[[], object], within: float, waiting: Callable[[], list[str]]) -> None:
        """Wait for a state of the cluster, looking more seldom the longer it takes."""
        began = self._loop.time()
        pause = _LEAST
        while not holds():
            passed = self._loop.time() - began
            if passed >= within:
                found = waiting()
                shown = "\n".join(f"  {each}" for each in found[:_NAMED])
                more = f"\n  and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
                raise NotSettled(f"after {passed:.1f} s of cluster time still:\n{shown}{more}")
            await asyncio.sleep(max(min(pause, within - passed), _LEAST))  # never so little that time stands still
            pause = min(pause * 1.5, _MOST)


class ActorCluster:
    """Makes test clusters: the type of the fixture ``actor_cluster``."""

    __test__ = False

    def __init__(self, *, seed: int | None = None, url: str | None = None) -> None:
        """``seed`` and ``url``: for clusters that name none themselves."""
        self.clusters: list[TestCluster] = []
        """Those made so far."""
        self._seed = seed
        self._url = url

    def __call__(
        self,
        system: ActorSystem,
        *,
        runners: int | Sequence[str] = 2,
        url: str | None = None,
        settings: Settings | None = None,
        seed: int | None = None,
    ) -> AbstractAsyncContextManager[TestCluster]:
        """Return a cluster of ``system``; entering it starts its runners.

        ``runners``: how many, or their names. ``url``: a real server instead of the fake
        one; time is real then, and the system's name is extended, so that nothing else
        there is touched. ``settings``: instead of the system's; of shards there are 16
        where they say nothing else, and ``ACTORS_…`` variables are not read. ``seed``: of
        everything random, printed when the test fails.
        """
        if seed is None and self._seed is not None:
            seed = self._seed + len(self.clusters)
        cluster = TestCluster(system, runners=runners, url=url or self._url, settings=settings, seed=seed)
        self.clusters.append(cluster)
        return cluster


def simulate(main: Coroutine[Any, Any, T], *, limit: float = 30 * 86_400.0) -> T:
    """Run a coroutine in virtual time and return its result, without pytest.

    ``limit``: seconds of virtual time after which it is taken to wait for ever.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit=limit)) as runner:
        return runner.run(main)


def _kit_settings(settings: Settings, system: ActorSystem) -> Settings:
    default = Settings()
    if settings.shards == default.shards:
        settings = msgspec.structs.replace(settings, shards=SHARDS)
    if settings.shard_groups == default.shard_groups:
        groups = tuple(sorted({spec.shard_group for spec in system.actors.values()})) or default.shard_groups
        settings = msgspec.structs.replace(settings, shard_groups=groups)
    return settings


def _renamed(system: ActorSystem, name: str) -> ActorSystem:
    """Return the same system under another name, which is what its keys begin with."""
    other = ActorSystem(name, settings=system.settings)
    other._specs.update(system.actors)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - registering the classes again would make other refs of them
    return other
