"""An idempotent producer: batches what is sent at the same time, each batch applied once.

Theory of operation. Redis keeps one record per sender: the number of its last batch and
that batch's outcomes. A sender has at most one batch in flight, and whatever happens to
it (a time-out, a lost connection) sends the very same batch again until it is answered.
The script applies the next number, answers the same number from the record and refuses
anything else as stale; so no retry, however late it executes, applies anything twice or
out of order. While a batch is under way the next one gathers, which is all the batching
there is: a lone message leaves at once, a thousand concurrent ones share a script call.

Stale means that the record is gone or another's: what became of the batch is not known,
which is said to the callers, and the sender goes on under a new id. An id carries the
Redis time of its making, by which the script tells a first batch from one whose record
has expired. A forked child takes a new id, and never touches its parent's connection.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from actors._mailbox.outcomes import Outcome, parse
from actors._redis import scripts
from actors._redis.channel import Channel
from actors._redis.faults import NotApplied, OutOfMemory, RedisFault, Refused, Unknown
from actors._redis.keys import Keys
from actors.backoff import Backoff
from actors.clock import Clock
from actors.settings import BATCH_BYTES, BATCH_MESSAGES

RECORD_LIFE = 600.0
"""Seconds a sender's record is kept after its last batch; longer than any retry waits."""

QUEUE_LIMIT = 100_000
"""Messages that may wait in one process for Redis to take them."""

_STALE = -1


class Stale:
    """The sender's record did not fit: whether the message was applied is not known."""


STALE = Stale()

Result = Outcome | Stale | RedisFault | None
"""What became of a message. ``None``: appended, as it was."""


class Fence(msgspec.Struct, frozen=True):
    """A message that may only leave while its sender owns this shard in this epoch."""

    label: str
    holder: str  # "<inc> <epoch> "


