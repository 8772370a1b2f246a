"""Calls that wait for an answer: from the send to the reply, the deadline or the cancellation.

A call has one outcome, whichever comes first: its answer, a refusal of its send, its
deadline here, or the end of this client. The runner's own verdict on a deadline is meant
to come a moment before ours, because it knows more (queued, or running); ours is the
bound. A caller that is cancelled cancels the call: what is queued never starts, what
runs is cancelled, and nothing of it takes effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from actors._mailbox.outcomes import Code, Outcome
from actors._mailbox.sender import QUEUE_LIMIT, STALE, Item, Result, Sender, Special, Stale
from actors._redis.faults import OutOfMemory, RedisFault
from actors.errors import (
    AskTimeout,
    ClusterError,
    Fenced,
    IdempotencyConflict,
    MailboxFull,
    PersistenceFailed,
    RunnerUnavailable,
)
from actors.wire.envelope import Envelope, Extra, Kind, Record, encode
from actors.wire.reply import is_notice, read_notice

if TYPE_CHECKING:
    from actors._mailbox.inbox import Inbox
    from actors._redis.channel import Channel
    from actors._redis.keys import Keys
    from actors.clock import Clock

_LANES = 8
"""Different timeouts whose calls share a timer; a system has few, and those of asks inside turns are all different."""

_PROBE = 0.5
"""Seconds given to finding out why a deadline passed."""


def budget_ms(timeout: float) -> int:
    """Return the budget a message carries for a caller that waits ``timeout``: a little less, for the verdict's way back."""
    return max(1, round((timeout - min(0.02, timeout * 0.1)) * 1000))


def timeout_of(budget: int) -> float:
    """Return the seconds that the caller of a message with this budget waits: the reverse of :func:`budget_ms`."""
    return round((budget + 20) / 1000 if budget >= 180 else budget / 900, 3)


class Call(Item):
    """One call under way, from its message's send to its outcome."""

    __slots__ = (
        "_calls",
        "acknowledged",
        "actor_type",
        "begun",
        "future",
        "idempotency_key",
        "key",
        "lane",
        "message_id",
        "method",
        "notice",
        "number",
        "record",
        "timeout",
        "timer",
    )

    def __init__(
        self, calls: Calls, number: int, label: str, actor_type: str, key: str, method: str, message_id: str, timeout: float
    ) -> None:
        Item.__init__(self, label, b"")
        self._calls = calls
        self.number = number
        self.actor_type = actor_type
        self.key = key
        self.method = method
        self.message_id = message_id
        self.timeout = timeout
        self.future: asyncio.Future[bytes] = calls.loop.create_future()
        self.acknowledged = False
        self.notice: ClusterError | None = None
        self.record: Record | None = None
        self.idempotency_key = ""
        self.begun = calls.loop.time()
        self.timer: asyncio.TimerHandle | None = None
        self.lane: Lane | None = None

    def __call__(self, body: bytes) -> None:
        """An answer has come."""
        if is_notice(body):
            self.notice = read_notice(body)
            return
        self.end(body)

    def end(self, body: bytes) -> None:
        """The call is answered."""
        self._close()
        if not self.future.done():
            self.future.set_result(body)

    def fail(self, error: BaseException) -> None:
        """The call ends with an error of ours."""
        self._close()
        if not self.future.done():
            self.future.set_exception(error)

    def settle(self, outcome: Result) -> None:
        """What became of the send."""
        if outcome is None:
            self.acknowledged = True
        elif isinstance(outcome, Outcome):
            if outcome.code is Code.DONE:
                self.end(outcome.done[1])
            elif outcome.code is Code.JOINED:
                self.acknowledged = True
            else:
                self.fail(refusal(outcome, self.actor_type, self.key, self.method, self.label, self.idempotency_key))
        else:
            self.fail(failure(outcome, self.actor_type, self.key, self.method))

    def forget(self) -> None:
        """Nobody waits here any more, but the call goes on."""
        self._close()

    def _close(self) -> None:
        self._calls.inbox.waiting.pop(self.number, None)
        if self.lane is not None:
            self.lane.calls.pop(self.number, None)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.withdrawn = True


