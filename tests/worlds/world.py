"""A world: runners, clients, and everything that happens to them, from one seed, in virtual time.

:func:`live` lets a world go by and returns what was wrong with it: nothing, if every promise held.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import traceback
from collections import Counter, defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from actors._redis.faults import Busy, Loading, OutOfMemory, ReadOnly, RedisFault, Unblocked
from actors.client import Client, ConnectedClient
from actors.errors import ClusterError, DomainError
from actors.message import Receipt
from actors.settings import Settings
from actors.testing.cluster import NotSettled, TestCluster, simulate
from actors.testing.faults import Action, Call, Delays, Disconnects, DropsReply, DropsRequest, ExecutesLate, Fails
from tests.worlds import cast
from tests.worlds.cast import Book, Lines, Slate, system


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a world is made of."""

    name: str
    operations: int = 60
    seconds: float = 6.0
    """Over which the operations are spread."""
    books: int = 5
    weights: dict[str, float] = field(default_factory=dict[str, float])
    """How often each kind of operation is done, relative to the others."""
    network: float = 0.0
    """Chance of a fault, per command."""
    events: float = 0.0
    """Kills, pauses and so on, per second."""
    happenings: tuple[str, ...] = ("kill", "pause", "partition", "stop", "join", "handoff", "redis")
    capacity: int = 100
    shards: int = 4
    runners: int = 2
    rolls_back: bool = False
    """Redis goes back to an earlier state: then what it had acknowledged may be gone, or be done again."""
    shard_capacity: int = 100_000


EVERYTHING = {
    "note": 6.0,
    "tell": 8.0,
    "slowly": 1.0,
    "threaded": 0.3,
    "pass_on": 4.0,
    "pass_on_keyed": 1.0,
    "pass_on_later": 1.0,
    "ask_on": 4.0,
    "look_on": 1.0,
    "flaky": 2.0,
    "refuse": 1.0,
    "keyed": 1.5,
    "later": 1.0,
    "cancelled": 1.5,
    "hurried": 1.5,
    "batch": 1.0,
    "slate": 2.0,
    "numbers": 0.5,
    "flood": 0.5,
}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(name="calm", weights=EVERYTHING),
        Profile(name="net", weights=EVERYTHING, network=0.02),
        Profile(name="mix", weights={**EVERYTHING, "poison": 0.3}, network=0.01, events=0.8),
        Profile(
            name="backlog",
            weights={"tell": 6, "note": 2, "flood": 2, "flaky": 4, "pass_on": 3, "ask_on": 2, "cancelled": 1, "hurried": 1, "slowly": 2},
            network=0.01,
            events=0.6,
            capacity=2,
            books=3,
        ),
        Profile(
            name="asks",
            weights={"pair": 6, "ask_on": 3, "look_on": 1, "note": 2, "tell": 2, "pass_on": 2, "hurried": 1, "cancelled": 1},
            network=0.03,
            events=1.0,
            happenings=("kill", "kill", "pause", "partition", "handoff"),
        ),
        Profile(
            name="drain",
            weights={**EVERYTHING, "slowly": 3, "ask_on": 6},
            events=2.0,
            happenings=("stop", "join", "handoff", "handoff"),
            runners=3,
        ),
        Profile(name="poison", weights={"tell": 5, "note": 3, "poison": 0.2, "slowly": 1, "ask_on": 2}, events=0.15, happenings=("kill",)),
        Profile(name="stall", weights=EVERYTHING, network=0.004, events=1.2, happenings=("pause", "partition", "redis")),
        Profile(name="full", weights={**EVERYTHING, "flood": 3}, network=0.01, events=0.3, capacity=2, shard_capacity=25),
        Profile(name="rollback", weights=EVERYTHING, events=0.5, happenings=("rollback", "rollback", "kill", "redis"), rolls_back=True),
    )
}

LEASE = 2.0


@dataclass
class Operation:
    """One thing that was done, and what its caller was told."""

    op: str
    kind: str
    client: int
    key: str
    issued: int
    outcome: str = "none"
    """``none``, ``done`` (answered or stored), ``refused`` (no effect), ``unknown``."""
    value: Any = None
    error: BaseException | None = None
    told: bool = False
    message_id: str = ""
    to: tuple[str, ...] = ()
    exempt: bool = False
    """From order: it is delayed."""
    poison: int = 0