class Special(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a message more than an append."""

    fence: Fence | None = None
    record: str | None = None
    prefix: str = ""
    digest: bytes = b""
    waiter: str = ""
    record_life_ms: int = 0
    message_id: str = ""
    due: str | None = None
    control: bool = False
    """A word to the owner about a message sent before (a cancellation, credit): it goes in however full the mailbox is."""


class Item:
    """One message on its way. Whoever waits for its outcome derives from it."""

    __slots__ = ("label", "payload", "special", "withdrawn")

    def __init__(self, label: str, payload: bytes, special: Special | None = None) -> None:
        self.label = label
        self.payload = payload
        self.special = special
        self.withdrawn = False
        """Nobody waits for it any more: it is not sent, if it has not been."""

    def settle(self, outcome: Result) -> None:
        """Take in what became of the message, once. Here, nobody waits for it."""


class SenderStatistics(msgspec.Struct, frozen=True):
    """What one sender did so far."""

    batches: int
    messages: int
    retries: int
    stale: int
    queued: int


class Sender:
    """Sends messages of one process to the mailboxes of one slot group."""

    def __init__(
        self,
        channel: Channel,
        keys: Keys,
        *,
        random: Random,
        clock: Clock,
        shard_capacity: int,
        backlog_capacity: int,
    ) -> None:
        self._channel = channel
        self._keys = keys
        self._random = random
        self._clock = clock
        self._shard_capacity = shard_capacity
        self._backlog_capacity = backlog_capacity
        self._script = scripts.load("send")
        self._backoff = Backoff(random=random, initial=0.01, maximum=0.5)
        self._queue: deque[Item] = deque()
        self._mailboxes: dict[str, str] = {}
        self._batch: list[Item] = []
        self._command: tuple[list[Any], list[Any]] = ([], [])
        self._attempt = 0
        self._doubtful = False
        """Some try of the batch was never answered, and so may still be applied."""
        self._busy = False
        self._scheduled = False
        self._held = False
        self._closed: RedisFault | None = None
        self._idle: list[asyncio.Future[None]] = []
        self.batches = self.messages = self.retries = self.stale = 0
        self._loop = asyncio.get_running_loop()
        self._id = ""
        self._number = 0
        self._made: int | None = None
        self._new_id()
        _SENDERS.add(self)

    @property
    def queued(self) -> int:
        """Messages waiting or under way."""
        return len(self._queue) + len(self._batch)

    @property
    def id(self) -> str:
        """The present sender id."""
        return self._id

    def statistics(self) -> SenderStatistics:
        """Return counts."""
        return SenderStatistics(self.batches, self.messages, self.retries, self.stale, self.queued)

    def put(self, item: Item) -> bool:
        """Queue ``item``; false when too many wait already, and then it is not sent."""
        if self._closed is not None:
            self._loop.call_soon(item.settle, self._closed)
            return True
        if len(self._queue) >= QUEUE_LIMIT:
            return False
        self._queue.append(item)
        if not self._busy and not self._scheduled:
            # One turn of the loop later, so that what is sent together leaves together.
            self._scheduled = True
            self._loop.call_soon(self._flush)
        return True

    def hold(self) -> None:
        """Send nothing new until :meth:`go_on`: a runner whose lease may have expired."""
        self._held = True

    def go_on(self) -> None:
        """Send again."""
        self._held = False
        if not self._busy and self._queue and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def flushed(self) -> None:
        """Wait until nothing is queued or under way."""
        while self._queue or self._batch:
            idle = self._loop.create_future()
            self._idle.append(idle)
            await idle

    def close(self) -> None:
        """Send nothing more. What was queued is refused; what is under way is unknown."""
        self._closed = Refused("the client is closed")
        queue, self._queue = self._queue, deque()
        for item in queue:
            item.settle(self._closed)
        batch, self._batch = self._batch, []
        for item in batch:
            item.settle(Unknown("the client was closed before the answer came"))
        self._wake_idle()
        _SENDERS.discard(self)

    # the life of a batch

    def _new_id(self) -> None:
        self._id = f"{self._random.getrandbits(64):016x}"
        self._number = 0
        self._made = None

    def _flush(self) -> None:
        self._scheduled = False
        if self._busy or self._held or not self._queue or self._closed is not None:
            return
        self._busy = True
        if self._made is None:
            self._channel.submit(("TIME",), self._on_time)
        else:
            self._start()

    def _on_time(self, reply: Any) -> None:
        if isinstance(reply, RedisFault):
            self._later(self._retime, reply)
            return
        self._made = int(reply[0]) * 1000 + int(reply[1]) // 1000
        self._attempt = 0
        self._start()

    def _retime(self) -> None:
        if self._closed is None:
            self._channel.submit(("TIME",), self._on_time)

    def _start(self) -> None:
        queue, batch = self._queue, self._batch
        size = 0
        while queue and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
            item = queue.popleft()
            if not item.withdrawn:
                batch.append(item)
                size += len(item.payload)
        if not batch:
            self._busy = False
            self._wake_idle()
            return
        self._number += 1
        self._attempt = 0
        self._doubtful = False
        self._command = self._encode(batch)
        self._send()

    def _encode(self, batch: list[Item]) -> tuple[list[Any], list[Any]]:
        keys: list[Any] = [self._keys.sender(self._id), self._keys.own, self._keys.backlogs]
        args: list[Any] = [
            self._number,
            self._made,
            int(RECORD_LIFE * 1000),
            self._shard_capacity,
            self._backlog_capacity,
            0,
        ]
        slots: dict[str, int] = {}
        fences: dict[Fence, int] = {}
        mailboxes = self._mailboxes
        for item in batch:
            if item.special is not None and item.special.fence is not None and item.special.fence not in fences:
                fence = item.special.fence
                fences[fence] = len(fences) + 1
                args += (fence.label, fence.holder)
        args[5] = len(fences)
        for item in batch:
            label = item.label
            slot = slots.get(label)
            if slot is None:
                mailbox = mailboxes.get(label)
                if mailbox is None:
                    mailbox = mailboxes[label] = self._keys.mailbox(label)
                keys.append(mailbox)
                slot = slots[label] = len(keys)
            special = item.special
            if special is None:
                args += (slot, item.payload)
            else:
                self._encode_special(item, special, slot, keys, args, fences)
        return keys, args

    def _encode_special(self, item: Item, special: Special, slot: int, keys: list[Any], args: list[Any], fences: dict[Fence, int]) -> None:
        record = 0
        if special.record is not None:
            keys.append(self._keys.record(special.record))
            record = len(keys)
        if special.control:
            args += ("c", slot, item.payload, record, special.prefix, special.waiter)
            return
        timers = values = 0
        if special.due is not None:
            keys += (self._keys.timers(item.label), self._keys.timer_values(item.label))
            timers, values = len(keys) - 1, len(keys)
        args += (
            "x",
            slot,
            item.payload,
            item.label,
            fences[special.fence] if special.fence is not None else 0,
            record,
            special.prefix,
            special.digest,
            special.waiter,
            special.record_life_ms,
            special.message_id,
            timers,
            values,
            special.due or "",
        )

    def _send(self) -> None:
        connection = self._channel.connection
        if connection is None:
            self._channel.when_up(self._again)
        else:
            scripts.submit(connection, self._script, *self._command, self._on_reply)

    def _again(self) -> None:
        if self._closed is None and self._busy:
            self._send()

    def _on_reply(self, reply: Any) -> None:
        if self._closed is not None:
            return
        if type(reply) is bytes:
            self.batches += 1
            self.messages += len(self._batch)
            self._done(reply)
        elif reply == _STALE:
            self.stale += 1
            self._new_id()
            self._end(STALE)
        elif isinstance(reply, OutOfMemory) and self._doubtful:
            # An earlier try of it may yet be applied, under this number: the next batch must not bear it too.
            self._new_id()
            self._end(Unknown("an earlier try was not answered, and a later one was refused for want of memory"))
        elif isinstance(reply, OutOfMemory):
            # Refused whole at its first write, and the record still has the number before.
            self._number -= 1
            self._end(reply)
        elif isinstance(reply, (Unknown, NotApplied)):
            self._doubtful = self._doubtful or isinstance(reply, Unknown)
            self._later(self._again, reply)
        else:
            # A script that failed half-way: nobody knows how far it came.
            self._new_id()
            self._end(reply if isinstance(reply, RedisFault) else RedisFault(f"unexpected answer {reply!r}"))

    def _later(self, again: Callable[[], None], fault: RedisFault) -> None:
        self.retries += 1
        self._attempt += 1
        if isinstance(fault, (Unknown, Refused)):
            self._channel.when_up(lambda: self._loop.call_later(self._backoff.delay(self._attempt), again))
        else:
            self._loop.call_later(self._backoff.delay(self._attempt), again)

    def _done(self, text: bytes) -> None:
        batch, self._batch = self._batch, []
        if text:
            special = {outcome.index: outcome for outcome in parse(text)}
            for index, item in enumerate(batch):
                item.settle(special.get(index))
        else:
            for item in batch:
                item.settle(None)
        self._next()

    def _end(self, with_: Stale | RedisFault) -> None:
        batch, self._batch = self._batch, []
        for item in batch:
            item.settle(with_)
        self._next()

    def _next(self) -> None:
        self._busy = False
        if self._queue:
            self._flush()
        else:
            self._wake_idle()

    def _wake_idle(self) -> None:
        idle, self._idle = self._idle, []
        for future in idle:
            if not future.done():
                future.set_result(None)

    def forked(self) -> None:
        """In a forked child: take a new id, and let go of everything that is the parent's."""
        self._new_id()
        self._batch = []
        self._queue.clear()
        self._busy = False
        self._channel.forget()


_SENDERS: weakref.WeakSet[Sender] = weakref.WeakSet()


def _after_fork() -> None:
    for sender in list(_SENDERS):
        sender.forked()


os.register_at_fork(after_in_child=_after_fork)
