"""The turns of the shards one runner owns: from an entry read to its effects gathered.

What happens to a message, in the order of this file: it is *received* from its shard's
stream and put to its actor; the actor is *pumped*, that is, whatever of it may start does;
a turn *starts*, stepped in place to its end or its first wait; it *ends* in one of four
ways (a value, an error that is the caller's, a defect, a cut), each of which leaves
effects; they are *committed*, and what waited for that goes on.

Everything here runs in callbacks of the event loop, never in a task, and never waits.
The parts that talk to Redis by themselves (loading, backlogs, suspects, streams, asks)
are beside this file; the engine calls them and they call back.
"""

from __future__ import annotations

import asyncio
import heapq
import traceback
from collections.abc import Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from actors._mailbox.calls import timeout_of
from actors._mailbox.commit import CLEARED, Effects, Ledger, operate
from actors._runner.activation import Activation, Message, Phase, entry_order
from actors._runner.turn import Cut, Turn, root_of
from actors.context import current
from actors.errors import (
    AskTimeout,
    CallCycle,
    ClusterError,
    DeadLettered,
    PayloadTooLarge,
    SerializationFailed,
)
from actors.ids import ActorAddress
from actors.message import Kind as MethodKind
from actors.supervision import Abandon, DeadLetter, FailWith, RetryAfter, decide
from actors.telemetry.events import CommitRefused, HandlerFailed
from actors.telemetry.events import DeadLettered as DeadLetteredEvent
from actors.telemetry.meters import MethodMeter, sample_every
from actors.wire.envelope import Envelope, Kind, Unreadable, decode
from actors.wire.reply import encode_error, encode_value

if TYPE_CHECKING:
    from actors._mailbox.committer import Committer
    from actors._redis.faults import RedisFault
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World
    from actors.actor import ActorSpec
    from actors.message import MethodSpec

DERIVED = "q:"
"""Prefix of the record that holds the asks of one parent message."""

DERIVED_LIFE = 86_400.0
"""Seconds the outcome of an ask made in a turn is kept, unless its parent's commit drops it."""

NO_SUSPECTS = (0, 0)

_CANCEL_AGAIN = 5.0


