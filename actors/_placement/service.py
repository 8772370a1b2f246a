"""Placement at work: joining, following the assignment, taking and giving shards, leaving.

Five things go on at once, each a short loop:

* *follow* compares what is assigned, what is recorded and what is held, and closes the gaps
  (:mod:`~actors._placement.ownership`). It alone acquires, so no two acquires of ours race.
* *listen* waits for events (a member came or went, an assignment, a release) and wakes
  ``follow``: a released shard is taken within a round trip or two.
* *watch* looks at the leases of the others and wakes ``follow`` when one is gone.
* *guard* looks at our own. When its trust ends, everything held is dropped at once, with no
  word to Redis; when it is back, ``follow`` acquires anew what nobody took meanwhile.
* *give back* releases drained shards, those that end together in one call.

Events only make it fast. Each loop also looks by itself, seldom, so a lost event costs
seconds and nothing else. After a call whose effect is unknown, ``follow`` reads all records
again before it decides anything more: the records are the truth, an answer is only news of them.

Leaving goes the same way with nothing wanted: drain all, release all, and go only when Redis
has confirmed that no record names us. Renewals go on until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from actors._placement import assignment as record
from actors._placement.assignment import EMPTY, Assignment
from actors._placement.joining import agree, check_server, refusal, take_name
from actors._placement.lease import Lease, terms
from actors._placement.membership import Absences, Member, by_name
from actors._placement.ownership import UNOWNED, Grant, Moved, Plan, Record, plan
from actors._placement.probe import probe
from actors._placement.renewal import Renewal, Renewals, RenewalTask, RenewalThread
from actors._placement.store import BATCH, Event, PlacementStore, Renewed, Wanted, renewal
from actors._redis.channel import Channel
from actors._redis.connection import Server
from actors._redis.faults import NotApplied, ReadOnly, RedisFault, Unknown
from actors._redis.keys import Keys
from actors.backoff import Backoff
from actors.clock import Clock
from actors.ids import ShardId
from actors.settings import Settings
from actors.telemetry.events import (
    AssignmentWritten,
    ConnectionLost,
    ConnectionRecovered,
    LeaseExpired,
    LeaseRevived,
    MembershipChanged,
    RunnerDraining,
    ShardAcquired,
    ShardLost,
    ShardReleased,
    TakeoverEnded,
)
from actors.telemetry.hooks import Telemetry

T = TypeVar("T")

BLOCK = 2.0  # of the read that waits for events
LOOK_AT_MEMBERS = 5.0  # without an event
LOOK_AT_RECORDS = 10.0  # all of them: finds what was lost on either side
LOOK_AT_WAITING = 1.0  # shards assigned to us that somebody still owns
CUT_AFTER = 2.0  # a drain may outlast its own bound by this before it is cut from outside
OTHERS_FIRST = (0.05, 0.25)  # pause before computing an assignment that another has cause to compute

log = logging.getLogger(__name__)


class ShardHost(Protocol):
    """Who runs the actors of the shards that placement takes."""

    def reserve(self, shards: Sequence[ShardId]) -> Sequence[tuple[ShardId, str]]:
        """Return the read group to create on each shard's mailbox. A shard left out is not acquired now."""
        ...

    async def granted(self, grants: Sequence[Grant]) -> None:
        """Begin to serve these shards."""
        ...

    async def drain(self, shard: ShardId) -> str | None:
        """Finish what runs, commit, let go; return the record to release, or None if the shard was lost."""
        ...

    def lost(self, shard: ShardId, why: str) -> None:
        """Drop everything of a shard, now, without a word to Redis."""
        ...

    def held_shards(self) -> Mapping[ShardId, str]:
        """Return the epoch of every shard served or draining."""
        ...


class Statistics(NamedTuple):
    """How placement stands, and what it has done since it began."""

    owned: int
    wanted: int
    draining: int
    waiting: int
    """Assigned to us, and still owned by somebody alive."""
    members: int
    assignment: int
    """Version followed."""
    assignments_written: int
    acquired: int
    released: int
    lost: int
    takeovers: int
    """Shards taken from owners that went without a release."""
    takeover_seconds: float
    """Of the last takeover: from the sight of the lease gone to its last shard."""
    lease_remaining: float
    lapses: int
    """How often our own trust ended."""
    renewals: Renewals


