"""One actor's messages between stream, memory and backlog: in order and complete, whatever happens when.

A model of everything around an :class:`Activation`: the stream and the backlog in Redis,
the ordered commits that are gathered here and become real later (or, when the owner dies,
never), the pages of the backlog that were asked for before something else happened. Hypothesis
chooses what happens next. The class under test is the real one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors._runner.activation import Activation, Message, Phase, entry_order
from actors.ids import ActorAddress

WRITER = cast(Any, SimpleNamespace(read_only=False))
READER = cast(Any, SimpleNamespace(read_only=True))
SPEC = cast(Any, SimpleNamespace(state=None))


@dataclass
class Redis:
    """What one actor has in Redis."""

    stream: dict[bytes, bool] = field(default_factory=dict[bytes, bool])
    """Entry → whether it only reads."""
    backlog: dict[bytes, bool] = field(default_factory=dict[bytes, bool])
    last: bytes = b"0-0"
    """Last id of the backlog's stream, which takes only higher ones."""
    held: bool = False
    handled: list[bytes] = field(default_factory=list[bytes])

    def delete(self, entry: bytes) -> None:
        """A turn of a message from the stream is real."""
        assert entry in self.stream, "handled twice, or never stored"
        del self.stream[entry]
        self.handled.append(entry)

    def move(self, entries: list[bytes]) -> None:
        """The commit's operation ``B``."""
        for entry in entries:
            if entry in self.stream:
                assert entry_order(entry) > entry_order(self.last), "Redis refuses an id that is not higher"
                self.backlog[entry] = self.stream.pop(entry)
                self.last = entry
        self.held = True

    def done(self, entry: bytes) -> None:
        """The commit's operation ``b``."""
        assert entry in self.backlog, "handled twice, or never moved"
        del self.backlog[entry]
        self.handled.append(entry)
        if not self.backlog:
            self.held = False
            self.last = b"0-0"


class Owner:
    """The runner's side, as engine and backlogs drive an activation."""

    def __init__(self, redis: Redis, limit: int) -> None:
        self.redis = redis
        self.activation = Activation(cast(Any, None), SPEC, ActorAddress("A", "a"), limit=limit, concurrency=1)
        self.activation.phase = Phase.READY
        self.activation.more = redis.held
        self.seen = b"0-0"
        self.commits: deque[list[tuple[str, Any]]] = deque()
        self.gathered: list[tuple[str, Any]] = []
        self.asked: tuple[bytes, int] | None = None
        self.page: tuple[list[bytes], int] | None = None
        self.started: list[bytes] = []

    # what may happen, and when

    @property
    def next(self) -> bytes | None:
        """The next entry that the stream brings."""
        return next((each for each in self.redis.stream if entry_order(each) > entry_order(self.seen)), None)

    def read(self) -> None:
        """It arrives."""
        entry = self.next
        assert entry is not None
        self.seen = entry
        moving = self.activation.enqueue(message(entry, reads=self.redis.stream[entry]))
        if moving:
            self.gather("move", [each.entry for each in moving])

    @property
    def may_start(self) -> bool:
        """Whether a turn may begin."""
        return bool(self.activation.queue) and self.activation.may_start()

    def start(self) -> None:
        """It begins."""
        activation = self.activation
        begun = activation.queue.popleft()
        beside = [turn.message for turn in activation.running if turn.message is not None]
        assert all(each.method.read_only for each in beside), "beside a writer nothing runs"
        assert begun.method.read_only or not beside, "a writer runs alone"
        activation.running.append(cast(Any, SimpleNamespace(message=begun, ended=False)))
        activation.writers += not begun.method.read_only
        self.started.append(begun.entry)

    def end(self, which: int, *, well: bool) -> None:
        """A turn ends, well or to be run again."""
        activation = self.activation
        turn = activation.running.pop(which % len(activation.running))
        turn.ended = True
        ended = turn.message
        assert ended is not None
        activation.writers -= not ended.method.read_only
        if well:
            self.gather("done" if activation.handled(ended.entry) else "delete", ended.entry)
            return
        activation.queue.appendleft(ended)
        moving = activation.hold()
        if moving:
            self.gather("move", [each.entry for each in moving])

    def gather(self, operation: str, what: Any) -> None:
        """Note an effect for the next commit."""
        self.activation.uncommitted += 1
        self.gathered.append((operation, what))

    def send(self) -> None:
        """What has gathered is on its way."""
        self.commits.append(self.gathered)
        self.gathered = []

    def commit(self) -> None:
        """The oldest batch becomes real and is acknowledged."""
        for operation, what in self.commits.popleft():
            getattr(self.redis, operation)(what)
            self.activation.uncommitted -= 1

    @property
    def may_ask(self) -> bool:
        """Whether the next page of the backlog may be asked for."""
        activation = self.activation
        busy = activation.queue or activation.uncommitted or self.asked is not None or self.page is not None
        return activation.more and not busy

    def ask(self) -> None:
        """It is asked for."""
        self.asked = (self.activation.after, self.activation.moves)

    def look(self) -> None:
        """Redis looks, some time later."""
        assert self.asked is not None
        (after, moves), self.asked = self.asked, None
        behind = [entry for entry in self.redis.backlog if entry_order(entry) > entry_order(after)]
        self.page = (behind[: self.activation.limit], moves)

    def take(self) -> None:
        """The answer arrives, later still."""
        assert self.page is not None
        (entries, moves), self.page = self.page, None
        activation = self.activation
        if entries:
            activation.after = entries[-1]
        page = [message(entry, reads=self.redis.backlog.get(entry, False)) for entry in entries]
        activation.page(page, complete=len(entries) < activation.limit, moves=moves)