class Lane:
    """Calls with the same timeout: they expire in the order they began, so one timer does for all.

    A timer of its own for each would cost more than anything else in a call.
    """

    __slots__ = ("_expired", "_loop", "_timer", "calls", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[Call], None]) -> None:
        self.seconds = seconds
        self.calls: dict[int, Call] = {}
        self._loop = loop
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Call) -> None:
        """Expire ``call`` when its time is up, unless it has left by then."""
        call.lane = self
        self.calls[call.number] = call
        if self._timer is None:
            self._timer = self._loop.call_later(self.seconds, self._look)

    def close(self) -> None:
        """Expire nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self.calls:
            number = next(iter(self.calls))
            left = self.calls[number].begun + self.seconds - now
            if left > 0:
                self._timer = self._loop.call_later(left, self._look)
                return
            self._expired(self.calls.pop(number))


class Calls:
    """All calls of one client."""

    def __init__(self, sender: Sender, inbox: Inbox, channel: Channel, keys: Keys, clock: Clock) -> None:
        self.loop = asyncio.get_running_loop()
        self.inbox = inbox
        self._sender = sender
        self._channel = channel
        self._keys = keys
        self._clock = clock
        self._number = 0
        self._lanes: dict[float, Lane] = {}

    @property
    def pending(self) -> int:
        """Calls without an outcome yet."""
        return len(self.inbox.waiting)

    def number(self) -> int:
        """Return the number of the next call."""
        self._number += 1
        return self._number

    def begin(self, call: Call, payload: bytes, special: Special | None) -> None:
        """Send a call's message and wait for its answer from now on."""
        self.inbox.waiting[call.number] = call
        call.payload = payload
        call.special = special
        lane = self._lanes.get(call.timeout)
        if lane is None and len(self._lanes) < _LANES:
            lane = self._lanes[call.timeout] = Lane(self.loop, call.timeout, self._expired)
        if lane is not None:
            lane.add(call)
        else:
            call.timer = self.loop.call_later(call.timeout, self._expired, call)
        if not self._sender.put(call):
            call.fail(
                MailboxFull(
                    scope="process",
                    limit=QUEUE_LIMIT,
                    depth=self._sender.queued,
                    actor_type=call.actor_type,
                    key=call.key,
                )
            )

    def cancel(self, call: Call) -> None:
        """The caller has gone: take the call back, as far as it got."""
        call.forget()
        self.send_cancel(call)

    def send_cancel(self, call: Call) -> None:
        """Tell the owner that nobody waits any more."""
        envelope = Envelope(
            1,
            call.actor_type,
            call.key,
            call.method,
            _NO_ARGUMENTS,
            call.message_id,
            extra=Extra(kind=Kind.CANCEL, record=call.record),
        )
        record = call.record
        special = Special(
            control=True,
            record=record.suffix if record is not None else None,
            prefix=record.prefix if record is not None else "",
            waiter=f"{self.inbox.client} {call.number}",
        )
        self._sender.put(Item(call.label, encode(envelope), special))

    def fail_all(self, error: BaseException) -> None:
        """End every call with ``error``, for good."""
        for lane in self._lanes.values():
            lane.close()
        for waiter in list(self.inbox.waiting.values()):
            if isinstance(waiter, Call):
                waiter.fail(error)

    # deadlines

    def _expired(self, call: Call) -> None:
        """The deadline has passed without a verdict: find out why, briefly, and say so."""
        call.timer = call.lane = None
        if call.future.done():
            return
        if call.notice is not None:
            call.fail(call.notice)
            return
        if not call.acknowledged and not self._channel.up:
            fault = self._channel.last_fault
            call.fail(
                PersistenceFailed(
                    problem=str(fault) if fault is not None else "no answer",
                    waited=call.timeout,
                    actor_type=call.actor_type,
                    key=call.key,
                    method=call.method,
                )
            )
            return
        call.timer = self.loop.call_later(_PROBE, self._verdict, call, None)
        self._channel.submit(("HGET", self._keys.own, call.label), lambda reply: self._owner(call, reply))

    def _owner(self, call: Call, reply: Any) -> None:
        if call.future.done():
            return
        if not isinstance(reply, bytes):
            self._verdict(call, None if isinstance(reply, RedisFault) else 0)
            return
        owner = reply.split(b" ", 1)[0].decode(errors="replace")
        if owner == "-":
            self._verdict(call, 0)
            return
        self._channel.submit(("EXISTS", self._keys.lease(owner)), lambda lease: self._verdict(call, lease))

    def _verdict(self, call: Call, lease: Any) -> None:
        if call.future.done():
            return
        if lease == 0:
            call.fail(
                RunnerUnavailable(
                    shard=call.label,
                    waited=call.timeout,
                    actor_type=call.actor_type,
                    key=call.key,
                    method=call.method,
                )
            )
        else:
            call.fail(
                AskTimeout(
                    timeout=call.timeout,
                    stage="unknown",
                    seconds=self.loop.time() - call.begun,
                    actor_type=call.actor_type,
                    key=call.key,
                    method=call.method,
                )
            )


def refusal(outcome: Outcome, actor_type: str, key: str, method: str, label: str, idempotency_key: str = "") -> ClusterError:
    """Return the error for a message that the send script refused."""
    match outcome.code:
        case Code.FULL:
            scope, limit, depth = outcome.full
            return MailboxFull(
                scope="actor" if scope == "actor" else "shard",
                limit=limit,
                depth=depth,
                actor_type=actor_type,
                key=key,
                shard=label,
            )
        case Code.CONFLICT:
            return IdempotencyConflict(idempotency_key=idempotency_key, actor_type=actor_type, key=key, method=method)
        case _:
            return Fenced(shard=label, why=outcome.code.value, actor_type=actor_type, key=key)


def failure(outcome: Stale | RedisFault, actor_type: str, key: str, method: str) -> ClusterError:
    """Return the error for a message whose whole batch failed."""
    if isinstance(outcome, OutOfMemory):
        return MailboxFull(scope="memory", actor_type=actor_type, key=key)
    problem = (
        "the record of this sender is gone, so that it is not known whether the message was stored" if outcome is STALE else str(outcome)
    )
    return PersistenceFailed(problem=problem, actor_type=actor_type, key=key, method=method)


_NO_ARGUMENTS = msgspec.Raw(b"\x80")