class PlacementService:
    """Keeps one runner a member and its shards where the assignment wants them."""

    name = "placement"

    def __init__(  # noqa: PLR0913 - each seam is named where everything is put together
        self,
        *,
        server: Server,
        keys: Keys,
        host: ShardHost,
        member: Member,
        settings: Settings,
        clock: Clock,
        random: Random,
        telemetry: Telemetry,
        running: Callable[[], str] | None = None,
    ) -> None:
        """Nothing is connected before :meth:`run`. ``running`` names the handler the loop is in, from any thread."""
        self.member = member
        self.terms = terms(settings.lease)
        self.lease = Lease(clock.boottime, self.terms)
        """Asked by host and committer before every turn, send and commit."""
        self._server = server
        self._keys = keys
        self._host = host
        self._settings = settings
        self._clock = clock
        self._random = random
        self._telemetry = telemetry
        self._running = running
        self._renewal: Renewal | None = None
        timeout = max(settings.lease / 2, 0.25)
        self._commands = Channel(server, "placement", clock=clock, backoff=self._backoff(), timeout=timeout)
        self._events = Channel(server, "control", clock=clock, backoff=self._backoff(), timeout=BLOCK + timeout)

        self._members: dict[str, Member] = {}
        self._assignment: Assignment = EMPTY
        self._raw_assignment: bytes | None = b"?"
        self._wanted: frozenset[ShardId] = frozenset()
        self._counts: dict[str, int] = {}
        self._waiting: dict[ShardId, Record] = {}
        self._free_since: dict[ShardId, float] = {}
        self._draining: dict[ShardId, asyncio.Task[None]] = {}
        self._drained: list[tuple[ShardId, str, float]] = []
        self._look = self.terms.ttl / 20 if self.terms.ttl < 10 else 0.5
        self._absences = Absences(grace=min(0.3, self._look))
        self._gone: frozenset[str] = frozenset()
        self._gone_since: dict[str, float] = {}
        self._last_event = "0-0"
        self._watchers: list[Callable[[Mapping[str, Member]], None]] = []

        self._wake = asyncio.Event()
        self._trust_changed = asyncio.Event()
        self._give = asyncio.Event()
        self._ended = asyncio.Event()
        self._leaving = False
        self._left = False
        self._joined = False
        self._answer: Renewed | None = None
        self._superseded = False
        self._lapsed_at: float | None = None

        # A decision writes itself into what the next one reads: these say what has to be looked at next.
        self._list_anew = False
        self._members_due = 0.0
        self._records_due = 0.0
        self._compute_at: float | None = None
        self._have_cause = True
        self._again_at: float | None = None

        self._written = self._acquired = self._released = self._lost = self._takeovers = self._lapses = 0
        self._takeover_seconds = 0.0

    # what others see

    @property
    def members(self) -> Mapping[str, Member]:
        """Who is listed, by runner name, as last seen."""
        return self._members

    @property
    def assignment(self) -> Assignment:
        """The assignment that is followed."""
        return self._assignment

    def watch(self, changed: Callable[[Mapping[str, Member]], None]) -> None:
        """Have ``changed`` called with the members whenever they have changed. It must not raise."""
        self._watchers.append(changed)

    def statistics(self) -> Statistics:
        """Return how things stand."""
        return Statistics(
            owned=len(self._host.held_shards()),
            wanted=len(self._wanted),
            draining=len(self._draining),
            waiting=len(self._waiting),
            members=len(self._members),
            assignment=self._assignment.version,
            assignments_written=self._written,
            acquired=self._acquired,
            released=self._released,
            lost=self._lost,
            takeovers=self._takeovers,
            takeover_seconds=self._takeover_seconds,
            lease_remaining=self.lease.remaining,
            lapses=self._lapses,
            renewals=self._renewal.statistics() if self._renewal is not None else Renewals(0, 0, 0, 0),
        )

    # its life

    async def run(self, started: Callable[[], object]) -> None:
        """Join, call ``started`` once the first shards are taken, work until :meth:`stop`, leave.

        Raises :class:`~actors.errors.ConfigurationError` when this runner must not join, or when
        its name was taken while it did not renew; a :class:`~actors._redis.faults.RedisFault` when the
        server cannot be reached at first. Cancelled, it ends at once, with no goodbye: the
        others wait for the lease.
        """
        try:
            await self._join()
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(work(), name=f"placement {work.__name__.strip('_')}")
                    for work in (self._guard, self._listen, self._watch, self._give_back)
                ]
                await self._follow(tasks, started)
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
        finally:
            self.lease.end()
            await self._close()
            self._ended.set()

    def leave(self) -> None:
        """Begin to leave: take nothing new, hand everything over. :meth:`run` returns when it is done."""
        if not self._leaving:
            self._leaving = True
            self._list_anew = True
            self._have_cause = True
            held = self._host.held_shards()
            self._telemetry.emit(RunnerDraining(runner=self.member.name, shards=len(held), why="it leaves"))
        self._wake.set()

    async def stop(self) -> None:
        """Leave, and return when that is done. Cancelled, the leaving goes on."""
        self.leave()
        await self._ended.wait()

    async def _join(self) -> None:
        await self._commands.open()
        await self._events.open()
        if not self._server.virtual:
            await self._insist(lambda store: check_server(store, self._settings.durability, self._telemetry))
            await probe(await self._commands.until_up(), self._keys, self.member.incarnation)
        self._counts = await self._insist(lambda store: agree(store, self._settings))
        self._last_event = await self._insist(lambda store: store.last_event())
        asked = await self._insist(lambda store: take_name(store, self.member, terms=self.terms, clock=self._clock))
        self.lease.granted(asked=asked, unbroken=False)
        self.lease.resume()
        self._renewal = self._make_renewal()
        self._renewal.start()
        self._joined = True

    def _make_renewal(self) -> Renewal:
        shared = {
            "server": self._server,
            "command": renewal(self._keys, self.member.name, self.member.incarnation, self.terms.ttl),
            "lease": self.lease,
            "terms": self.terms,
            "clock": self._clock,
            "on_change": self._renewed,
            "telemetry": self._telemetry,
        }
        return RenewalTask(**shared) if self._server.virtual else RenewalThread(running=self._running, **shared)

    async def _close(self) -> None:
        if self._renewal is not None:
            await self._renewal.stop()
        await self._commands.close()
        await self._events.close()

    # follow: the one loop that decides

    async def _follow(self, tasks: asyncio.TaskGroup, started: Callable[[], object]) -> None:
        backoff, failures, since = self._backoff(), 0, 0.0
        begun = False
        while not self._left:
            self._wake.clear()
            try:
                await self._pass(tasks)
            except (NotApplied, Unknown) as fault:
                failures += 1
                self._doubt()
                if isinstance(fault, ReadOnly):
                    self._commands.drop()
                if failures == 1:
                    since = self._clock.boottime()
                    self._telemetry.emit(ConnectionLost(purpose="placement", server=self._server.url, error=str(fault)))
                if self._may_give_up():
                    return
                await self._clock.sleep(backoff.delay(failures))
                continue
            if failures:
                seconds = self._clock.boottime() - since
                self._telemetry.emit(ConnectionRecovered(purpose="placement", server=self._server.url, seconds=seconds))
                failures = 0
            if not begun:
                begun = True
                started()
            if not self._left:
                await self._until_due()

    def _may_give_up(self) -> bool:
        """Whether a leaver may go without Redis' word: its lease is long gone, so no record of it holds anybody up."""
        return self._leaving and self._lapsed_at is not None and self._clock.boottime() - self._lapsed_at > self.terms.ttl

    def _doubt(self) -> None:
        """Nothing we believe of Redis is certain: look at all of it before the next decision."""
        self._members_due = self._records_due = 0.0

    async def _until_due(self) -> None:
        times = [self._members_due, self._records_due]
        times += [at for at in (self._compute_at, self._again_at) if at is not None]
        await self._pause(self._wake, min(times) - self._clock.boottime())

    async def _pass(self, tasks: asyncio.TaskGroup) -> None:
        """Look at what is due, decide, and do it."""
        connection = self._commands.connection
        store = PlacementStore(connection if connection is not None else await self._commands.until_up(), self._keys)
        if self._list_anew:
            await self._list_again(store)
        if not self.lease.trusted() and not self._leaving:
            self._again_at = None
            self._members_due = self._records_due = self._clock.boottime() + self._look
            return
        await self._see_members(store)
        if self._settings_changed():
            await self._assign(store)
        await self._close_gaps(store, tasks)

    async def _list_again(self, store: PlacementStore) -> None:
        """Write our record anew: others took us off the list, Redis lost its memory, or we leave."""
        self._counts = await agree(store, self._settings)
        member = msgspec.structs.replace(self.member, draining=self._leaving)
        taken = await store.register(member, lease=self.terms.ttl)
        if taken is not None:
            raise await refusal(store, member.name, taken)
        self._list_anew = False
        self._doubt()

    async def _see_members(self, store: PlacementStore) -> None:
        now = self._clock.boottime()
        dead = [member for member in self._members.values() if member.incarnation in self._gone]
        if now < self._members_due and not dead:
            return
        if dead and await store.prune(dead):
            self._have_cause = True
        listed, raw = await store.view()
        self._members_due = now + LOOK_AT_MEMBERS
        self._follow_assignment(raw)
        self._note_members(by_name(listed))
        ours = self._members.get(self.member.name)
        if (ours is None or ours.incarnation != self.member.incarnation) and self._renewal is not None:
            self._renewal.now()  # which finds out what it means

    def _note_members(self, members: dict[str, Member]) -> None:
        before, self._members = self._members, members
        if before == members:
            return
        old, new = ({(member.name, member.incarnation) for member in some.values()} for some in (before, members))
        self._telemetry.emit(
            MembershipChanged(
                members=len(members),
                joined=", ".join(sorted(name for name, _ in new - old)) or "nobody",
                left=", ".join(sorted(name for name, _ in old - new)) or "nobody",
            )
        )
        for changed in self._watchers:
            changed(members)

    def _follow_assignment(self, raw: bytes | None) -> None:
        if raw != self._raw_assignment:
            self._raw_assignment = raw
            self._assignment = record.decode(raw)
        wanted = self._assignment.wanted(self.member.name) if not self._leaving else frozenset[ShardId]()
        if wanted != self._wanted:
            self._wanted = wanted
            self._records_due = 0.0

    # the assignment

    def _settings_changed(self) -> bool:
        """Whether the assignment is not the one for these members, and it is our turn to write the next."""
        shares = record.eligible(self._members.values())
        if record.stands(self._assignment, shares, self._counts):
            self._compute_at = None
            self._have_cause = False
            return False
        now = self._clock.boottime()
        if self._have_cause:
            return True
        if self._compute_at is None:
            self._compute_at = now + self._random.uniform(*OTHERS_FIRST)
        return now >= self._compute_at

    async def _assign(self, store: PlacementStore) -> None:
        before, shares = self._assignment, record.eligible(self._members.values())
        self._counts = await agree(store, self._settings)
        after = record.successor(before, shares, self._counts)
        raw = record.encode(after)
        stands = await store.assign(before.version, raw)
        self._compute_at = None
        self._have_cause = False
        if stands is None:
            self._written += 1
            self._telemetry.emit(AssignmentWritten(version=after.version, members=len(shares), moved=record.moves(before, after)))
        else:
            self._members_due = 0.0
        self._follow_assignment(raw if stands is None else stands)

    # the gaps

    async def _close_gaps(self, store: PlacementStore, tasks: asyncio.TaskGroup) -> None:
        now = self._clock.boottime()
        self._again_at = None
        held = self._host.held_shards()
        all_of_them = now >= self._records_due or (self._leaving and not held and not self._draining)
        unheld = [shard for shard in self._wanted if shard not in held and shard not in self._draining]
        if not all_of_them and not unheld:
            self._waiting.clear()
            return
        records = await store.records(None if all_of_them else unheld)
        if all_of_them:
            self._records_due = now + LOOK_AT_RECORDS
            for shard in {*unheld, *self._host.held_shards()} - records.keys():
                records[shard] = UNOWNED
        todo = plan(
            me=self.member.incarnation,
            wanted=self._wanted,
            records=records,
            dead=self._gone,
            held=self._host.held_shards(),
            draining=self._draining.keys(),
        )
        self._waiting = {shard: records[shard] for shard in todo.waiting}
        if self._waiting:
            self._look_again(LOOK_AT_WAITING)
        for shard in todo.lost:
            self._lose(shard, "its record names another owner or epoch")
        for shard in todo.drain:
            self._draining[shard] = tasks.create_task(self._drain(shard), name=f"drain {shard.label}")
        if todo.release:
            await self._release_unheld(store, todo)
        if todo.acquire:
            await self._acquire(store, todo.acquire)
        if self._leaving and all_of_them and not self._draining and not self._host.held_shards() and not todo.release:
            await self._go(store)

    async def _release_unheld(self, store: PlacementStore, todo: Plan) -> None:
        """Give back what an acquire took whose answer was lost, and which is not ours to hold any more."""
        self._records_due = 0.0
        for batch in _batches(todo.release):
            await store.release([(shard, seen.text) for shard, seen in batch])
        self._look_again(0.0)

    async def _go(self, store: PlacementStore) -> None:
        if await store.leave(self.member.name, self.member.incarnation):
            self._records_due = 0.0
            self._look_again(0.0)
        else:
            self._left = True

    def _look_again(self, seconds: float) -> None:
        at = self._clock.boottime() + seconds
        self._again_at = at if self._again_at is None else min(self._again_at, at)

    # taking shards

    async def _acquire(self, store: PlacementStore, wanted: Sequence[tuple[ShardId, Record]]) -> None:
        now = self._clock.boottime()
        for shard, _ in wanted:
            self._free_since.setdefault(shard, now)
        taken: list[tuple[ShardId, Record]] = []
        for batch in _batches(wanted):
            seen = dict(batch)
            groups = self._host.reserve([shard for shard, _ in batch])
            if len(groups) < len(batch):
                self._look_again(0.02)
            if not groups or not self.lease.trusted():
                continue
            asked = [Wanted(shard, seen[shard], group) for shard, group in groups]
            answers = await store.acquire(self.member.incarnation, asked)
            if answers is None or not self.lease.trusted():
                # Gone by Redis' word or by our own clock. What was taken is taken anew, or given back.
                self._records_due = 0.0
                if answers is None and self._renewal is not None:
                    self._renewal.now()
                self._look_again(self._look)
                break
            grants = [answer for answer in answers if isinstance(answer, Grant)]
            if grants:
                await self._host.granted(grants)
                taken += [(grant.shard, seen[grant.shard]) for grant in grants]
                self._note_grants(grants, seen)
            for answer in answers:
                if isinstance(answer, Moved) and answer.record.owner is None:
                    self._look_again(0.0)
                elif not isinstance(answer, Grant):
                    self._look_again(self._look)
        self._note_takeovers(taken)

    def _note_grants(self, grants: Sequence[Grant], seen: Mapping[ShardId, Record]) -> None:
        now = self._clock.boottime()
        for grant in grants:
            self._acquired += 1
            owner = seen[grant.shard].owner
            self._telemetry.emit(
                ShardAcquired(
                    shard=grant.shard.label,
                    epoch=grant.epoch,
                    previous=owner or "",
                    unclean=owner not in {None, self.member.incarnation},
                    seconds=now - self._free_since.pop(grant.shard, now),
                )
            )

    def _note_takeovers(self, taken: Sequence[tuple[ShardId, Record]]) -> None:
        owners: dict[str, int] = {}
        for _, seen in taken:
            if seen.owner is not None and seen.owner != self.member.incarnation:
                owners[seen.owner] = owners.get(seen.owner, 0) + 1
        now = self._clock.boottime()
        for owner, shards in owners.items():
            self._takeovers += shards
            self._takeover_seconds = now - self._gone_since.get(owner, now)
            self._telemetry.emit(TakeoverEnded(previous=owner, shards=shards, seconds=self._takeover_seconds))

    # giving shards

    async def _drain(self, shard: ShardId) -> None:
        began = self._clock.boottime()
        try:
            async with asyncio.timeout(self._settings.drain_timeout + CUT_AFTER):
                token = await self._host.drain(shard)
        except TimeoutError:
            self._drop(shard, "its drain did not end in time")
            token = None
        if token is None:
            self._draining.pop(shard, None)
            self._records_due = 0.0
            self._wake.set()
        else:
            self._drained.append((shard, token, began))
            self._give.set()

    async def _give_back(self) -> None:
        backoff = self._backoff()
        while True:
            await self._give.wait()
            self._give.clear()
            batch, self._drained = self._drained[:BATCH], self._drained[BATCH:]
            if self._drained:
                self._give.set()
            tokens = [(shard, token) for shard, token, _ in batch]
            answers = await self._insist(functools.partial(PlacementStore.release, tokens=tokens), backoff)
            now = self._clock.boottime()
            for (shard, token, began), released in zip(batch, answers, strict=True):
                self._draining.pop(shard, None)
                self._released += released
                if released:
                    epoch = Record.parse(token).epoch
                    self._telemetry.emit(ShardReleased(shard=shard.label, epoch=epoch, seconds=now - began))
                else:
                    self._records_due = 0.0  # released by a call without an answer, or lost
            self._wake.set()

    def _lose(self, shard: ShardId, why: str) -> None:
        drain = self._draining.pop(shard, None)
        if drain is not None:
            drain.cancel()
        self._drop(shard, why)

    def _drop(self, shard: ShardId, why: str) -> None:
        epoch = self._host.held_shards().get(shard)
        if epoch is not None:
            self._lost += 1
            self._telemetry.emit(ShardLost(shard=shard.label, epoch=epoch, why=why))
            self._host.lost(shard, why)

    # guard: our own lease

    def _renewed(self, answer: Renewed) -> None:
        """An answer after which trust did not simply go on. Called on the loop."""
        self._answer = answer
        if answer is Renewed.UNLISTED:
            self._list_anew = True
        self._trust_changed.set()

    async def _guard(self) -> None:
        deadline = self.lease.until
        while True:
            left = self.lease.remaining
            if left > 0 and self._answer is not Renewed.SUPERSEDED:
                deadline = max(deadline, self.lease.until)
                await self._pause(self._trust_changed, left)
                self._trust_changed.clear()
                continue
            now = self._clock.boottime()
            if now >= deadline or self._answer is Renewed.SUPERSEDED:
                self._lapse(late=max(now - deadline, 0.0))
            await self._come_back(now)
            deadline = self.lease.until

    def _lapse(self, *, late: float) -> None:
        held = list(self._host.held_shards())
        self._lapses += 1
        self._lapsed_at = self._clock.boottime() - late
        error = "another incarnation has this runner's name" if self._answer is Renewed.SUPERSEDED else "no answer in time"
        self._telemetry.emit(LeaseExpired(error=error, late=late, shards=len(held)))
        for shard in held:
            self._lose(shard, "the lease ended")

    async def _come_back(self, since: float) -> None:
        """Wait for an answer to trust, check what is still held against the records, and trust it."""
        while not self.lease.offered:
            if self._answer is Renewed.SUPERSEDED:
                store = PlacementStore(await self._commands.until_up(), self._keys)
                holder = await store.holder(self.member.name)
                raise await refusal(store, self.member.name, holder.incarnation if holder is not None else "unknown")
            await self._pause(self._trust_changed, self.terms.ttl)
            self._trust_changed.clear()
        self._answer = None
        held = dict(self._host.held_shards())
        lost = await self._check(held) if held else 0
        self._absences.forget()
        self._gone = frozenset()
        self._doubt()
        if self.lease.resume():
            self._lapsed_at = None
            seconds = self._clock.boottime() - since
            self._telemetry.emit(LeaseRevived(seconds=seconds, kept=len(held) - lost, lost=lost))
            self._wake.set()

    async def _check(self, held: Mapping[ShardId, str]) -> int:
        """Drop those of ``held`` whose record is another now; return how many. The lease had been gone for a moment."""
        records = await self._insist(lambda store: store.records(list(held)))
        lost = [shard for shard, epoch in held.items() if (records[shard].owner, records[shard].epoch) != (self.member.incarnation, epoch)]
        for shard in lost:
            self._lose(shard, "taken while the lease was gone")
        return len(lost)

    # listen: what the others do

    async def _listen(self) -> None:
        backoff, failures = self._backoff(), 0
        while True:
            store = PlacementStore(await self._events.until_up(), self._keys)
            try:
                if failures:
                    self._last_event = await store.last_event()
                    self._doubt()
                    self._wake.set()
                    failures = 0
                events = await store.events(self._last_event, wait=BLOCK)
            except RedisFault as fault:
                failures += 1
                if isinstance(fault, ReadOnly):
                    self._events.drop()
                await self._clock.sleep(backoff.delay(failures))
                continue
            for event in events:
                self._last_event = event.id
                self._heard(event)

    def _heard(self, event: Event) -> None:
        match event.kind:
            case "released":
                waited = {shard.label for shard in self._wanted if shard not in self._host.held_shards()}
                if not waited.isdisjoint(event.shards):
                    self._wake.set()
            case "assigned" if event.fields.get("v") == str(self._assignment.version):
                pass
            case "assigned" | "joined" | "changed" | "left" | "died":
                self._members_due = 0.0
                self._wake.set()
            case _:
                log.debug("event %s %s", event.kind, event.fields)

    # watch: the others' leases

    async def _watch(self) -> None:
        while True:
            now = self._clock.boottime()
            await self._clock.sleep(self._absences_grace() if self._absences.unconfirmed(now=now) else self._look)
            if not self.lease.trusted():
                self._absences.forget()
                continue
            try:
                store = PlacementStore(await self._commands.until_up(), self._keys)
                leases = await store.leases(self._others())
            except RedisFault:
                self._absences.forget()
                continue
            now = self._clock.boottime()
            self._absences.look(leases, now=now)
            gone = self._absences.gone(now=now)
            if gone != self._gone:
                self._gone_since = {who: self._gone_since.get(who, now) for who in gone}
                if gone - self._gone:
                    self._wake.set()
                self._gone = gone

    def _absences_grace(self) -> float:
        return min(0.3, self._look)

    def _others(self) -> list[str]:
        """The incarnations that hold something we want, or are listed."""
        owners = {seen.owner for seen in self._waiting.values() if seen.owner is not None}
        listed = {member.incarnation for member in self._members.values()}
        return sorted((owners | listed) - {self.member.incarnation})

    # inside

    def _backoff(self) -> Backoff:
        return Backoff(random=self._random, initial=0.05, maximum=1.0)

    async def _insist(self, call: Callable[[PlacementStore], Awaitable[T]], backoff: Backoff | None = None) -> T:
        """Make a call that may be repeated, until it is answered."""
        backoff = backoff or self._backoff()
        failures = 0
        while True:
            store = PlacementStore(await self._commands.until_up(), self._keys)
            try:
                return await call(store)
            except (NotApplied, Unknown) as fault:
                failures += 1
                if isinstance(fault, ReadOnly):
                    self._commands.drop()
                await self._clock.sleep(backoff.delay(failures))

    @staticmethod
    async def _pause(event: asyncio.Event, seconds: float) -> None:
        """Wait for ``event``, for at most so long."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        else:
            await asyncio.sleep(0)


def _batches(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
