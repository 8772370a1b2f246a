"""The client of a turn: what a handler sends, as part of its turn.

Tells are collected and leave with the commit. An ask leaves at once, but not before the
actor's earlier commits are acknowledged: its effect must not rest on a state that may
never have been. It passes a script that checks that this runner still owns the shard,
under a key derived from the message being handled, so that a re-run of the same message
joins the ask it made before or gets its stored reply. It is not undone by a later error
of the turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from actors._mailbox.calls import Call, budget_ms
from actors._mailbox.commit import Operation, operate
from actors._mailbox.dead_letters import DeadLetters
from actors._mailbox.outgoing import digest_of, due_of, record_of, written
from actors._mailbox.sender import Fence, Special
from actors._runner.activation import Phase
from actors._runner.settlement import DERIVED, DERIVED_LIFE
from actors.actor import make_ref
from actors.client import Client
from actors.errors import CallTooDeep, ClusterError, Fenced, MailboxFull, PartialSend
from actors.message import Kind, Outgoing, Receipt
from actors.telemetry.hooks import NO_SPAN, SendSpan
from actors.wire.envelope import Extra, Link, Record, ReplyTo

if TYPE_CHECKING:
    from actors._runner.turn import Turn
    from actors._runner.world import World

TURN_MESSAGES = 5_000
"""Messages one turn may send."""

FULL_FOR = 1.0
"""Seconds for which a shard that had no room is taken to have none still."""

TURN_BYTES = 8 << 20
"""Bytes of messages one turn may send."""

_LONGER = 0.05
"""Seconds by which an ask outlives the deadline of the turn that makes it: the outermost turn then ends first and
says what it waited on, and its cancellation takes the others with it."""


class TurnClient(Client):
    """A client bound to one turn."""

    def __init__(self, world: World, turn: Turn) -> None:
        self._world = world
        self._turn = turn

    def get(self, cls: Any, key: str) -> Any:
        """Return a ref that sends as part of whichever turn uses it, so that an actor may keep it."""
        return make_ref(cls, key, None)

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that were set aside. Looking at them or replaying them is not part of the turn."""
        return self._world.client.dead_letters

    def next_id(self) -> str:
        """Return a new id."""
        return self._world.ids.next()

    async def send(self, *outgoing: Outgoing) -> list[Receipt]:
        """Collect messages; they leave with this turn's commit."""
        results: list[Receipt | ClusterError] = []
        errors: list[ClusterError] = []
        for call in outgoing:
            try:
                results.append(self._collect(call))
            except ClusterError as error:
                results.append(error)
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == len(results) else PartialSend(results=results)
        return [result for result in results if isinstance(result, Receipt)]

    async def tell(self, call: Outgoing, /) -> Receipt:
        """Collect a message; it leaves with this turn's commit."""
        return self._collect(call)

    async def ask(self, call: Outgoing, /) -> bytes:
        """Ask another actor and wait for its reply."""
        turn, world = self._turn, self._world
        self._check(call, asks=True)
        activation = turn.activation
        chain = self._chain(call)
        if activation.uncommitted:
            acknowledged = world.loop.create_future()
            activation.asks_waiting.append(acknowledged)
            await acknowledged
            self._check(call, asks=True)
        shard = activation.shard
        timeout = call.options.timeout or call.spec.timeout or world.settings.ask_timeout
        if turn.deadline:
            timeout = min(timeout, max(turn.deadline - world.clock.boottime(), 0.0) + _LONGER)
        record, life = self._record(call)
        message_id = world.ids.next()
        address = call.address
        calls = world.calls
        under_way = Call(
            calls, calls.number(), world.label_of(address.type, address.key), address.type, address.key, call.method, message_id, timeout
        )
        under_way.record = record
        under_way.idempotency_key = call.options.idempotency_key or ""
        headers, span = self._headers(call, message_id, ask=True)
        payload = written(
            call,
            message_id,
            world.settings,
            reply=ReplyTo(world.inbox.client, under_way.number),
            budget=budget_ms(timeout),
            extra=Extra(headers=headers, chain=chain, record=record),
        )
        self._count(call, payload)
        target = (address.type, address.key)
        turn.waiting_on = turn.waiting_on if turn.waiting_on is not None else Counter()
        turn.waiting_on[target] += 1
        shard.waiting_asks += 1
        special = Special(
            fence=Fence(shard.label, shard.holder),
            record=record.suffix if record is not None else None,
            prefix=record.prefix if record is not None else "",
            digest=digest_of(call),
            waiter=f"{world.inbox.client} {under_way.number}",
            record_life_ms=life,
            message_id=message_id,
        )
        try:
            calls.begin(under_way, payload, special)
            world.suspects.yields(turn)
            world.cycles.begins(activation)
            if shard.draining:
                world.loop.call_soon(world.engine.pump_shard, shard)
            body = await under_way.future
            span.end()
            return body
        except ClusterError as error:
            span.end(error)
            raise
        except asyncio.CancelledError:
            # A turn that was cut off because its shard moves is run again, and then wants this very reply.
            if turn.cut is None or not turn.cut.keeps_asks:
                calls.cancel(under_way)
            else:
                under_way.forget()
            raise
        finally:
            shard.waiting_asks -= 1
            turn.waiting_on[target] -= 1
            if not turn.waiting_on[target]:
                del turn.waiting_on[target]

    def stream(self, call: Outgoing, /) -> AsyncGenerator[bytes, None]:
        """Ask for a streaming reply. It is not part of the turn: nothing of it is remembered for a re-run."""
        self._check(call, asks=True)
        return self._world.client.stream(call, chain=self._chain(call))

    def _chain(self, call: Outgoing) -> tuple[Link, ...]:
        """Return the turns that wait for ``call``, this one last. ``CallTooDeep`` if they are too many."""
        turn, limit = self._turn, self._world.settings.max_call_depth
        extra = turn.message.envelope.extra if turn.message is not None else None
        chain = extra.chain if extra is not None else ()
        address = turn.activation.address
        if len(chain) >= limit:
            raise CallTooDeep(
                limit=limit,
                chain=[f"{link.type}/{link.key}" for link in chain],
                actor_type=call.address.type,
                key=call.address.key,
                method=call.method,
            )
        return (*chain, Link(address.type, address.key, turn.message_id))

    def _record(self, call: Outgoing) -> tuple[Record | None, int]:
        turn = self._turn
        if call.options.idempotency_key is not None:
            return Record(record_of(call), ""), 0
        if not turn.message_id or turn.streaming:
            return None, 0  # what is never run again needs no memory of its asks
        digest = digest_of(call)
        turn.asked = turn.asked if turn.asked is not None else Counter()
        turn.asked[digest] += 1
        return Record(DERIVED + turn.message_id, f"{digest.hex()}{turn.asked[digest]}:"), int(DERIVED_LIFE * 1000)

    def _collect(self, call: Outgoing) -> Receipt:
        turn, world = self._turn, self._world
        self._check(call)
        if call.spec.kind is Kind.STREAM:
            raise TypeError(f"{call.address.type}.{call.method} is a streaming reply and cannot be told")
        message_id = world.ids.next()
        address, options = call.address, call.options
        headers, span = self._headers(call, message_id, ask=False)
        span.end()  # it leaves with the commit, which is the turn's span to tell of
        record = Record(record_of(call), "") if options.idempotency_key is not None else None
        extra = Extra(headers=headers, record=record) if headers or record is not None else None
        payload = written(call, message_id, world.settings, extra=extra)
        self._count(call, payload)
        label = world.label_of(address.type, address.key)
        due = due_of(call) or ""
        if world.full and not due:
            self._check_room(call, label)
        keys = world.keys
        if record is None and due:
            operate(turn, "L", (keys.timers(label), keys.timer_values(label), keys.mailbox(label)), due, message_id, payload)
            return Receipt(message_id, duplicate=False)
        leaves: bytes | Operation = payload
        if record is not None:
            leaves = (
                "I",
                (
                    keys.mailbox(label),
                    keys.record(record.suffix),
                    keys.timers(label),
                    keys.timer_values(label),
                    keys.dead,
                    keys.dead_lost,
                    keys.backlogs,
                ),
                (payload, digest_of(call), message_id, due, world.settings.dead_letter_capacity, label, world.settings.shard_capacity),
            )
        if turn.tells is None:
            turn.tells = [(label, leaves)]
        else:
            turn.tells.append((label, leaves))
        return Receipt(message_id, duplicate=False)

    def _check_room(self, call: Outgoing, label: str) -> None:
        """Refuse what a shard that was full a moment ago would not take; its own shard makes room with this very commit."""
        world = self._world
        seen = world.full.get(label)
        if seen is None or label == self._turn.activation.shard.label:
            return
        at, depth = seen
        if world.clock.boottime() - at > FULL_FOR:
            del world.full[label]
            return
        limit = world.settings.shard_capacity
        raise MailboxFull(scope="shard", limit=limit, depth=depth, actor_type=call.address.type, key=call.address.key, shard=label)

    def _check(self, call: Outgoing, *, asks: bool = False) -> None:
        """Refuse to send from a turn that is over, lost, or of a kind that only ``asks``."""
        turn = self._turn
        activation = turn.activation
        if activation.phase is Phase.GONE or not activation.shard.alive or not self._world.lease.trusted():
            raise Fenced(
                shard=activation.shard.label,
                epoch=activation.shard.epoch,
                why="the lease ended" if activation.shard.alive else "another runner owns it",
                actor_type=activation.address.type,
                key=activation.address.key,
            )
        if turn.ended:
            raise RuntimeError(
                f"{turn.label} has ended; what it left running cannot send {call.address}.{call.method} as part of it any more"
            )
        if turn.reentrant and not asks:
            kind = "a streaming reply" if turn.streaming else "reentrant"
            raise RuntimeError(f"{turn.label} is {kind}: it reads a state that others are changing, and may ask, but sends nothing")

    def _count(self, call: Outgoing, payload: bytes) -> None:
        """Count what this turn sends; :class:`~actors.errors.MailboxFull` if it is too much for one."""
        turn = self._turn
        turn.output += len(payload)
        turn.outputs += 1
        if turn.output > TURN_BYTES:
            raise MailboxFull(scope="turn", limit=TURN_BYTES, depth=turn.output, actor_type=call.address.type, key=call.address.key)
        if turn.outputs > TURN_MESSAGES:
            raise MailboxFull(scope="turn", limit=TURN_MESSAGES, depth=turn.outputs, actor_type=call.address.type, key=call.address.key)

    def _headers(self, call: Outgoing, message_id: str, *, ask: bool) -> tuple[dict[str, str] | None, SendSpan]:
        message = self._turn.message
        extra = message.envelope.extra if message is not None else None
        headers = {**(extra.headers or {})} if extra is not None else {}
        if call.options.headers:
            headers.update(call.options.headers)
        span: SendSpan = NO_SPAN
        tracer = self._world.telemetry.tracer
        if tracer.active:
            span = tracer.send(call.address.type, call.address.key, call.method, message_id, ask=ask)
            headers.update(span.headers)
        return headers or None, span