class World:
    """One run of a profile under a seed."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile = profile
        self.seed = seed
        self.random = Random(f"{profile.name}/{seed}")
        self.operations: list[Operation] = []
        self.wrong: list[str] = []
        self.cluster: TestCluster
        self.clients: list[ConnectedClient] = []
        self.trace: list[str] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._issued = 0
        self._over = self._closing = False
        self._snapshots: list[Any] = []
        self._wiped: list[tuple[str, set[str]]] = []
        self._slates: dict[str, list[str]] = defaultdict(list)
        self._context = contextvars.copy_context()

    # the run

    async def run(self) -> None:
        """Live, and collect what was wrong."""
        profile = self.profile
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        cast.runs.clear()
        cast.deaths[:] = [self._die]
        settings = Settings(
            lease=LEASE,
            shards=profile.shards,
            drain_timeout=3.0,
            ask_timeout=20.0,
            turn_timeout=8.0,
            idle_timeout=1.5,
            mailbox_capacity=profile.capacity,
            shard_capacity=profile.shard_capacity,
            max_attempts=4,
            crash_limit=2,
        )
        self.cluster = TestCluster(system, runners=profile.runners, settings=settings, seed=self.seed)
        try:
            async with self.cluster as cluster, cluster.connect("client-a") as one, cluster.connect("client-b") as two:
                self.clients = [one, two]
                await self._live()
                self._closing = True
                if not self.wrong:
                    self._check_books()
                    self._check_left()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a finding
            text = f"{type(error).__name__}: {error}"
            several: Any = getattr(error, "exceptions", ())
            text += "; ".join(map(repr, several))
            self.wrong.append(text + "\n" + "".join(traceback.format_exception(type(error), error, error.__traceback__)[-3:]))

    async def _live(self) -> None:
        profile, cluster, random = self.profile, self.cluster, self.random
        if profile.network:
            cluster.faults.decide = self._fault
        troubles = asyncio.get_running_loop().create_task(self._troubles()) if profile.events else None
        kinds, weights = list(profile.weights), list(profile.weights.values())
        for _ in range(profile.operations):
            await asyncio.sleep(random.expovariate(profile.operations / profile.seconds) if random.random() < 0.5 else 0.0)
            kind = random.choices(kinds, weights)[0]
            getattr(self, f"do_{kind}")()
        if troubles is not None:
            await asyncio.sleep(1.0)
            self._over = True
            await troubles
        cluster.faults.decide = None
        for name in cluster.runners:
            await cluster.heal(name)
        cluster.faults.heal()
        for name in ("client-a", "client-b"):
            cluster.faults.heal(name)
        if not cluster.runners:
            await cluster.start()
        until = cluster.time + 400
        while left := [task for task in self._tasks if not task.done()]:  # there may be more of them meanwhile
            if cluster.time > until:
                self.wrong.append(f"callers without an outcome: {[task.get_name() for task in left]}")
                return
            await asyncio.wait(left, timeout=100)
        for _ in range(2):  # what ends last may have sent something for later
            await cluster.advance(8.0)
            try:
                await cluster.settled(within=600)  # turns that wait on each other end by their time-outs, one after another
            except NotSettled as error:
                self.wrong.append(str(error))
                return
        # A last word to each book must get through, whatever was before.
        if profile.rolls_back:
            with contextlib.suppress(ClusterError):  # Redis may have forgotten the sender
                await self.clients[0].get(Book, "b0").count()
        for key in self._keys():
            try:
                await self.clients[0].get(Book, key).count()
            except Exception as error:  # noqa: BLE001 - a finding
                self.wrong.append(f"{key} does not answer at the end: {error!r}")

    def _keys(self) -> list[str]:
        return [f"b{i}" for i in range(self.profile.books)]

    def _unhandled(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "_GatheringFuture" in str(context.get("message")):
            return  # a child failed in the moment in which its turn was cut off, and nobody was left to hear of it

        text = "".join(traceback.format_exception(error)[-4:]) if error is not None else ""
        self.wrong.append(f"unhandled: {context.get('message')} {error!r} {text}")

    # trouble

    def _fault(self, call: Call) -> Action | None:
        random = self.random
        if call.owner in {"", "cluster"} or random.random() >= self.profile.network:
            return None
        if call.name == "CONNECT":
            return random.choice([None, Disconnects(applied=False), Delays(random.random())])
        choice = random.random()
        if choice < 0.2:
            return DropsReply()
        if choice < 0.3:
            return DropsRequest()
        if choice < 0.45:
            return Disconnects(applied=random.random() < 0.6)
        if choice < 0.65:
            return Delays(random.random() * 0.5, random.random() * 0.5)
        if choice < 0.9:
            return ExecutesLate(random.choice([0.05, 0.5, 2.0, 6.0, 9.0]))
        if call.script == "send" and random.random() < 0.5:
            return Fails(OutOfMemory("OOM command not allowed when used memory > 'maxmemory'."))
        if call.name in {"XREADGROUP", "XREAD"}:
            return Fails(Unblocked("UNBLOCKED force unblock from blocking operation, instance state changed"))
        return Fails(random.choice([Busy("BUSY"), Loading("LOADING"), ReadOnly("READONLY You can't write")]))

    def _die(self, name: str) -> None:
        """A handler kills its process."""
        self._spawn(self._kill_and_replace(name), "death")

    async def _kill_and_replace(self, name: str) -> None:
        if name in self.cluster.runners:
            self.trace.append(f"{self.cluster.time:.3f} kill {name}")
            await self.cluster.kill(name)
        while not self._closing:
            await asyncio.sleep(0.2)
            try:
                await self.cluster.start()
            except (ClusterError, RedisFault) as error:
                self.trace.append(f"{self.cluster.time:.3f} no start: {error!r}")
            else:
                return

    async def _troubles(self) -> None:
        cluster, random = self.cluster, self.random
        while True:
            await asyncio.sleep(random.expovariate(self.profile.events))
            if self._over:
                return
            what = random.choice(self.profile.happenings)
            runners = cluster.runners
            name = random.choice(runners) if runners else ""
            self.trace.append(f"{cluster.time:.3f} {what} {name}")
            try:
                await self._happen(what, name)
            except (LookupError, ValueError, ClusterError, RedisFault) as error:
                self.trace.append(f"{cluster.time:.3f} {what} {name}: {error!r}")

    async def _happen(self, what: str, name: str) -> None:
        cluster, random = self.cluster, self.random
        seconds = random.choice([0.1, 0.6, 1.5, 2.5, 5.0])
        match what:
            case "kill" if name:
                await self._kill_and_replace(name)
            case "pause" if name:
                await cluster.pause(name)
                await asyncio.sleep(seconds)
                await cluster.resume(name)
            case "partition":
                whom = random.choice([name or "client-a", "client-a", "client-b"])
                cluster.faults.partition(whom)
                await asyncio.sleep(seconds)
                cluster.faults.heal(whom, late=random.random() < 0.5)
            case "stop" if len(cluster.runners) > 1:
                await cluster.stop(name)
            case "join" if len(cluster.runners) < 4:
                await cluster.start()
            case "handoff" if len(cluster.runners) > 1:
                key = random.choice(self._keys())
                with contextlib.suppress(TimeoutError, NotSettled, KeyError):
                    async with asyncio.timeout(4.0):
                        await cluster.handoff(self.clients[0].get(Book, key))
            case "redis":
                cluster.server.stop()
                await asyncio.sleep(seconds)
                cluster.server.start()
            case "rollback":
                snapshot = cluster.server.snapshot()
                await asyncio.sleep(seconds)
                cluster.server.stop()
                await asyncio.sleep(random.choice([0.0, 0.3]))
                cluster.server.restore(snapshot)
                cluster.server.start()
            case _:
                pass

    # what is done

    def _spawn(self, work: Awaitable[Any], name: str) -> asyncio.Task[Any]:
        # In the world's context: a task made by a handler would be one of its process, and die with it.
        task = asyncio.get_running_loop().create_task(_awaited(work), name=name, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.wrong.append(f"{task.get_name()}: {error!r}")

    def _new(self, kind: str, *, key: str | None = None) -> tuple[Operation, Client]:
        index = self.random.randrange(2)
        operation = Operation(
            f"{kind}-{len(self.operations)}", kind, index, key or self.random.choice(self._keys()), issued=len(self.operations)
        )
        self.operations.append(operation)
        return operation, self.clients[index]

    def _do(self, operation: Operation, call: Awaitable[Any]) -> None:
        self._spawn(self._observe(operation, call), operation.op)

    async def _observe(self, operation: Operation, call: Awaitable[Any]) -> None:
        self._issued += 1
        operation.issued = self._issued
        try:
            value = await call
        except ClusterError as error:
            operation.error = error
            operation.outcome = "refused" if error.outcome in {"not_delivered", "failed"} else "unknown"
        except DomainError as error:
            operation.error = error
            operation.outcome = "refused"
        except asyncio.CancelledError as error:
            operation.error = error
            operation.outcome = "unknown"
        except BaseException as error:
            operation.error = error
            self.wrong.append(f"{operation.op}: {error!r}")
            raise
        else:
            operation.outcome = "done"
            operation.value = value
            if isinstance(value, Receipt):
                operation.told = True
                operation.message_id = value.message_id

    def _either(self, operation: Operation, bound: Any, *args: Any, **kwargs: Any) -> None:
        """Ask, or tell."""
        if self.random.random() < 0.5:
            self._do(operation, bound(*args, **kwargs))
        else:
            self._do(operation, bound.tell(*args, **kwargs))

    def do_note(self) -> None:
        operation, client = self._new("note")
        self._do(operation, client.get(Book, operation.key).note(operation.op))

    def do_tell(self) -> None:
        operation, client = self._new("tell")
        self._do(operation, client.get(Book, operation.key).note.tell(operation.op))

    def do_slowly(self) -> None:
        operation, client = self._new("slowly")
        self._either(operation, client.get(Book, operation.key).slowly, operation.op, self.random.choice([0.01, 0.3, 2.0, 4.0]))

    def do_threaded(self) -> None:
        operation, client = self._new("threaded")
        self._either(operation, client.get(Book, operation.key).threaded, operation.op)

    def do_pass_on(self, *, keyed: bool = False, after: float = 0.0) -> None:
        operation, client = self._new("pass_on")
        to = self.random.choice(self._keys())
        operation.to = (to,)
        self._either(operation, client.get(Book, operation.key).pass_on, operation.op, to, keyed=keyed, after=after)
        if after:
            operation.kind = "pass_on_later"

    def do_pass_on_keyed(self) -> None:
        self.do_pass_on(keyed=True)

    def do_pass_on_later(self) -> None:
        self.do_pass_on(after=self.random.choice([0.01, 1.0, 4.0]))

    def do_ask_on(self) -> None:
        operation, client = self._new("ask_on")
        others = [key for key in self._keys() if key != operation.key]
        operation.to = tuple(self.random.choices(others, k=self.random.choice([1, 1, 2, 3])))
        self._either(
            operation, client.get(Book, operation.key).ask_on, operation.op, list(operation.to), self.random.choice([0.0, 0.0, 0.1, 1.0])
        )

    def do_pair(self) -> None:
        """A note, and at once an ask that tells of it: what is told of must not have been a dream."""
        key = self.random.choice(self._keys())
        note, client = self._new("tell", key=key)
        self._do(note, client.get(Book, key).note.tell(note.op))
        operation = Operation(f"ask_on-{len(self.operations)}", "ask_on", note.client, key, 0)
        self.operations.append(operation)
        operation.to = (self.random.choice([other for other in self._keys() if other != key]),)
        self._either(operation, client.get(Book, key).ask_on, operation.op, list(operation.to), self.random.choice([0.0, 0.1]))

    def do_look_on(self) -> None:
        operation, client = self._new("look_on")
        self._either(operation, client.get(Book, operation.key).look_on, operation.op, self.random.choice(self._keys()))

    def do_flaky(self) -> None:
        operation, client = self._new("flaky")
        operation.to = ("b0",)
        self._either(operation, client.get(Book, operation.key).flaky, operation.op, self.random.choice([1, 1, 2, 3, 9]))

    def do_refuse(self) -> None:
        operation, client = self._new("refuse")
        operation.to = ("b0",)
        self._either(operation, client.get(Book, operation.key).refuse, operation.op)

    def do_poison(self) -> None:
        operation, client = self._new("poison")
        operation.poison = self.random.choice([1, 1, 2, 9])
        self._either(operation, client.get(Book, operation.key).poison, operation.op, operation.poison)

    def do_keyed(self) -> None:
        """The same key from several callers, one after another and at once."""
        operation, _ = self._new("keyed")
        operation.exempt = True
        op = operation.op
        twins = [operation]
        for index in range(self.random.choice([1, 2, 3])):
            twin = Operation(op, "twin", index % 2, operation.key, 0, exempt=True)
            self.operations.append(twin)
            twins.append(twin)

        async def later(twin: Operation, wait: float) -> None:
            await asyncio.sleep(wait)
            bound = self.clients[twin.client].get(Book, twin.key).note.options(idempotency_key=op)
            await self._observe(twin, bound(op) if self.random.random() < 0.7 else bound.tell(op))

        for twin in twins:
            self._spawn(later(twin, self.random.choice([0.0, 0.0, 0.2, 3.0])), f"{op} twin")

    def do_later(self) -> None:
        operation, client = self._new("later")
        operation.exempt = True
        after = self.random.choice([0.001, 0.5, 3.0, 6.0])
        self._do(operation, client.get(Book, operation.key).note.options(after=after).tell(operation.op))

    def do_cancelled(self) -> None:
        operation, client = self._new("cancelled")
        ref = client.get(Book, operation.key)
        if self.random.random() < 0.5:
            call: Any = ref.slowly(operation.op, self.random.choice([0.0, 0.3, 1.0]))
        else:
            others = [key for key in self._keys() if key != operation.key]
            operation.to = (self.random.choice(others),)
            operation.kind = "ask_on"
            call = ref.ask_on(operation.op, list(operation.to), 0.2)
        task = self._spawn(self._observe(operation, call), operation.op)
        asyncio.get_running_loop().call_later(self.random.choice([0.0, 0.001, 0.05, 0.3, 1.0]), task.cancel)

    def do_hurried(self) -> None:
        operation, client = self._new("hurried")
        timeout = self.random.choice([0.001, 0.05, 0.3, 2.0])
        ref = client.get(Book, operation.key)
        if self.random.random() < 0.5:
            self._do(operation, ref.slowly.options(timeout=timeout)(operation.op, self.random.choice([0.0, 0.3, 1.0])))
        else:
            others = [key for key in self._keys() if key != operation.key]
            operation.to = (self.random.choice(others),)
            operation.kind = "ask_on"
            self._do(operation, ref.ask_on.options(timeout=timeout)(operation.op, list(operation.to), 0.2))

    def do_batch(self) -> None:
        """Several messages at once to one book, in their order."""
        first, client = self._new("batch")
        batch = [first]
        for _ in range(self.random.randrange(1, 6)):
            other = Operation(f"batch-{len(self.operations)}", "batch", first.client, first.key, 0)
            self.operations.append(other)
            batch.append(other)
        ref = client.get(Book, first.key)

        async def send() -> None:
            for each in batch:
                self._issued += 1
                each.issued = self._issued
            try:
                results: list[Any] = list(await client.send(*[ref.note.message(each.op) for each in batch]))
            except ClusterError as error:
                results = list(getattr(error, "results", [error] * len(batch)))
            for each, result in zip(batch, results, strict=True):
                if isinstance(result, Receipt):
                    each.outcome, each.told, each.message_id = "done", True, result.message_id
                else:
                    each.error = result
                    each.outcome = "refused" if result.outcome in {"not_delivered", "failed"} else "unknown"

        self._spawn(send(), first.op)

    def do_flood(self) -> None:
        """Many at once to one book."""
        key = self.random.choice(self._keys())
        for _ in range(self.random.randrange(5, 25)):
            operation, client = self._new("tell", key=key)
            self._do(operation, client.get(Book, key).note.tell(operation.op))

    def do_slate(self) -> None:
        index = self.random.randrange(2)
        key = f"s{index}"  # each slate has one client, which waits for each answer
        wipes = self.random.random() < 0.3
        op = f"slate-{len(self.operations)}"
        operation = Operation(op, "wipe" if wipes else "slate", index, key, 0)
        self.operations.append(operation)
        ref = self.clients[index].get(Slate, key)
        before = set(self._slates[key])

        async def do() -> None:
            await self._observe(operation, ref.wipe(op) if wipes else ref.note(op))
            if operation.outcome == "done":
                if wipes:
                    self._wiped.append((key, before))
                else:
                    self._slates[key].append(op)

        self._spawn(do(), op)

    def do_numbers(self) -> None:
        _, client = self._new("numbers")
        self.operations.pop()
        ref = client.get(Book, self.random.choice(self._keys()))
        upto, leaves = self.random.choice([0, 3, 100]), self.random.choice([1000, 1000, 2, 50])

        async def read() -> None:
            seen: list[int] = []
            try:
                async for number in ref.numbers(upto):
                    seen.append(number)
                    if len(seen) == leaves:
                        break
                else:
                    if seen != list(range(upto)):
                        self.wrong.append(f"a stream ended with {seen}")
            except ClusterError:
                pass
            if seen != list(range(len(seen))):
                self.wrong.append(f"a stream brought {seen}")

        self._spawn(read(), "numbers")

    # what must hold

    def _check_books(self) -> None:
        cluster, wrong = self.cluster, self.wrong
        client = self.clients[0]
        logs: dict[str, list[str]] = {}
        for key in self._keys():
            state: Lines = cluster.state(client.get(Book, key))
            logs[key] = state.lines
        dead: dict[str, list[Any]] = defaultdict(list)
        for letter in cluster.dead_letters():
            dead[letter.arguments.get("op", "")].append(letter)
        if self.profile.rolls_back:
            return
        effects = Counter[tuple[str, str]]()
        for key, lines in logs.items():
            effects.update((key, line) for line in lines)
        known = {operation.op for operation in self.operations}
        for key, line in effects:
            if line.rstrip(">?") not in known:
                wrong.append(f"{key} holds {line!r}, which is of no operation's doing")
        for operation in self.operations:
            if operation.key not in logs or operation.kind == "twin":
                continue
            self._check_one(operation, effects, dead)
        self._check_order(logs)
        for key in ("s0", "s1"):
            lines = cluster.state(client.get(Slate, key)).lines
            if len(set(lines)) != len(lines):
                wrong.append(f"{key}: doubled: {lines}")
            for wiped, gone in self._wiped:
                if wiped == key and gone & set(lines):
                    wrong.append(f"{key} still holds {gone & set(lines)}, which was wiped")

    def _check_one(self, operation: Operation, effects: Counter[tuple[str, str]], dead: dict[str, list[Any]]) -> None:
        op, wrong = operation.op, self.wrong
        outcomes = [other for other in self.operations if other.op == op] if operation.kind == "keyed" else [operation]
        times = effects[operation.key, op]
        letters = dead[op]
        done = [each for each in outcomes if each.outcome == "done"]
        if times > 1:
            wrong.append(f"{op} took effect {times} times")
        if done and not times and not letters and not (operation.kind == "refuse" and operation.told) and not self._excused(done):
            wrong.append(f"{op} was acknowledged ({done[0]}) and is lost")
        if times and all(each.outcome == "refused" for each in outcomes):
            wrong.append(f"{op} was refused ({outcomes[0].error!r}) and took effect")
        if times and letters and operation.kind != "keyed":
            wrong.append(f"{op} took effect and is a dead letter: {letters}")
        if len(letters) > 1 and operation.kind != "keyed":
            wrong.append(f"{op} is {len(letters)} dead letters")
        for letter in letters:
            # One that waits on an ask while another kills their process is charged with it as well: it might have been the one.
            if letter.reason == "crashes" and not operation.poison and operation.kind not in {"ask_on", "look_on"} and self._one_poison:
                wrong.append(f"{op} is innocent and was put aside as what kills processes")
        if operation.kind in {"flaky", "refuse", "pass_on", "pass_on_later"}:
            (to,) = operation.to
            follows = effects[to, f"{op}>"] + len(dead[f"{op}>"])
            if follows != times:
                wrong.append(f"{op} took effect {times} times, what it sent {follows} times")
        if operation.kind == "ask_on":
            for key, count in Counter(operation.to).items():
                asked = effects[key, f"{op}?"]
                if asked > count or (times and asked != count):
                    wrong.append(f"{op} took effect {times} times, its {count} asks of {key} {asked} times")

    @property
    def _one_poison(self) -> bool:
        """Whether one message alone killed processes: of several, each may be charged with what another did."""
        return sum(operation.poison > 0 for operation in self.operations) < 2

    def _excused(self, done: list[Operation]) -> bool:
        """Whether an acknowledged tell may have come to nothing: a keyed tell that joined a call which then was refused."""
        return all(each.told and each.value.duplicate for each in done if isinstance(each.value, Receipt)) and all(
            isinstance(each.value, Receipt) for each in done
        )

    def _check_order(self, logs: dict[str, list[str]]) -> None:
        by_op = {operation.op: operation for operation in self.operations if operation.kind != "twin"}
        for key, lines in logs.items():
            last: dict[int, Operation] = {}
            for line in lines:
                operation = by_op.get(line)
                if operation is None or operation.key != key or operation.exempt or operation.outcome != "done":
                    continue
                before = last.get(operation.client)
                if before is not None and before.issued > operation.issued:
                    self.wrong.append(f"{key}: {operation.op} came after {before.op}, which was sent later: {lines}")
                    break
                last[operation.client] = operation
                if not operation.told and operation.kind != "keyed" and isinstance(operation.value, int):
                    position = lines.index(line) + 1
                    if operation.value != position:
                        self.wrong.append(f"{key}: {operation.op} was told it is line {operation.value}, and is line {position}")
            # What turns send keeps their order, too.
            for source, sent in logs.items():
                mine = [op for op in sent if op in by_op and by_op[op].key == source and by_op[op].kind in {"pass_on", "flaky"}]
                there = [line[:-1] for line in lines if line.endswith(">") and line[:-1] in mine]
                wanted = [op for op in mine if op in there]
                if there != wanted:
                    self.wrong.append(f"{source} sent {wanted} to {key}, where it is {there}")

    def _check_left(self) -> None:
        """Nothing is left in Redis but states, and what goes by itself."""
        cluster, wrong = self.cluster, self.wrong
        tag = f"{{{system.name}:0}}:"
        for raw in cluster.execute("KEYS", "*"):
            name = raw.decode()
            kind = name.removeprefix(tag).partition(":")[0]
            ttl = cluster.execute("PTTL", raw)
            if kind == "m":
                groups = cluster.execute("XINFO", "GROUPS", raw)
                if cluster.execute("XLEN", raw):
                    wrong.append(f"{name} holds messages")
                if len(groups) > 1:
                    wrong.append(f"{name} has {len(groups)} groups")
            elif kind in {"l", "i", "p", "k"}:
                if ttl < 0:
                    wrong.append(f"{name} ({cluster.execute('TYPE', raw)}) never expires")
            elif kind in {"h", "x", "b", "t", "tv", "g", "hs"}:
                wrong.append(f"{name} is left behind")
            elif kind not in {"s", "own", "r", "a", "c", "f", "d", "dn", "u"}:
                wrong.append(f"{name} is of no known kind")


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def live(profile: str | Profile, seed: int) -> list[str]:
    """Let a world go by; return what was wrong with it."""
    world = World(PROFILES[profile] if isinstance(profile, str) else profile, seed)
    simulate(world.run(), limit=4000)
    return world.wrong
