"""One activated actor: what waits for it, what of it may start, what it has uncommitted. Pure.

An actor's messages wait in ``queue``, in the order of their entries. Two things may move
them out of the shard's stream into the actor's *backlog* in Redis: a message that has to
wait (backoff), and more messages than the queue holds. Then *all* uncommitted ones move,
the running one included, so that the backlog always precedes whatever the stream holds
for this actor; and as long as anything is left in it, what the stream brings is moved
behind it. Such an actor is *held*: it runs from its backlog alone.

``inside`` names the backlog entries that are in memory here (queued or running), ``more``
says that the backlog may hold others, behind ``after``.

Starting: one turn at a time; ``read_only`` turns overlap each other, never a writer, and
are served first come first served with them; with ``concurrency`` n, up to n turns
(only actors without state may have it).
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.turn import Turn
    from actors.actor import Actor, ActorSpec
    from actors.ids import ActorAddress
    from actors.message import MethodSpec
    from actors.wire.envelope import Envelope


class Message:
    """One message in memory: its entry, its envelope, and the bytes it came as."""

    __slots__ = ("attempt", "due", "entry", "envelope", "method", "raw", "unavailable")

    def __init__(self, entry: bytes, envelope: Envelope, raw: bytes, method: MethodSpec) -> None:
        self.entry = entry
        self.envelope = envelope
        self.raw = raw
        self.method = method
        self.attempt = 0
        """Runs of it that failed."""
        self.unavailable = 0
        """Runs of it that ended because something was away."""
        self.due = 0.0
        """Boottime before which it is not run again."""


class Phase(Enum):
    """Where an activation is in its life."""

    COLD = "cold"  # nothing loaded; loading starts with the first message
    LOADING = "loading"  # state or on_activate under way
    READY = "ready"
    CLOSING = "closing"  # on_deactivate runs; messages wait for the next activation
    GONE = "gone"  # dropped: nothing of it may be used again


class Activation:
    """An actor on its shard's owner, from its first message to its deactivation."""

    __slots__ = (
        "actor",
        "address",
        "after",
        "asks_waiting",
        "attempt",
        "base",
        "bytes",
        "cancelled",
        "cleared",
        "close_reason",
        "concurrency",
        "dirty",
        "due",
        "expires",
        "field",
        "hook",
        "inside",
        "keep_alive",
        "last_error",
        "leftover",
        "limit",
        "more",
        "moves",
        "phase",
        "prelude",
        "queue",
        "running",
        "shard",
        "spec",
        "state_key",
        "streams",
        "threads",
        "timer",
        "touched",
        "uncommitted",
        "wants_close",
        "writers",
    )

    def __init__(self, shard: OwnedShard, spec: ActorSpec, address: ActorAddress, *, limit: int, concurrency: int) -> None:
        self.shard = shard
        self.spec = spec
        self.address = address
        self.field = f"{address.type}:{address.key}"
        self.state_key: str | None = None
        self.limit = limit
        self.concurrency = concurrency
        self.phase = Phase.COLD
        self.actor: Actor[Any] | None = None
        self.bytes: bytes | None = None
        """State as the last ended turn left it, encoded."""
        self.leftover: Any = None
        """Fields of newer code that this one keeps for it."""
        self.dirty = False
        """``bytes`` differs from what Redis will hold, so that the next turn writes it in any case."""
        self.expires = 0.0
        """Boottime at which the stored state is gone; 0: never."""
        self.cleared = False
        """The running turn has asked for the state to be deleted."""
        self.queue: deque[Message] = deque()
        self.running: list[Turn] = []
        self.writers = 0
        self.threads = 0
        """Handlers cut off by a time-out that still run in a thread; nothing starts until they return."""
        self.streams = 0
        self.uncommitted = 0
        """Ended turns and moves whose commit is not acknowledged."""
        self.asks_waiting: list[Any] = []
        """Futures of asks that leave when nothing is uncommitted any more."""
        self.inside: set[bytes] = set()
        self.more = False
        self.after = b"0-0"
        self.moves = 0
        self.cancelled: set[str] = set()
        """Ids of messages whose callers have gone, which may be in the backlog."""
        self.attempt = 0
        """Failed runs of the first message of the backlog, until it is in memory and knows them itself."""
        self.last_error = ""
        """Of the last run that failed, for whoever looks at a held actor."""
        self.due = 0.0
        """When that message is due, likewise."""
        self.timer: Any = None
        self.hook: Turn | None = None
        """The run of ``on_activate`` or ``on_deactivate`` that is under way."""
        self.prelude: Turn | None = None
        """The run of ``on_activate``, whose effects leave with the first turn."""
        self.base: bytes | None = None
        """State as ``prelude`` found it."""
        self.touched = 0
        self.keep_alive = False
        self.wants_close = False
        self.close_reason = "idle"

    @property
    def held(self) -> bool:
        """Whether this actor runs from its backlog."""
        return self.more or bool(self.inside)

    @property
    def ready(self) -> bool:
        """Whether its instance is there and its hook has run."""
        return self.phase is Phase.READY

    @property
    def idle(self) -> bool:
        """Whether nothing runs, waits or is uncommitted."""
        return not (self.running or self.queue or self.more or self.uncommitted or self.streams or self.threads)

    @property
    def actor_state(self) -> Any:
        """The live state."""
        assert self.actor is not None
        return self.actor.state

    @actor_state.setter
    def actor_state(self, state: Any) -> None:
        assert self.actor is not None
        self.actor.state = state

    def restore(self) -> None:
        """Fall back to the state the last ended turn left."""
        self.cleared = False
        codec = self.spec.state
        if codec is not None and self.bytes is not None and self.actor is not None:
            self.actor.state, self.leftover = codec.decode(self.bytes)

    def enqueue(self, message: Message) -> list[Message]:
        """Take in a message from the shard's stream; return what has to move to the backlog."""
        if self.held:
            if not self.more and len(self.queue) < self.limit:
                self._take_inside(message)
            else:
                self.more = True
            self.moves += 1
            return [message]
        if len(self.queue) < self.limit:
            self.queue.append(message)
            return []
        moving = self.hold()
        self.more = True
        self.moves += 1
        return [*moving, message]

    def hold(self) -> list[Message]:
        """Make every uncommitted message a backlog one; return those that have to move there."""
        moving = [turn.message for turn in self.running if turn.message is not None and not turn.ended]
        moving += self.queue
        moving = [message for message in moving if message.entry not in self.inside]
        moving.sort(key=lambda message: entry_order(message.entry))
        for message in moving:
            self.inside.add(message.entry)
        if moving:
            last = moving[-1].entry
            if entry_order(last) > entry_order(self.after):
                self.after = last
            self.moves += 1
        return moving

    @property
    def backoff(self) -> tuple[float, int]:
        """When the next message is due, and how many runs of it have failed."""
        return (self.queue[0].due, self.queue[0].attempt) if self.queue else (self.due, self.attempt)

    def page(self, messages: list[Message], *, complete: bool, moves: int) -> None:
        """Take in a page of the backlog that was asked for when ``moves`` moves had been made.

        ``complete``: the page was not full. Only if nothing moved meanwhile is that the end.
        """
        if messages:
            messages[0].attempt, messages[0].due = self.attempt, self.due
            self.attempt, self.due = 0, 0.0
        for message in messages:
            self._take_inside(message)
        if complete and moves == self.moves:
            self.more = False
            self.cancelled.clear()

    def handled(self, entry: bytes) -> bool:
        """Forget an entry whose effects have been gathered; true if it was a backlog one."""
        if entry in self.inside:
            self.inside.discard(entry)
            return True
        return False

    def may_start(self) -> bool:
        """Whether the message at the head of the queue may start beside what runs."""
        if self.threads:
            return False
        if not self.running:
            return True
        if self.concurrency > 1:
            return len(self.running) < self.concurrency
        return self.queue[0].method.read_only and not self.writers

    def _take_inside(self, message: Message) -> None:
        self.queue.append(message)
        self.inside.add(message.entry)
        self.after = message.entry


def entry_order(entry: bytes) -> tuple[int, int]:
    """Return an entry id as numbers that compare as Redis orders entries."""
    ms, _, sequence = entry.partition(b"-")
    return int(ms), int(sequence or b"0")
