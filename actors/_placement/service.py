"""Placement at work: joining, following the assignment, taking and giving shards, leaving.

Five things go on at once, each a short loop:

* *follow* compares what is assigned, what is recorded and what is held, and closes the gaps
  (:mod:`~actors._placement.ownership`). It alone acquires, so no two acquires of ours race.
* *listen* waits for events (a member came or went, an assignment, a release) and wakes
  ``follow``: a released shard is taken within a round trip or two.
* :mod:`~actors._placement.liveness` looks at the leases of the others, and wakes ``follow``
  when one is gone.
* :mod:`~actors._placement.standing` guards our own. When its trust ends, everything held is
  dropped at once, with no word to Redis; when it is back, ``follow`` acquires anew what
  nobody took meanwhile.
* :mod:`~actors._placement.handover` drains and releases.

Events only make it fast. Each loop also looks by itself, seldom, so a lost event costs
seconds and nothing else. After a call whose effect is unknown, ``follow`` reads all records
again before it decides anything more: the records are the truth, an answer is only news of them.

Leaving goes the same way with nothing wanted: drain all, release all, and go only when Redis
has confirmed that no record names us. Renewals go on until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from actors._placement import assignment as record
from actors._placement.assignment import EMPTY, Assignment
from actors._placement.handover import Drainable, Handover
from actors._placement.joining import agree, check_server, refusal, take_name
from actors._placement.lease import Lease, terms
from actors._placement.link import Link
from actors._placement.liveness import Liveness
from actors._placement.membership import Member, by_name
from actors._placement.ownership import UNOWNED, Acquired, Grant, Moved, Record, plan
from actors._placement.probe import probe
from actors._placement.renewal import Needs, Renewal, Renewals, RenewalTask, RenewalThread
from actors._placement.standing import Standing
from actors._placement.store import BATCH, Event, PlacementStore, Renewed, Wanted, renewal
from actors._redis.connection import Server
from actors._redis.faults import CommandFailed, NotApplied, ScriptFailed, Unknown
from actors._redis.keys import Keys
from actors.clock import Clock
from actors.ids import ShardId
from actors.settings import Settings
from actors.telemetry.events import (
    AssignmentWritten,
    ConnectionLost,
    ConnectionRecovered,
    MembershipChanged,
    RunnerDraining,
    ShardAcquired,
    TakeoverEnded,
)
from actors.telemetry.hooks import Telemetry

T = TypeVar("T")

BLOCK = 2.0  # of the read that waits for events
LOOK_AT_MEMBERS = 5.0  # without an event
LOOK_AT_RECORDS = 10.0  # all of them: finds what was lost on either side
LOOK_AT_WAITING = 1.0  # shards assigned to us that somebody still owns
CUT_AFTER = 2.0  # what the host may take to drain a shard: running turns, then closing; and this on top
SOONEST = 0.001  # between two looks, unless there is news: whatever goes wrong, this loop does not spin
RETRY = 0.05  # after an acquire that was put off
OTHERS_FIRST = (0.05, 0.25)  # pause before computing an assignment that another has cause to compute

log = logging.getLogger(__name__)


class ShardHost(Drainable, Protocol):
    """Who runs the actors of the shards that placement takes."""

    def reserve(self, shards: Sequence[ShardId]) -> Sequence[tuple[ShardId, str]]:
        """Return the read group to create on each shard's mailbox. A shard left out is not acquired now."""
        ...

    async def granted(self, grants: Sequence[Grant]) -> None:
        """Begin to serve these shards."""
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
    """Of the last takeover: from the first sight of the lease missing to its last shard."""
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
        timeout = max(settings.lease / 2, 0.25)
        self._link = Link(server, "placement", keys, clock=clock, random=random, timeout=timeout)
        self._news = Link(server, "control", keys, clock=clock, random=random, timeout=BLOCK + timeout)
        self._renewal: Renewal | None = None
        self._standing = Standing(
            self._link, member=member, lease=self.lease, terms=self.terms, clock=clock, host=host, lose=self._lose, telemetry=telemetry
        )
        self._liveness = Liveness(self._link, ttl=self.terms.ttl, lease=self.lease, clock=clock, others=self._others, died=self._look_now)
        self._handover = Handover(
            self._link,
            host,
            bound=settings.drain_timeout + 2 * settings.activation_timeout + CUT_AFTER,
            clock=clock,
            telemetry=telemetry,
            doubtful=self._doubt_records,
            done=self._look_now,
        )

        self._members: dict[str, Member] = {}
        self._assignment: Assignment = EMPTY
        self._raw_assignment: bytes | None = None
        self._wanted: frozenset[ShardId] = frozenset()
        self._counts: dict[str, int] = {}
        self._waiting: dict[ShardId, Record] = {}
        self._free_since: dict[ShardId, float] = {}
        self._last_event = "0-0"
        self._watchers: list[Callable[[Mapping[str, Member]], None]] = []

        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._begun = False
        self._leaving = False
        self._left = False

        # A decision writes itself into what the next one reads: these say what has to be looked at, and when.
        self._list_anew = False
        self._have_cause = True
        self._members_due = 0.0
        self._records_due = 0.0
        self._compute_at: float | None = None
        self._again_at: float | None = None

        self._written = self._acquired = self._takeovers = 0
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

    def recheck(self) -> None:
        """Look at all records now: what is held may not be what they say. For a host that was fenced."""
        self._doubt_records()
        self._look_now()

    def statistics(self) -> Statistics:
        """Return how things stand."""
        return Statistics(
            owned=len(self._host.held_shards()),
            wanted=len(self._wanted),
            draining=len(self._handover.under_way),
            waiting=len(self._waiting),
            members=len(self._members),
            assignment=self._assignment.version,
            assignments_written=self._written,
            acquired=self._acquired,
            released=self._handover.released,
            lost=self._handover.lost,
            takeovers=self._takeovers,
            takeover_seconds=self._takeover_seconds,
            lease_remaining=self.lease.remaining,
            lapses=self._standing.lapses,
            renewals=self._renewal.statistics() if self._renewal is not None else Renewals(0, 0, 0, 0),
        )

    # its life

    async def run(self, started: Callable[[], None]) -> None:
        """Join, call ``started`` once the first shards are taken, and work until cancelled.

        To leave in good order, await :meth:`stop` before. Cancelled without, it ends at
        once: nothing is given back, and the others wait for the lease.

        Raises :class:`~actors.errors.ConfigurationError` when this runner must not join, or when
        its name was taken while it did not renew; a :class:`~actors._redis.faults.RedisFault` when the
        server cannot be reached at first.
        """
        self._begun = True
        try:
            await self._join()
            async with asyncio.TaskGroup() as tasks:
                loops = (self._standing.guard(self._resumed), self._listen(), self._liveness.watch(), self._handover.give_back())
                names = ("guard", "listen", "watch", "give back")
                helpers = [tasks.create_task(loop, name=f"placement: {name}") for loop, name in zip(loops, names, strict=True)]
                await self._follow(tasks, started)
                for helper in helpers:
                    helper.cancel()
            self.lease.end()
            self._ended.set()
            await asyncio.Event().wait()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
        finally:
            self.lease.end()
            await self._close()
            self._ended.set()

    def leave(self) -> None:
        """Begin to leave: take nothing new, hand everything over. :meth:`stop` waits until it is done."""
        if not self._leaving:
            self._leaving = self._list_anew = self._have_cause = True
            held = len(self._host.held_shards())
            self._telemetry.emit(RunnerDraining(runner=self.member.name, shards=held, why="it leaves"))
        self._look_now()

    async def stop(self) -> None:
        """Leave, and return when that is done, or when :meth:`run` has ended. Cancelled, the leaving goes on."""
        self.leave()
        if self._begun:
            await self._ended.wait()

    async def _join(self) -> None:
        await self._link.open()
        await self._news.open()
        if not self._server.virtual:
            await self._link.insist(lambda store: check_server(store, self._settings.durability, self._telemetry))
            await self._link.insist(lambda store: probe(store.connection, self._keys, self.member.incarnation))
        self._counts = await self._link.insist(lambda store: agree(store, self._settings))
        self._last_event = await self._link.insist(lambda store: store.last_event())
        asked = await self._link.insist(lambda store: take_name(store, self.member, terms=self.terms, clock=self._clock))
        self.lease.granted(asked=asked, unbroken=False)
        self.lease.resume()
        self._renewal = self._make_renewal()
        self._renewal.start()

    def _make_renewal(self) -> Renewal:
        needs: Needs = {
            "server": self._server,
            "command": renewal(self._keys, self.member.name, self.member.incarnation, self.terms.ttl),
            "lease": self.lease,
            "terms": self.terms,
            "clock": self._clock,
            "on_change": self._renewed,
            "telemetry": self._telemetry,
        }
        return RenewalTask(**needs) if self._server.virtual else RenewalThread(running=self._running, **needs)

    def _renewed(self, answer: Renewed) -> None:
        if not answer.listed:
            self._list_anew = True
            self._look_now()
        self._standing.heard(answer)

    def _resumed(self) -> None:
        """Our trust is back. What we knew of the others is from before."""
        self._liveness.forget()
        self._doubt_all()
        self._look_now()

    async def _close(self) -> None:
        if self._renewal is not None:
            await self._renewal.stop()
        await self._link.close()
        await self._news.close()

    # follow: the one loop that decides

    async def _follow(self, tasks: asyncio.TaskGroup, started: Callable[[], None]) -> None:
        backoff, failures, since = self._link.backoff(), 0, 0.0
        ready = False
        while not self._left:
            self._wake.clear()
            try:
                await self._pass(await self._link.store(), tasks)
            except (NotApplied, Unknown) as fault:
                failures += 1
                self._doubt_all()
                self._link.judge(fault)
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
            if not ready:
                ready = True
                started()
            if not self._left:
                await self._until_due()

    async def _until_due(self) -> None:
        times = [self._members_due, self._records_due]
        times += [at for at in (self._compute_at, self._again_at) if at is not None]
        seconds = max(min(times) - self._clock.boottime(), SOONEST)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _may_give_up(self) -> bool:
        """Whether a leaver may go without Redis' word: its lease is long gone, so no record of it holds anybody up."""
        lapsed = self._standing.lapsed_at
        return self._leaving and lapsed is not None and self._clock.boottime() - lapsed > self.terms.ttl

    async def _pass(self, store: PlacementStore, tasks: asyncio.TaskGroup) -> None:
        """Look at what is due, decide, and do it."""
        self._again_at = None
        if self._list_anew:
            await self._list_again(store)
        if not self.lease.trusted() and not self._leaving:
            self._members_due = self._records_due = self._clock.boottime() + self._liveness.every
            self._compute_at = None
            return
        await self._see_members(store)
        if self._assignment_is_ours_to_write():
            await self._assign(store)
        await self._close_gaps(store, tasks)

    def _look_now(self) -> None:
        self._wake.set()

    def _look_again(self, seconds: float) -> None:
        at = self._clock.boottime() + seconds
        self._again_at = at if self._again_at is None else min(self._again_at, at)

    def _doubt_records(self) -> None:
        self._records_due = 0.0

    def _doubt_all(self) -> None:
        self._members_due = self._records_due = 0.0

    # the members

    async def _list_again(self, store: PlacementStore) -> None:
        """Write our record anew: others took us off the list, Redis lost its memory, or we leave."""
        self._counts = await agree(store, self._settings)
        member = msgspec.structs.replace(self.member, draining=self._leaving)
        taken = await store.register(member, lease=self.terms.ttl)
        if taken is not None:
            raise await refusal(store, member.name, taken)
        self._list_anew = False
        self._doubt_all()

    async def _see_members(self, store: PlacementStore) -> None:
        now = self._clock.boottime()
        dead = [member for member in self._members.values() if member.incarnation in self._liveness.dead]
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
        if old != new:
            self._telemetry.emit(
                MembershipChanged(
                    members=len(members),
                    joined=", ".join(sorted(name for name, _ in new - old)) or "nobody",
                    left=", ".join(sorted(name for name, _ in old - new)) or "nobody",
                )
            )
        for changed in self._watchers:
            changed(members)

    def _others(self) -> set[str]:
        """The incarnations that are listed, or hold something we want."""
        owners = {seen.owner for seen in self._waiting.values() if seen.owner is not None}
        listed = {member.incarnation for member in self._members.values()}
        return (owners | listed) - {self.member.incarnation}

    # the assignment

    def _follow_assignment(self, raw: bytes | None) -> None:
        if raw != self._raw_assignment:
            self._raw_assignment = raw
            self._assignment = record.decode(raw)
        wanted = frozenset[ShardId]() if self._leaving else self._assignment.wanted(self.member.name)
        if wanted != self._wanted:
            self._wanted = wanted
            self._doubt_records()

    def _assignment_is_ours_to_write(self) -> bool:
        """Whether the assignment is not the one for these members, and nobody with better cause has seen to it."""
        if record.stands(self._assignment, record.eligible(self._members.values()), self._counts):
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
        before, members = self._assignment, record.eligible(self._members.values())
        self._counts = await agree(store, self._settings)
        self._compute_at = None
        self._have_cause = False
        if record.stands(before, members, self._counts):
            return
        after = record.successor(before, members, self._counts)
        raw = record.encode(after)
        stands = await store.assign(before.version, raw)
        if stands is None:
            self._written += 1
            self._telemetry.emit(AssignmentWritten(version=after.version, members=len(members), moved=record.moves(before, after)))
        else:
            self._members_due = 0.0
        self._follow_assignment(raw if stands is None else stands)

    # the gaps

    async def _close_gaps(self, store: PlacementStore, tasks: asyncio.TaskGroup) -> None:
        now = self._clock.boottime()
        held = self._host.held_shards()
        idle = not held and not self._handover.under_way
        look_at_all = now >= self._records_due or (self._leaving and idle)
        missing = sorted(self._wanted - held.keys() - set(self._handover.under_way))
        if not look_at_all and not missing:
            self._waiting.clear()
            return
        records = await store.records(None if look_at_all else missing)
        held = self._host.held_shards()
        if look_at_all:
            self._records_due = now + LOOK_AT_RECORDS
            records |= dict.fromkeys(sorted({*missing, *held} - records.keys()), UNOWNED)
        todo = plan(
            me=self.member.incarnation,
            wanted=self._wanted,
            records=records,
            dead=self._liveness.dead,
            held=held,
            draining=self._handover.under_way,
        )
        self._waiting = {shard: records[shard] for shard in todo.waiting}
        if self._waiting:
            self._look_again(LOOK_AT_WAITING)
        if todo.lost:
            self._lose(todo.lost, "its record names another owner or epoch")
        for shard in todo.drain:
            self._handover.begin(shard, tasks)
        if todo.release:
            await self._release_unheld(store, todo.release)
        if todo.acquire:
            await self._acquire(store, todo.acquire)
        if self._leaving and look_at_all and idle and not todo.release:
            await self._go(store)

    def _lose(self, shards: Iterable[ShardId], why: str) -> None:
        self._handover.lose(shards, why)

    async def _release_unheld(self, store: PlacementStore, shards: Sequence[tuple[ShardId, Record]]) -> None:
        """Give back what an acquire took whose answer was lost, and which is not ours to hold any more."""
        self._doubt_records()
        for batch in _batches(shards):
            await store.release([(shard, seen.text) for shard, seen in batch])

    async def _go(self, store: PlacementStore) -> None:
        if await store.leave(self.member.name, self.member.incarnation):
            self._doubt_records()
        else:
            self._left = True

    # taking shards

    async def _acquire(self, store: PlacementStore, wanted: Sequence[tuple[ShardId, Record]]) -> None:
        now = self._clock.boottime()
        for shard, _ in wanted:
            self._free_since.setdefault(shard, now)
        taken: dict[str, int] = {}
        for batch in _batches(wanted):
            seen = dict(batch)
            groups = self._host.reserve([shard for shard, _ in batch])
            if len(groups) < len(batch):
                self._look_again(RETRY)
            if not groups:
                continue
            if self._leaving or not self.lease.trusted():
                break
            answers = await self._try_to_acquire(store, [Wanted(shard, seen[shard], group) for shard, group in groups])
            if answers is None or not self.lease.trusted():
                # Gone by Redis' word, or by our own clock. What was taken is taken anew, or given back.
                if answers is None and self._renewal is not None:
                    self._renewal.now()
                self._records_due = self._clock.boottime() + self._liveness.every
                break
            await self._accept(answers, seen, taken)
        self._note_takeovers(taken)

    async def _try_to_acquire(self, store: PlacementStore, wanted: Sequence[Wanted]) -> list[Acquired] | None:
        """Acquire; a shard of which Redis holds what it should not (keys of another type) keeps no others from it."""
        try:
            return await store.acquire(self.member.incarnation, wanted)
        except (CommandFailed, ScriptFailed) as fault:
            if len(wanted) == 1:
                log.warning("shard %s cannot be taken, because of what Redis holds of it: %s", wanted[0].shard.label, fault)
                self._look_again(self._liveness.every)
                return []
            answers: list[Acquired] = []
            for each in wanted:
                more = await self._try_to_acquire(store, [each])
                if more is None:
                    return None
                answers += more
            return answers

    async def _accept(self, answers: Sequence[Acquired], seen: Mapping[ShardId, Record], taken: dict[str, int]) -> None:
        grants = [answer for answer in answers if isinstance(answer, Grant)]
        if grants:
            await self._host.granted(grants)
        for answer in answers:
            if isinstance(answer, Grant):
                self._note_grant(answer, seen[answer.shard], taken)
            elif isinstance(answer, Moved) and answer.record.owner is None:
                self._look_again(0.0)
            else:
                self._look_again(self._liveness.every)

    def _note_grant(self, grant: Grant, seen: Record, taken: dict[str, int]) -> None:
        now = self._clock.boottime()
        self._acquired += 1
        unclean = seen.owner is not None and seen.owner != self.member.incarnation
        if unclean:
            owner = seen.owner or ""
            taken[owner] = taken.get(owner, 0) + 1
        self._telemetry.emit(
            ShardAcquired(
                shard=grant.shard.label,
                epoch=grant.epoch,
                previous=seen.owner or "",
                unclean=unclean,
                seconds=now - self._free_since.pop(grant.shard, now),
            )
        )

    def _note_takeovers(self, taken: Mapping[str, int]) -> None:
        now = self._clock.boottime()
        for owner, shards in taken.items():
            self._takeovers += shards
            self._takeover_seconds = now - self._liveness.since(owner, default=now)
            self._telemetry.emit(TakeoverEnded(previous=owner, shards=shards, seconds=self._takeover_seconds))

    # listen: what the others do

    async def _listen(self) -> None:
        backoff, failures = self._news.backoff(), 0
        while True:
            try:
                store = await self._news.store()
                if failures:
                    self._last_event = await store.last_event()
                    self._doubt_all()
                    self._look_now()
                events = await store.events(self._last_event, wait=BLOCK)
            except (NotApplied, Unknown, CommandFailed) as fault:
                failures += 1
                self._news.judge(fault)
                await self._clock.sleep(backoff.delay(failures))
                continue
            failures = 0
            for event in events:
                self._last_event = event.id
                self._heard(event)

    def _heard(self, event: Event) -> None:
        match event.kind:
            case "released":
                missing = self._wanted - self._host.held_shards().keys()
                if missing and not {shard.label for shard in missing}.isdisjoint(event.shards):
                    self._look_now()
            case "assigned" if event.fields.get("v") == str(self._assignment.version):
                pass
            case "assigned" | "joined" | "changed" | "left" | "died":
                self._members_due = 0.0
                self._look_now()
            case _:
                log.debug("event %s %s", event.kind, event.fields)


def _batches(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