def message(entry: bytes, *, reads: bool) -> Message:
    """Return a message as read from the stream or the backlog."""
    return Message(entry, cast(Any, None), b"", READER if reads else WRITER)


class OneActor(RuleBasedStateMachine):
    """Everything that can happen to the messages of one actor."""

    def __init__(self) -> None:
        super().__init__()
        self.redis = Redis()
        self.limit = 1
        self.owner = Owner(self.redis, self.limit)
        self.arrived: list[bytes] = []
        self.readers: set[bytes] = set()

    @initialize(limit=st.sampled_from([1, 2, 2, 3, 4]))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.owner = Owner(self.redis, limit)

    @rule(count=st.integers(1, 4), reads=st.booleans())
    def arrive(self, *, count: int, reads: bool) -> None:
        for _ in range(count):
            entry = f"{len(self.arrived) + 1}-0".encode()
            self.arrived.append(entry)
            self.redis.stream[entry] = reads
            if reads:
                self.readers.add(entry)

    @precondition(lambda self: self.owner.next is not None)
    @rule()
    def read(self) -> None:
        self.owner.read()

    @precondition(lambda self: self.owner.may_start)
    @rule()
    def start(self) -> None:
        self.owner.start()

    @precondition(lambda self: self.owner.activation.running)
    @rule(which=st.integers(0, 5))
    def end(self, which: int) -> None:
        self.owner.end(which, well=True)

    @precondition(lambda self: self.owner.activation.running)
    @rule(which=st.integers(0, 5))
    def fail(self, which: int) -> None:
        self.owner.end(which, well=False)

    @precondition(lambda self: self.owner.gathered and not self.owner.commits)
    @rule()
    def send(self) -> None:
        self.owner.send()

    @precondition(lambda self: self.owner.commits)
    @rule()
    def commit(self) -> None:
        self.owner.commit()

    @precondition(lambda self: self.owner.may_ask)
    @rule()
    def ask(self) -> None:
        self.owner.ask()

    @precondition(lambda self: self.owner.asked is not None)
    @rule()
    def look(self) -> None:
        self.owner.look()

    @precondition(lambda self: self.owner.page is not None)
    @rule()
    def take(self) -> None:
        self.owner.take()

    @precondition(lambda self: len(self.arrived) > 3)
    @rule(chance=st.integers(0, 3), sent=st.booleans())
    def die(self, *, chance: int, sent: bool) -> None:
        """The owner dies, now and then; what it had sent last may still become real."""
        if chance:
            return
        if sent and self.owner.commits:
            self.owner.commit()
        self.owner = Owner(self.redis, self.limit)

    @invariant()
    def nothing_is_overtaken(self) -> None:
        """A writer is handled after all that came before it, and before all that came after."""
        handled = self.redis.handled
        assert len(set(handled)) == len(handled)
        last_writer = -1
        for entry in handled:
            place = self.arrived.index(entry)
            if entry not in self.readers:
                assert place > last_writer
                assert set(self.arrived[:place]) <= set(handled[: handled.index(entry)])
                last_writer = place
            assert place >= last_writer

    def teardown(self) -> None:
        """Left alone, it handles everything, and keeps nothing."""
        owner = self.owner
        for _ in range(20 * len(self.arrived) + 20):
            if owner.next is not None:
                owner.read()
            elif owner.may_start:
                owner.start()
            elif owner.activation.running:
                owner.end(0, well=True)
            elif owner.gathered:
                owner.send()
                owner.commit()
            elif owner.commits:
                owner.commit()
            elif owner.may_ask:
                owner.ask()
            elif owner.asked is not None:
                owner.look()
            elif owner.page is not None:
                owner.take()
            else:
                break
        self.nothing_is_overtaken()
        assert sorted(self.redis.handled, key=entry_order) == self.arrived
        assert (self.redis.stream, self.redis.backlog, self.redis.held) == ({}, {}, False)
        assert (owner.activation.held, len(owner.activation.queue), owner.activation.uncommitted) == (False, 0, 0)


TestNothingIsLostDoubledOrOvertaken = OneActor.TestCase
TestNothingIsLostDoubledOrOvertaken.settings = settings(max_examples=250, stateful_step_count=60, deadline=None)


@given(limit=st.integers(1, 5), flood=st.integers(0, 40))
def test_memory_holds_no_more_than_its_bound(limit: int, flood: int) -> None:
    """However many come while nothing can run."""
    redis = Redis({f"{i + 1}-0".encode(): False for i in range(flood)})
    owner = Owner(redis, limit)
    while owner.next is not None:
        owner.read()
        assert len(owner.activation.queue) <= limit

    assert owner.activation.held == (flood > limit)


def test_a_page_is_not_the_end_of_a_backlog_that_has_grown_since() -> None:
    """What was moved after the page was asked for is behind it, and would never be asked for again."""
    machine = OneActor()
    machine.begin(limit=2)
    machine.arrive(count=3, reads=False)
    for act in (machine.read, machine.read, machine.read, machine.send, machine.commit):
        act()
    for _ in range(2):
        machine.start()
        machine.end(which=0)
    for act in (machine.send, machine.commit, machine.ask):
        act()
    machine.arrive(count=1, reads=False)
    for act in (machine.read, machine.look, machine.take):
        act()
    assert machine.owner.activation.more

    machine.teardown()


def test_entries_compare_as_redis_orders_them() -> None:
    """By number, not by text."""
    entries = [b"10-0", b"9-10", b"9-9", b"1700000000000-0", b"9"]

    assert sorted(entries, key=entry_order) == [b"9", b"9-9", b"9-10", b"10-0", b"1700000000000-0"]
