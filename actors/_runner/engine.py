"""The turns of the shards one runner owns: from a message's arrival to its effects gathered.

What happens to a message, in the order of this file: it *arrives* at its actor; the actor
is *pumped*, that is, whatever of it may start does; a turn *starts*, stepped in place to
its end or its first wait; it *ends*, with a value here, otherwise in
:mod:`actors._runner.failures`; its effects are *committed*, and what waited for that goes on.

Everything here runs in callbacks of the event loop, never in a task, and never waits.
The parts that talk to Redis by themselves (loading, backlogs, suspects, streams, asks)
are beside this file; the engine calls them and they call back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from actors._mailbox.commit import CLEARED, Effects, Ledger, Part
from actors._runner.activation import Activation, Message, Phase, entry_order
from actors._runner.shard import NO_SUSPECTS
from actors._runner.turn import Cut, Turn
from actors.context import current
from actors.errors import PayloadTooLarge, SerializationFailed
from actors.message import Kind as MethodKind
from actors.message import Turn as CurrentTurn
from actors.telemetry.events import CommitRefused
from actors.telemetry.meters import MethodMeter, sample_every
from actors.wire.envelope import Envelope
from actors.wire.reply import encode_value

if TYPE_CHECKING:
    from actors._mailbox.committer import Committer
    from actors._redis.faults import RedisFault
    from actors._runner.failures import Failures
    from actors._runner.settlement import Settlement
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World
    from actors.message import MethodSpec

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
        self._settlement: Settlement
        self._failures: Failures
        self._tracing = world.telemetry.tracer.active
        self._meters: dict[MethodSpec, MethodMeter] = {}
        self._depth = 0
        self._outer: CurrentTurn | None = None
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

    def bind(self) -> None:
        """Take the parts that are made after the engine, since they know it."""
        world = self._world
        self._committer, self._settlement, self._failures = world.committer, world.settlement, world.failures

    def begin(self, entries: int = 1) -> None:
        """Start a stretch of work in a callback of the loop; pair with :meth:`finish`."""
        self._depth += 1
        if self._depth == 1:
            self._every = sample_every(entries)
            self._outer = current.get()
            self._stepper.enter()

    def finish(self) -> None:
        """End the stretch: what has gathered leaves."""
        self._depth -= 1
        if self._depth == 0:
            self._stepper.leave()
            current.set(self._outer)
            self._world.loader.flush()
            self._world.committer.flush()
            self._world.room()

    def trusted(self) -> bool:
        """Whether turns may start and be committed: the lease still stands."""
        return self._world.lease.trusted()

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
            self._world.deadlines.watch(activation, message)
        extra = envelope.extra
        if extra is not None and extra.chain and (activation.running or activation.hook is not None):
            self._world.cycles.found(activation, message)
        self.advance(activation)

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
            if (activation.wants_close and not activation.streams) or not activation.may_start():
                if activation.running and self._comes_back(activation, queue[0]):
                    continue
                break
            if not self._may_start_in(activation.shard, activation):
                return
            message = queue[0]
            if message.due and not self._is_due(activation, message.due):
                return
            shard = activation.shard
            if shard.refused and message.entry in shard.refused:
                queue.popleft()
                self._failures.was_refused(activation, message)
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
            and self._is_due(activation, activation.backoff[0])
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
        if shard.ending or not shard.waiting_asks:
            return False
        return activation.more or any(
            message.envelope.extra is not None and message.envelope.extra.chain and message.method.kind is not MethodKind.STREAM
            for message in activation.queue
        )

    def _comes_back(self, activation: Activation, message: Message) -> bool:
        """Whether the next message is one that the running turn waits for; then it is seen to."""
        extra = message.envelope.extra
        if extra is None or not extra.chain or not self._is_due(activation, message.due):
            return False
        return self._world.cycles.found(activation, message)

    def _is_due(self, activation: Activation, due: float) -> bool:
        left = due - self._boottime() if due else 0.0
        if left <= 0:
            return True
        if activation.timer is None:
            activation.timer = self._loop.call_later(left, self._came_due, activation)
        return False

    def _came_due(self, activation: Activation) -> None:
        activation.timer = None
        self.pump(activation)

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
                self._failures.expire(activation, message, stage="queued")
                return
        if activation.expires:
            self.let_expire(activation)
        if method.kind is MethodKind.STREAM:
            self._world.streams.start(activation, message)
            return
        if self._tracing:
            self._trace(turn)
        self._step(turn, method, envelope)

    def let_expire(self, activation: Activation) -> None:
        """Begin anew with the state if the stored one has expired meanwhile."""
        codec = activation.spec.state
        if codec is not None and activation.expires <= self._boottime() and not activation.dirty and activation.actor is not None:
            activation.expires = 0.0
            activation.actor_state, activation.leftover = codec.fresh(), None
            activation.bytes = codec.encode(activation.actor_state)

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
            self._failures.failed(turn, error)
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
            turn.waited_on = ", ".join(f"{kind}/{key}" for kind, key in turn.waiting_on or ())
        if turn.task is not None:
            turn.task.cancel()
        for waiting in turn.waits or ():
            waiting.cancel()
        if turn.timer is not None:
            turn.timer.cancel()
        # A handler that swallows its cancellation is cancelled again.
        turn.timer = self._loop.call_later(_CANCEL_AGAIN, self.cut, turn, turn.cut)

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
                self._failures.was_cut(turn)
            elif error is None:
                self._succeeded(turn, value)
            else:
                self._failures.failed(turn, error)
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
                self._failures.refuse(turn, error)
                return
            self._settlement.answer(turn, message, body, final=True)
        codec = activation.spec.state
        if codec is not None and not turn.reentrant:
            try:
                if not method.read_only:
                    self._keep_state(turn)
                else:
                    if self._world.strict and codec.encode(activation.actor_state, activation.leftover) != activation.bytes:
                        raise RuntimeError(f"{turn.label} is read_only and changed the state")
                    if activation.dirty and activation.bytes is not None:
                        self._write_state(turn, activation.bytes)  # as on_activate left it
            except Exception as error:  # noqa: BLE001 - whatever encoding a state of the user's raises
                turn.inbox = None
                turn.operations = None
                self._failures.failed(turn, error)
                return
        if activation.prelude is not None and not turn.reentrant:
            self._take_prelude(turn, activation.prelude)
        shard = activation.shard
        if activation.inside or turn.asked or shard.suspects_upto != NO_SUSPECTS:
            self._settlement.gather(turn)
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
                activation.expires = 0.0
                return
            activation.dirty = True  # cleared, and written again since
        if data != activation.bytes:
            codec.verify(data)
            self._write_state(turn, data)
        elif activation.dirty:
            self._write_state(turn, data)

    def _write_state(self, turn: Turn, data: bytes) -> None:
        activation = turn.activation
        if len(data) > self._settings.max_state:
            raise PayloadTooLarge(
                what="state",
                size=len(data),
                limit=self._settings.max_state,
                actor_type=activation.address.type,
                key=activation.address.key,
            )
        turn.state_key, turn.state = activation.state_key, data
        ttl = activation.spec.options.state_ttl
        if ttl:
            turn.state_ttl_ms = int(ttl * 1000)
            activation.expires = self._boottime() + ttl
        activation.bytes = data
        activation.dirty = False

    def _take_prelude(self, turn: Turn, prelude: Turn) -> None:
        """Let what ``on_activate`` sent leave with the first turn."""
        turn.activation.prelude = None
        turn.activation.wants_close = turn.activation.wants_close or prelude.leaves
        if prelude.tells:
            turn.tells = [*prelude.tells, *(turn.tells or ())]
        if prelude.operations:
            turn.operations = [*prelude.operations, *(turn.operations or ())]

    def keep(self, turn: Turn) -> None:
        """Gather what the run of ``on_deactivate`` has left. Raises what encoding the state raises; nothing is gathered then."""
        activation = turn.activation
        if activation.spec.state is not None:
            self._keep_state(turn)
        if activation.prelude is not None:
            self._take_prelude(turn, activation.prelude)
        if turn.state is not None or turn.tells or turn.operations:
            activation.uncommitted += 1
            self._world.committer.add(activation.shard, turn)

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
            if not activation.uncommitted and (activation.asks_waiting or activation.more or activation.phase is not Phase.READY):
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
        elif (activation.more and not activation.queue) or activation.phase is Phase.COLD:
            self.pump(activation)

    def full(self, label: str, depth: int) -> None:
        """A shard had no room: turns that send to it are told at once for a while."""
        self._world.full[label] = (self._boottime(), depth)

    def incomplete(self, parts: Sequence[Part], problem: str) -> None:
        """A key of ours holds something else: say so, loudly; the rest of the commit stands."""
        shards = ", ".join(ledger.label for ledger, _ in parts[:5])
        self._telemetry.emit(CommitRefused(handler="one of its commands", shard=shards, error=problem))

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
                self._settlement.answer(effects, message, b"", final=False)
                self._settlement.take_away(activation, message, effects)
                self.meter(message.method, message.envelope).failed("cancelled")
                self.advance(activation)
                return
        if activation.more:
            activation.cancelled.add(envelope.id)

    def take_out(self, activation: Activation, message: Message) -> None:
        """Take a message that has just arrived out of wherever it was put: the queue, or the backlog it is on its way to."""
        try:
            activation.queue.remove(message)
        except ValueError:
            activation.inside.add(message.entry)

    def meter(self, method: MethodSpec, envelope: Envelope) -> MethodMeter:
        """Return the meter of a method, found once."""
        meter = self._meters.get(method)
        if meter is None:
            meter = self._meters[method] = self._telemetry.method(envelope.type, envelope.method)
        return meter

    def tick(self) -> None:
        """Count time for idle actors."""
        self._tick += 1
        if self.waiting:
            self.waiting = sum(len(a.queue) for shard in self._world.shards.values() for a in shard.activations.values())

    def forget(self, activation: Activation) -> None:  # noqa: ARG002 - whichever it was
        """An activation was dropped with its shard."""
        self.resident -= 1

    @property
    def ticks(self) -> int:
        """Ticks so far."""
        return self._tick