class Engine:
    """Runs turns."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings
        self._keys = world.keys
        self._specs = world.specs
        self._telemetry = world.telemetry
        self._boottime = world.clock.boottime
        self._loop = asyncio.get_running_loop()
        self._stepper = world.stepper
        self._lease = world.lease
        self._committer: Committer
        self._tracing = world.telemetry.tracer.active
        self._meters: dict[MethodSpec, MethodMeter] = {}
        self._due: list[tuple[float, int, Activation, Message]] = []
        self._due_count = 0
        self._due_timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._depth = 0
        self._every = 1
        self._countdown = 1
        self._max_answer = world.settings.max_payload
        self._tick = 0
        self.current_turn: Turn | None = None
        """The turn being stepped right now: who blocks the loop, if it is blocked."""
        self.resident = 0
        self.running = 0
        self.waiting = 0
        """Messages queued in memory: exact at each tick, near enough between two."""

    def bind(self, committer: Committer) -> None:
        """Take the committer, which is made after the engine that it reports to."""
        self._committer = committer

    # being told

    def begin(self, entries: int = 1) -> None:
        """Start a stretch of work in a callback of the loop; pair with :meth:`finish`."""
        self._depth += 1
        if self._depth == 1:
            self._every = sample_every(entries)
            self._stepper.enter()

    def finish(self) -> None:
        """End the stretch: what has gathered leaves."""
        self._depth -= 1
        if self._depth == 0:
            self._stepper.leave()
            current.set(None)
            self._world.loader.flush()
            self._world.committer.flush()
            self._world.room()

    def close(self) -> None:
        """Take the alarm off that watches over deadlines: nothing is left to be watched."""
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        self._due.clear()

    def trusted(self) -> bool:
        """Whether turns may start and be committed: the lease still stands."""
        return self._world.lease.trusted()

    # receiving

    def receive(self, shard: OwnedShard, entries: Sequence[Any]) -> None:
        """Put what a read brought of one shard to its actors. Entries seen before are passed over."""
        seen = shard.seen
        first = entry_order(entries[0][0])
        again = first <= seen
        shard.suspicious = shard.suspicious and first <= shard.suspects_upto
        receive = self._receive
        for entry, fields in entries:
            if again and entry_order(entry) <= seen:
                continue
            receive(shard, entry, fields[1] if len(fields) == 2 and fields[0] == b"d" else None)
            if not shard.alive:
                return
        last = entry_order(entries[-1][0])
        shard.seen = max(last, seen)

    def _receive(self, shard: OwnedShard, entry: bytes, raw: bytes | None) -> None:
        if raw is None:
            self.unreadable(shard, entry, b"", "wrong_shape", "the entry is not one field named d")
            return
        try:
            envelope = decode(raw, max_depth=self._settings.max_depth)
        except Unreadable as error:
            self.unreadable(shard, entry, raw, error.why, error.detail)
            return
        extra = envelope.extra
        if extra is not None and extra.kind is not Kind.MESSAGE:
            self._control(shard, entry, envelope)
            return
        activation = shard.activations.get((envelope.type, envelope.key))
        if activation is None:
            spec = self._specs.get(envelope.type)
            if spec is None:
                self._world.parking.park(shard, entry, envelope, raw)
                return
            activation = self.activate(shard, spec, envelope.key)
        method = activation.spec.methods.get(envelope.method)
        if method is None:
            self._world.parking.park(shard, entry, envelope, raw)
            return
        self.arrive(activation, Message(entry, envelope, raw, method))

    def activate(self, shard: OwnedShard, spec: ActorSpec, key: str) -> Activation:
        """Return a new, cold activation."""
        options = spec.options
        activation = Activation(
            shard,
            spec,
            ActorAddress(spec.name, key),
            limit=options.mailbox_capacity or self._settings.mailbox_capacity,
            concurrency=options.concurrency or 1,
        )
        if spec.state is not None:
            activation.state_key = self._keys.state(spec.name, key)
        activation.touched = self._tick
        shard.activations[spec.name, key] = activation
        self.resident += 1
        return activation

    def arrive(self, activation: Activation, message: Message) -> None:
        """Put a message read from the stream to its actor."""
        shard = activation.shard
        if (
            activation.phase is Phase.READY
            and not activation.queue
            and not activation.running
            and not activation.inside
            and not activation.more
            and not activation.threads
            and not activation.wants_close
            and not shard.draining
            and not shard.suspicious
            and not shard.refused
            and self._boottime() < self._lease.until
        ):
            self._start(activation, message)
            if activation.queue or activation.wants_close:
                self.advance(activation)
            return
        moving = activation.enqueue(message)
        self.waiting += 1
        if moving:
            self._world.backlogs.move(activation, moving)
        envelope = message.envelope
        if envelope.budget_ms:
            self._watch_deadline(activation, message)
        extra = envelope.extra
        if extra is not None and extra.chain and activation.running and self._cycle(activation, message):
            return
        self.advance(activation)

    def _control(self, shard: OwnedShard, entry: bytes, envelope: Envelope) -> None:
        """A message for the runner rather than the actor: act on it and be done with its entry."""
        effects = Effects(entry)
        match envelope.kind:
            case Kind.CANCEL:
                self.cancel(shard, envelope)
            case Kind.NUDGE:
                self._world.timers.nudge(shard)
            case Kind.CREDIT:
                self._world.streams.credit(shard, envelope)
            case Kind.MESSAGE:
                pass
        self._world.committer.add(shard, effects)

    def unreadable(self, shard: OwnedShard, entry: bytes, raw: bytes, why: str, detail: str) -> None:
        """Set aside an entry that is no message; those behind it go on."""
        effects = Effects(entry)
        self.bury(effects, shard, raw, reason=why, error=detail, entry=entry, attempts=0)
        self._telemetry.emit(
            DeadLetteredEvent(message_id="?", actor_type="?", key="?", method="?", reason=why, attempts=0, error=detail, shard=shard.label)
        )
        self._world.committer.add(shard, effects)

    # what may start

    def pump(self, activation: Activation) -> None:
        """Start what may start of an actor, from a callback of the loop."""
        if activation.phase is Phase.GONE:
            return
        self.begin()
        try:
            self.advance(activation)
        finally:
            self.finish()

    def pump_shard(self, shard: OwnedShard) -> None:
        """Look at every actor of a shard again."""
        self.begin()
        try:
            for activation in list(shard.activations.values()):
                self.advance(activation)
        finally:
            self.finish()

    def advance(self, activation: Activation) -> None:
        """Start what may start of an actor, inside a stretch of work."""
        queue = activation.queue
        while queue and activation.phase is Phase.READY:
            if activation.wants_close or not activation.may_start():
                break
            if not self._may_start_in(activation.shard, activation):
                return
            if activation.due and not self._due_now(activation):
                return
            message = queue[0]
            shard = activation.shard
            if shard.refused and message.entry in shard.refused:
                queue.popleft()
                self._was_refused(activation, message)
                continue
            if (
                shard.suspects_upto != NO_SUSPECTS
                and entry_order(message.entry) <= shard.suspects_upto
                and not self._world.suspects.cleared(activation, message)
            ):
                return
            queue.popleft()
            self.waiting -= 1
            self._start(activation, message)
        if activation.phase is Phase.READY:
            if activation.wants_close:
                self._world.closing.close(activation)
            elif activation.more and not queue:
                self._world.backlogs.load(activation)
        elif (
            activation.phase is Phase.COLD
            and (queue or activation.more)
            and self._may_start_in(activation.shard, activation)
            and (not activation.due or self._due_now(activation))
            and self._world.loader.load(activation)
        ):
            self.advance(activation)

    def _may_start_in(self, shard: OwnedShard, activation: Activation) -> bool:
        """Whether the shard lets this actor start anything.

        A shard that is moving away starts nothing new; but while one of its turns waits on
        an ask, it starts asks made in turns, and what stands before them, because that
        turn may be waiting for them through others.
        """
        if not shard.alive or not self._world.lease.trusted():
            return False
        if not shard.draining:
            return True
        if not shard.waiting_asks:
            return False
        return activation.more or any(message.envelope.extra is not None and message.envelope.extra.chain for message in activation.queue)

    def _due_now(self, activation: Activation) -> bool:
        left = activation.due - self._boottime()
        if left <= 0:
            activation.due = 0.0
            return True
        if activation.timer is None:
            activation.timer = self._loop.call_later(left, self._came_due, activation)
        return False

    def _came_due(self, activation: Activation) -> None:
        activation.timer = None
        self.pump(activation)

    # a turn starts

    def _start(self, activation: Activation, message: Message) -> None:
        envelope = message.envelope
        method = message.method
        turn = Turn(activation, message)
        activation.touched = self._tick
        self._countdown -= 1
        if self._countdown <= 0:
            self._countdown = self._every
            turn.started_at = self._boottime()
        if envelope.budget_ms:
            now = turn.started_at or self._boottime()
            turn.deadline = self._world.redis_clock.deadline(message.entry, envelope.budget_ms)
            if turn.deadline <= now:
                self.expire(activation, message, stage="queued")
                return
        if method.kind is MethodKind.STREAM:
            self._world.streams.start(activation, message)
            return
        if self._tracing:
            self._trace(turn)
        self._step(turn, method, envelope)

    def reenter(self, activation: Activation, message: Message) -> None:
        """Run a reentrant message inside the outer turn it belongs to: it sees that turn's state and changes nothing."""
        turn = Turn(activation, message)
        turn.reentrant = True
        self._step(turn, message.method, message.envelope)

    def _step(self, turn: Turn, method: MethodSpec, envelope: Envelope) -> None:
        """Run the handler in place: to its end, as most do, or to its first wait."""
        activation = turn.activation
        current.set(turn)
        context = copy_context()
        if turn.span is not None:
            context.run(turn.span.attach)
        self.current_turn = turn
        try:
            if method.kind is MethodKind.THREAD:
                work = self._world.threads.run(turn, method.bind(activation.actor, envelope.args))
            else:
                work = method.start(activation.actor, envelope.args)
            waits_for = context.run(work.send, None)
        except StopIteration as stop:
            turn.ended = True
            if turn.started_at:
                turn.ended_at = self._boottime()
            if turn.span is not None:
                turn.span.end()
            self._succeeded(turn, stop.value)
        except BaseException as error:
            turn.ended = True
            if turn.span is not None:
                turn.span.end(error)
            self._failed(turn, error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        else:
            activation.running.append(turn)
            if not method.read_only and not turn.reentrant:
                activation.writers += 1
            self.running += 1
            turn.task = self._stepper.suspend(work, context, waits_for, self._ended, turn)
            self._limit(turn)
        finally:
            self.current_turn = None

    def _trace(self, turn: Turn) -> None:
        message = turn.message
        assert message is not None
        envelope = message.envelope
        headers = envelope.extra.headers if envelope.extra is not None else None
        turn.span = self._telemetry.tracer.process(
            headers or {},
            envelope.type,
            envelope.key,
            envelope.method,
            envelope.id,
            shard=turn.activation.shard.label,
            attempt=turn.attempt,
        )

    def _limit(self, turn: Turn) -> None:
        """Bound a turn that has suspended by its deadline and its type's limit."""
        limit = turn.activation.spec.options.turn_timeout or self._settings.turn_timeout
        cut = Cut.TURN_TIMEOUT
        if turn.deadline:
            left = turn.deadline - self._boottime()
            if left < limit:
                limit, cut = left, Cut.DEADLINE
        turn.timer = self._loop.call_later(max(limit, 0.0), self.cut, turn, cut)

    def cut(self, turn: Turn, cut: Cut) -> None:
        """Cancel a running turn; whatever it does from here on, nothing of it is committed."""
        if turn.ended:
            return
        if turn.cut is None:
            turn.cut = cut
        if turn.task is not None:
            turn.task.cancel()
        if turn.timer is not None:
            turn.timer.cancel()
        # A handler that swallows its cancellation is cancelled again.
        turn.timer = self._loop.call_later(_CANCEL_AGAIN, self.cut, turn, turn.cut)

    # a turn ends

    def _ended(self, turn: Turn, value: Any, error: BaseException | None) -> None:
        """A turn that had suspended has ended."""
        activation = turn.activation
        message = turn.message
        assert message is not None
        turn.ended = True
        if turn.timer is not None:
            turn.timer.cancel()
        activation.running.remove(turn)
        self.running -= 1
        if not message.method.read_only and not turn.reentrant:
            activation.writers -= 1
        if turn.span is not None:
            turn.span.end(error)
        if activation.phase is Phase.GONE:
            return
        if turn.started_at:
            turn.ended_at = self._boottime()
        self.begin()
        try:
            if turn.cut is not None:
                self._was_cut(turn)
            elif error is None:
                self._succeeded(turn, value)
            else:
                self._failed(turn, error)
            self.advance(activation)
            self.settle_drain(activation.shard)
        finally:
            self.finish()

    def _succeeded(self, turn: Turn, value: Any) -> None:
        activation = turn.activation
        message = turn.message
        assert message is not None
        method = message.method
        envelope = message.envelope
        if envelope.reply is not None or (envelope.extra is not None and envelope.extra.record is not None):
            try:
                body = encode_value(method.encode_reply(value))
                if len(body) > self._max_answer:
                    raise PayloadTooLarge(
                        what="reply",
                        size=len(body),
                        limit=self._max_answer,
                        actor_type=envelope.type,
                        key=envelope.key,
                        method=envelope.method,
                    )
            except (SerializationFailed, PayloadTooLarge) as error:
                self._refuse(turn, error)
                return
            self.answer(turn, message, body, final=True)
        codec = activation.spec.state
        if codec is not None and not turn.reentrant:
            try:
                if method.read_only:
                    if self._world.strict and codec.encode(activation.actor_state, activation.leftover) != activation.bytes:
                        raise RuntimeError(f"{turn.label} is read_only and changed the state")
                else:
                    self._keep_state(turn)
            except Exception as error:
                turn.inbox = None
                turn.operations = None
                self._failed(turn, error)
                return
        activation.attempt = activation.unavailable = 0
        prelude = activation.prelude
        if prelude is not None and not turn.reentrant:
            # What on_activate sent leaves with the first turn.
            activation.prelude = None
            if prelude.tells:
                turn.tells = [*prelude.tells, *(turn.tells or ())]
            if prelude.operations:
                turn.operations = [*prelude.operations, *(turn.operations or ())]
        shard = activation.shard
        if activation.inside or turn.asked or shard.suspects_upto != NO_SUSPECTS:
            self._gather(turn)
        else:
            activation.uncommitted += 1
            self._committer.add(shard, turn)

    def _keep_state(self, turn: Turn) -> None:
        """Encode the state this turn leaves: what is committed, and what a later failure falls back to."""
        activation = turn.activation
        codec = activation.spec.state
        assert codec is not None
        data = codec.encode(activation.actor.state, activation.leftover)  # type: ignore[union-attr] # it has just run
        if activation.cleared:
            activation.cleared = False
            fresh = codec.encode(codec.fresh())
            if data == fresh:
                turn.state_key, turn.state = activation.state_key, CLEARED
                activation.bytes = data
                activation.dirty = False
                return
            activation.dirty = True  # cleared, and written again since
        ttl = activation.spec.options.state_ttl
        if data != activation.bytes or activation.dirty or ttl:
            if len(data) > self._settings.max_state:
                raise PayloadTooLarge(
                    what="state",
                    size=len(data),
                    limit=self._settings.max_state,
                    actor_type=activation.address.type,
                    key=activation.address.key,
                )
            turn.state_key, turn.state = activation.state_key, data
            if ttl:
                turn.state_ttl_ms = int(ttl * 1000)
            activation.bytes = data
            activation.dirty = False

    def _failed(self, turn: Turn, error: BaseException) -> None:
        """Decide what an error that left the handler means, and do it."""
        activation = turn.activation
        message = turn.message
        assert message is not None
        decision = decide(
            error,
            attempt=turn.attempt,
            retry=message.method.retry or activation.spec.options.retry,
            max_attempts=self._settings.max_attempts,
            random=self._world.random,
            unavailable=activation.unavailable,
            actor_type=message.envelope.type,
            key=message.envelope.key,
            method=message.envelope.method,
        )
        match decision:
            case FailWith(failure):
                self._refuse(turn, failure)
            case RetryAfter(seconds, counted):
                self._report(turn, error, f"runs again in {seconds:.2f} s")
                self._retry(activation, message, seconds, counted=counted, discard=True)
            case DeadLetter(reason, failure):
                self._report(turn, error, "goes to the dead letters")
                self._forsake(turn, message, failure, reason)
            case Abandon():
                # Fenced, and nobody here has noticed yet: what this runner believes of the shard is void.
                self._world.start_over(activation.shard, {})

    def _report(self, turn: Turn, error: BaseException, outcome: str) -> None:
        message = turn.message
        assert message is not None
        envelope = message.envelope
        self.meter(message.method, envelope).failed("defect")
        self._telemetry.emit(
            HandlerFailed(
                actor_type=envelope.type,
                key=envelope.key,
                method=envelope.method,
                message_id=envelope.id,
                attempt=turn.attempt,
                reason=type(error).__name__,
                outcome=outcome,
                error="".join(traceback.format_exception(error)).rstrip(),
            )
        )

    def _refuse(self, turn: Turn, error: BaseException) -> None:
        """Fail the call with an error that is the caller's; the turn's changes, tells and timers are dropped."""
        activation = turn.activation
        message = turn.message
        assert message is not None
        envelope = message.envelope
        turn.tells = turn.operations = None
        turn.inbox = None
        if not turn.reentrant:
            activation.restore()
        reason = error.reason.value if isinstance(error, ClusterError) else "domain"
        self.meter(message.method, envelope).failed(reason)
        self.answer(turn, message, encode_error(error), final=True)
        if isinstance(error, ClusterError) and envelope.reply is None:
            # A tell that fails for good has nobody to tell it to.
            self.bury(turn, activation.shard, message.raw, reason=reason, error=str(error), entry=message.entry, attempts=turn.attempt)
            self._told_dead(message, reason, turn.attempt, str(error), activation.shard)
        activation.attempt = activation.unavailable = 0
        self._gather(turn)

    def _retry(self, activation: Activation, message: Message, seconds: float, *, counted: bool, discard: bool) -> None:
        """Run a message again later: it and all behind it wait in the actor's backlog."""
        if not counted:
            activation.unavailable += 1
        else:
            activation.attempt += 1
            self.meter(message.method, message.envelope).retried += 1
        activation.due = self._boottime() + seconds
        activation.queue.appendleft(message)
        self._world.backlogs.hold(activation, seconds)
        if message.envelope.budget_ms:
            self._watch_deadline(activation, message)
        if discard:
            self._world.loader.discard(activation)

    def _forsake(self, turn: Turn, message: Message, failure: ClusterError, reason: str) -> None:
        """Attempts are used up: the message is dead, its asker told, its actor goes on without it."""
        activation = turn.activation
        turn.tells = turn.operations = turn.asked = None
        turn.inbox = None
        self.answer(turn, message, encode_error(failure), final=False)
        self.bury(turn, activation.shard, message.raw, reason="attempts", error=reason, entry=message.entry, attempts=turn.attempt)
        self._told_dead(message, reason, turn.attempt, str(failure), activation.shard)
        activation.attempt = activation.unavailable = 0
        self._world.loader.discard(activation)
        self._gather(turn)

    def dead_letter(self, activation: Activation, message: Message, *, reason: str, error: str, attempts: int) -> None:
        """Set a queued message aside without running it."""
        effects = Effects(message.entry, activation)
        envelope = message.envelope
        failure = DeadLettered(why=error, message_id=envelope.id, actor_type=envelope.type, key=envelope.key, method=envelope.method)
        self.answer(effects, message, encode_error(failure), final=False)
        self.bury(effects, activation.shard, message.raw, reason=reason, error=error, entry=message.entry, attempts=attempts)
        self._told_dead(message, reason, attempts, error, activation.shard)
        activation.attempt = activation.unavailable = 0
        self.take_away(activation, message, effects)

    def _told_dead(self, message: Message, reason: str, attempts: int, error: str, shard: OwnedShard) -> None:
        envelope = message.envelope
        self._telemetry.emit(
            DeadLetteredEvent(
                message_id=envelope.id,
                actor_type=envelope.type,
                key=envelope.key,
                method=envelope.method,
                reason=reason,
                attempts=attempts,
                error=error,
                shard=shard.label,
            )
        )

    def _was_cut(self, turn: Turn) -> None:
        """A turn that we cancelled has ended, however it did."""
        activation = turn.activation
        message = turn.message
        assert message is not None
        envelope = message.envelope
        turn.tells = turn.operations = None
        turn.inbox = None
        match turn.cut:
            case Cut.DEADLINE:
                activation.restore()
                waiting = ", ".join(f"{kind}/{key}" for kind, key in turn.waiting_on or ())
                seconds = self._boottime() - (turn.started_at or turn.deadline - envelope.budget_ms / 1000)
                failure = AskTimeout(
                    timeout=timeout_of(envelope.budget_ms),
                    stage="running",
                    seconds=max(seconds, 0.0),
                    waiting_on=waiting,
                    actor_type=envelope.type,
                    key=envelope.key,
                    method=envelope.method,
                )
                self.meter(message.method, envelope).failed(failure.reason.value)
                self.answer(turn, message, encode_error(failure), final=False)
                activation.attempt = activation.unavailable = 0
                self._gather(turn)
            case Cut.CALLER:
                activation.restore()
                self.meter(message.method, envelope).failed("cancelled")
                self.answer(turn, message, b"", final=False)
                activation.attempt = activation.unavailable = 0
                self._gather(turn)
            case Cut.TURN_TIMEOUT:
                limit = activation.spec.options.turn_timeout or self._settings.turn_timeout
                self._failed(turn, TimeoutError(f"the turn took longer than turn_timeout, {limit:g} s"))
            case Cut.DRAIN:
                # It runs again at the next owner: its entry stays where it is.
                activation.restore()
            case Cut.LOST | None:
                pass

    def _was_refused(self, activation: Activation, message: Message) -> None:
        """Redis refused this message's effects for good before: that was a defect of its turn."""
        reason = activation.shard.refused.pop(message.entry)
        activation.attempt += 1
        if activation.attempt >= self._settings.max_attempts:
            self.dead_letter(activation, message, reason="commit_refused", error=reason, attempts=activation.attempt)
        else:
            self._retry(activation, message, 0.1, counted=False, discard=False)

    def expire(self, activation: Activation, message: Message, *, stage: str) -> None:
        """The deadline passed before the message could run: it never will."""
        envelope = message.envelope
        effects = Effects(message.entry, activation)
        failure = AskTimeout(
            timeout=timeout_of(envelope.budget_ms),
            stage="queued" if stage == "queued" else "running",
            seconds=envelope.budget_ms / 1000,
            actor_type=envelope.type,
            key=envelope.key,
            method=envelope.method,
        )
        self.meter(message.method, envelope).failed(failure.reason.value)
        self.answer(effects, message, encode_error(failure), final=False)
        activation.attempt = activation.unavailable = 0
        self.take_away(activation, message, effects)

    def fail(self, activation: Activation, message: Message, error: ClusterError) -> None:
        """Fail a queued message with an error of ours, without running it."""
        envelope = message.envelope
        effects = Effects(message.entry, activation)
        self.meter(message.method, envelope).failed(error.reason.value)
        self.answer(effects, message, encode_error(error), final=False)
        self.take_away(activation, message, effects)

    def retry_activation(self, activation: Activation, error: BaseException, *, counted: bool) -> None:
        """The actor could not be activated for the tell at the head of its queue: try again later."""
        message = activation.queue.popleft()
        decision = decide(
            error,
            attempt=activation.attempt + 1,
            retry=activation.spec.options.retry,
            max_attempts=self._settings.max_attempts,
            random=self._world.random,
            unavailable=activation.unavailable,
            actor_type=message.envelope.type,
            key=message.envelope.key,
            method=message.envelope.method,
        )
        if counted and not isinstance(decision, RetryAfter):
            self.dead_letter(
                activation,
                message,
                reason="activation",
                error=f"the actor could not be activated: {type(error).__name__}: {error}",
                attempts=activation.attempt + 1,
            )
            return
        seconds = decision.seconds if isinstance(decision, RetryAfter) else 1.0
        self._retry(activation, message, seconds, counted=counted, discard=False)

    def keep(self, turn: Turn) -> None:
        """Gather the state that a hook's run has left."""
        activation = turn.activation
        if activation.spec.state is not None:
            self._keep_state(turn)
        if turn.state is not None or turn.tells or turn.operations:
            activation.uncommitted += 1
            self._world.committer.add(activation.shard, turn)

    # effects

    def take_away(self, activation: Activation, message: Message, effects: Effects) -> None:
        """Gather effects that end a message which did not run."""
        if activation.handled(message.entry):
            effects.entry = None
            self._world.backlogs.done(activation, effects, message.entry)
        self._clear_mark(activation.shard, message, effects)
        activation.uncommitted += 1
        self._world.committer.add(activation.shard, effects)

    def _gather(self, turn: Turn) -> None:
        """Gather the effects of an ended turn for its shard's next commit."""
        activation = turn.activation
        message = turn.message
        shard = activation.shard
        if activation.inside and message is not None and activation.handled(message.entry):
            turn.entry = None
            self._world.backlogs.done(activation, turn, message.entry)
        if shard.suspects_upto != NO_SUSPECTS and message is not None:
            self._clear_mark(shard, message, turn)
        if turn.asked and turn.cut is None:
            operate(turn, "E", (self._keys.record(DERIVED + turn.message_id),))
        activation.uncommitted += 1
        self._world.committer.add(shard, turn)

    def _clear_mark(self, shard: OwnedShard, message: Message, effects: Effects) -> None:
        if shard.suspects_upto != NO_SUSPECTS and entry_order(message.entry) <= shard.suspects_upto:
            operate(effects, "M", (self._keys.marks(shard.label),), message.entry)

    def answer(self, effects: Effects, message: Message, body: bytes, *, final: bool) -> None:
        """Let ``effects`` answer whoever waits. ``final``: a reply or domain error, kept under its idempotency key.

        Not final (expired, cancelled, dead-lettered): the key is free again. An ask made in
        a turn is the exception: what it was told is kept, so that a re-run is told the same.
        """
        envelope = message.envelope
        record = envelope.extra.record if envelope.extra is not None else None
        if record is not None:
            if record.suffix.startswith(DERIVED):
                ttl = int(DERIVED_LIFE * 1000) if final or body else 0
            else:
                ttl = int(self._settings.idempotency_ttl * 1000) if final else 0
            operate(effects, "K", (self._keys.record(record.suffix),), record.prefix, ttl, body)
        elif envelope.reply is not None and body:
            effects.inbox = self._keys.inbox(envelope.reply.inbox)
            effects.call = envelope.reply.call
            effects.answer = body

    def bury(self, effects: Effects, shard: OwnedShard, raw: bytes, *, reason: str, error: str, entry: bytes, attempts: int) -> None:
        """Let ``effects`` put a message among the dead letters."""
        operate(
            effects,
            "Z",
            (self._keys.dead, self._keys.dead_lost),
            self._settings.dead_letter_capacity,
            *("d", raw, "r", reason, "e", error[:4096], "s", shard.label, "i", entry, "a", attempts),
            *("t", int(self._world.redis_clock.now_ms())),
        )

    # commits

    def committed(self, ledger: Ledger, effects: Sequence[Effects]) -> None:
        """Turns are real: what waited for that goes on."""
        now = 0.0
        meters = self._meters
        for effect in effects:
            if effect.settled is not None:
                effect.settled()
            activation: Activation | None = effect.activation
            if activation is None:
                continue
            activation.uncommitted -= 1
            if type(effect) is Turn and effect.message is not None:
                meter = meters.get(effect.message.method)
                if meter is None:
                    meter = self.meter(effect.message.method, effect.message.envelope)
                meter.handled += 1
                if effect.started_at:
                    now = now or self._boottime()
                    self._measure(effect, effect.message, meter, now)
            if not activation.uncommitted and (
                activation.asks_waiting or activation.more or activation.phase is Phase.CLOSING
            ):
                self._all_committed(activation)
        self.settle_drain(ledger)  # type: ignore[arg-type] # every ledger here is an OwnedShard

    def _measure(self, turn: Turn, message: Message, meter: MethodMeter, now: float) -> None:
        weight = self._every
        queued = turn.started_at - self._world.redis_clock.arrived(message.entry)
        meter.queued.observe(max(queued, 0.0), weight)
        meter.run.observe(turn.ended_at - turn.started_at, weight)
        meter.commit.observe(now - turn.ended_at, weight)

    def _all_committed(self, activation: Activation) -> None:
        if activation.asks_waiting:
            waiting, activation.asks_waiting = activation.asks_waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
        if activation.phase is Phase.CLOSING:
            self._world.closing.committed(activation)
        elif activation.more and not activation.queue and activation.phase is not Phase.GONE:
            self.pump(activation)

    def refused(self, ledger: Ledger, *, history_lost: bool) -> None:
        """A commit was fenced, or history was lost: the shard is not ours as we know it."""
        self._world.lose(ledger, "history_lost" if history_lost else "fenced")

    def defective(self, ledger: Ledger, effects: Effects, fault: RedisFault) -> None:
        """Redis refuses a turn's effects for good. What later turns built on is void: the shard starts over without it."""
        label = effects.label if isinstance(effects, Turn) else "a move or an answer"
        entry = effects.message.entry if isinstance(effects, Turn) and effects.message is not None else effects.entry
        self._telemetry.emit(CommitRefused(handler=label, shard=ledger.label, error=str(fault)))
        self._world.start_over(ledger, {} if entry is None else {entry: str(fault)})

    def settle_drain(self, shard: OwnedShard) -> None:
        """Tell a shard's drain when it may have nothing left to wait for."""
        if shard.draining:
            self._world.drained(shard)

    # cancelling, deadlines, cycles

    def cancel(self, shard: OwnedShard, envelope: Envelope) -> None:
        """Forget a message whose caller has gone: not started, it never will; running, it is cancelled."""
        activation = shard.activations.get((envelope.type, envelope.key))
        if activation is None:
            return
        for turn in activation.running:
            if turn.message_id == envelope.id:
                self.cut(turn, Cut.CALLER)
                return
        if self._world.streams.cancel(shard, envelope.id):
            return
        for message in activation.queue:
            if message.envelope.id == envelope.id:
                activation.queue.remove(message)
                effects = Effects(message.entry, activation)
                self.answer(effects, message, b"", final=False)
                self.take_away(activation, message, effects)
                self.meter(message.method, message.envelope).failed("cancelled")
                return

    def watch(self, activation: Activation, messages: Sequence[Message]) -> None:
        """Answer those of ``messages`` that are still queued at their deadline."""
        for message in messages:
            if message.envelope.budget_ms:
                self._watch_deadline(activation, message)

    def _watch_deadline(self, activation: Activation, message: Message) -> None:
        """See to it that a message which is still queued at its deadline is answered then."""
        at = self._world.redis_clock.deadline(message.entry, message.envelope.budget_ms)
        self._due_count += 1
        heapq.heappush(self._due, (at, self._due_count, activation, message))
        if self._due_timer is None or at < self._due_at:
            self._arm(at)

    def _arm(self, at: float) -> None:
        if self._due_timer is not None:
            self._due_timer.cancel()
        self._due_at = at
        self._due_timer = self._loop.call_later(max(at - self._boottime(), 0.0), self._deadlines)

    def _deadlines(self) -> None:
        self._due_timer = None
        now = self._boottime()
        self.begin()
        try:
            while self._due and self._due[0][0] <= now:
                _, _, activation, message = heapq.heappop(self._due)
                if activation.phase is not Phase.GONE and message in activation.queue and self._world.lease.trusted():
                    activation.queue.remove(message)
                    self.expire(activation, message, stage="queued")
                    self.advance(activation)
        finally:
            self.finish()
        if self._due:
            self._arm(self._due[0][0])

    def _cycle(self, activation: Activation, message: Message) -> bool:
        """Look whether an ask that just queued waits on itself; true if that settled it."""
        extra = message.envelope.extra
        assert extra is not None
        ids = {link.message_id for link in extra.chain}
        for turn in activation.running:
            if turn.message_id in ids:
                activation.queue.remove(message)
                if message.method.reentrant:
                    if activation.handled(message.entry):
                        activation.inside.add(message.entry)
                    self.reenter(activation, message)
                else:
                    self._fail_cycle(activation, message)
                return True
        waits = {(link.type, link.key) for link in extra.chain}
        for turn in activation.running:
            if turn.waiting_on and not waits.isdisjoint(turn.waiting_on) and root_of(message) > turn.root:
                activation.queue.remove(message)
                self._fail_cycle(activation, message)
                return True
        return False

    def waits(self, turn: Turn, target: tuple[str, str]) -> None:
        """A turn begins to wait on ``target``: whatever queued here from there may now wait on itself."""
        activation = turn.activation
        for message in list(activation.queue):
            extra = message.envelope.extra
            if extra is None or not extra.chain:
                continue
            if any((link.type, link.key) == target for link in extra.chain) and root_of(message) > turn.root:
                activation.queue.remove(message)
                self.begin()
                try:
                    self._fail_cycle(activation, message)
                finally:
                    self.finish()

    def _fail_cycle(self, activation: Activation, message: Message) -> None:
        envelope = message.envelope
        extra = envelope.extra
        assert extra is not None
        chain = [f"{link.type}/{link.key}" for link in extra.chain]
        chain.append(f"{envelope.type}/{envelope.key}")
        error = CallCycle(chain=chain, actor_type=envelope.type, key=envelope.key, method=envelope.method)
        self.fail(activation, message, error)

    # small things

    def meter(self, method: MethodSpec, envelope: Envelope) -> MethodMeter:
        """Return the meter of a method, found once."""
        meter = self._meters.get(method)
        if meter is None:
            meter = self._meters[method] = self._telemetry.method(envelope.type, envelope.method)
        return meter

    def tick(self) -> None:
        """Count time for idle actors."""
        self._tick += 1
        self.waiting = sum(len(activation.queue) for shard in self._world.shards.values() for activation in shard.activations.values())

    def forget(self, activation: Activation) -> None:  # noqa: ARG002 - whichever it was
        """An activation was dropped with its shard."""
        self.resident -= 1

    @property
    def ticks(self) -> int:
        """Ticks so far."""
        return self._tick
