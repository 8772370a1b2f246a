"""Turns that did not succeed, and messages that never ran.

What an error means is decided in :mod:`actors.supervision`; here it is done: the caller
is told, the message waits for another run, or it goes to the dead letters. In each case
the actor falls back to the state that its last ended turn left.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from actors._mailbox.calls import timeout_of
from actors._mailbox.commit import Effects
from actors._runner.activation import Activation, Message
from actors._runner.turn import Cut, Turn
from actors.errors import ActivationFailed, AskTimeout, ClusterError, DeadLettered, PersistenceFailed
from actors.supervision import Abandon, DeadLetter, Decision, FailWith, Retry, RetryAfter, decide
from actors.telemetry.events import DeadLettered as DeadLetteredEvent
from actors.telemetry.events import HandlerFailed
from actors.wire.reply import encode_error

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World


class Failures:
    """Ends turns and messages that have failed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings
        self._telemetry = world.telemetry
        self._boottime = world.clock.boottime
        self._engine = world.engine
        self._settlement = world.settlement
        self._deadlines = world.deadlines

    def failed(self, turn: Turn, error: BaseException) -> None:
        """Decide what an error that left the handler means, and do it."""
        activation = turn.activation
        message = turn.message
        assert message is not None
        decision = self._decide(message, error, message.method.retry)
        match decision:
            case FailWith(failure):
                self.refuse(turn, failure)
            case RetryAfter(seconds, counted):
                self._report(turn, error, f"runs again in {seconds:.2f} s")
                activation.last_error = " ".join("".join(traceback.format_exception_only(error)).split())[:200]
                self._retry(activation, message, seconds, counted=counted, discard=not turn.reentrant)
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
        self._engine.meter(message.method, envelope).failed("defect")
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

    def refuse(self, turn: Turn, error: BaseException) -> None:
        """Fail the call with an error that is the caller's; the turn's changes, tells and timers are dropped."""
        activation = turn.activation
        message = turn.message
        assert message is not None
        envelope = message.envelope
        turn.tells = turn.operations = None
        turn.inbox = None
        self._fall_back(turn)
        reason = error.reason.value if isinstance(error, ClusterError) else "domain"
        self._engine.meter(message.method, envelope).failed(reason)
        self._settlement.answer(turn, message, encode_error(error), final=True)
        if isinstance(error, ClusterError) and envelope.reply is None:
            # A tell that fails for good has nobody to tell it to.
            self._settlement.bury(
                turn, activation.shard, message.raw, reason=reason, error=str(error), entry=message.entry, attempts=turn.attempt
            )
            self._told_dead(message, reason, turn.attempt, str(error), activation.shard)
        self._settlement.gather(turn)

    def _retry(self, activation: Activation, message: Message, seconds: float, *, counted: bool, discard: bool) -> None:
        """Run a message again later: it and all behind it wait in the actor's backlog."""
        if not counted:
            message.unavailable += 1
        else:
            message.attempt += 1
            self._engine.meter(message.method, message.envelope).retried += 1
        message.due = self._boottime() + seconds
        self._world.suspects.put_off(activation.shard, message)
        activation.queue.appendleft(message)
        self._world.backlogs.hold(activation)
        if message.envelope.budget_ms:
            self._deadlines.watch(activation, message)
        if discard:
            self._world.loader.discard(activation)

    def _forsake(self, turn: Turn, message: Message, failure: ClusterError, reason: str) -> None:
        """Attempts are used up: the message is dead, its asker told, its actor goes on without it."""
        activation = turn.activation
        turn.tells = turn.operations = turn.asked = None
        turn.inbox = None
        self._settlement.answer(turn, message, encode_error(failure), final=False, dead=True)
        self._settlement.bury(
            turn, activation.shard, message.raw, reason="attempts", error=reason, entry=message.entry, attempts=turn.attempt
        )
        self._told_dead(message, "attempts", turn.attempt, str(failure), activation.shard)
        if not turn.reentrant:
            self._world.loader.discard(activation)
        self._settlement.gather(turn)

    def dead_letter(self, activation: Activation, message: Message, *, reason: str, error: str, attempts: int) -> None:
        """Set a queued message aside without running it."""
        effects = Effects(message.entry, activation)
        envelope = message.envelope
        failure = DeadLettered(why=error, message_id=envelope.id, actor_type=envelope.type, key=envelope.key, method=envelope.method)
        self._settlement.answer(effects, message, encode_error(failure), final=False, dead=True)
        self._settlement.bury(effects, activation.shard, message.raw, reason=reason, error=error, entry=message.entry, attempts=attempts)
        self._told_dead(message, reason, attempts, error, activation.shard)
        self._settlement.take_away(activation, message, effects)

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

    def was_cut(self, turn: Turn) -> None:
        """A turn that we cancelled has ended, however it did."""
        activation = turn.activation
        message = turn.message
        assert message is not None
        envelope = message.envelope
        turn.tells = turn.operations = None
        turn.inbox = None
        match turn.cut:
            case Cut.DEADLINE:
                self._fall_back(turn)
                seconds = self._boottime() - (turn.started_at or turn.deadline - envelope.budget_ms / 1000)
                failure = AskTimeout(
                    timeout=timeout_of(envelope.budget_ms),
                    stage="running",
                    seconds=max(seconds, 0.0),
                    waiting_on=turn.waited_on,
                    actor_type=envelope.type,
                    key=envelope.key,
                    method=envelope.method,
                )
                self._engine.meter(message.method, envelope).failed(failure.reason.value)
                self._settlement.answer(turn, message, encode_error(failure), final=False)
                self._settlement.gather(turn)
            case Cut.CALLER:
                self._fall_back(turn)
                self._engine.meter(message.method, envelope).failed("cancelled")
                self._settlement.answer(turn, message, b"", final=False)
                self._settlement.gather(turn)
            case Cut.TURN_TIMEOUT:
                limit = activation.spec.options.turn_timeout or self._settings.turn_timeout
                waiting = f", waiting on {turn.waited_on}" if turn.waited_on else ""
                self.failed(turn, TimeoutError(f"the turn took longer than turn_timeout, {limit:g} s{waiting}"))
            case Cut.DRAIN:
                # It runs again at the next owner: its entry stays where it is.
                self._fall_back(turn)
                self._world.suspects.put_off(activation.shard, message)
            case Cut.LOST | None:
                pass

    def was_refused(self, activation: Activation, message: Message) -> None:
        """Redis refused this message's effects for good before: that was a defect of its turn."""
        reason = activation.shard.refused.pop(message.entry)
        message.attempt += 1
        if message.attempt >= self._settings.max_attempts:
            self.dead_letter(activation, message, reason="commit_refused", error=reason, attempts=message.attempt)
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
        self._engine.meter(message.method, envelope).failed(failure.reason.value)
        self._settlement.answer(effects, message, encode_error(failure), final=False)
        self._settlement.take_away(activation, message, effects)

    def fail(self, activation: Activation, message: Message, error: ClusterError) -> None:
        """Fail a queued message with an error of ours, without running it."""
        envelope = message.envelope
        effects = Effects(message.entry, activation)
        self._engine.meter(message.method, envelope).failed(error.reason.value)
        self._settlement.answer(effects, message, encode_error(error), final=False)
        self._settlement.take_away(activation, message, effects)

    def retry_activation(self, activation: Activation, error: BaseException, *, counted: bool) -> None:
        """The actor could not be activated for the tell at the head of its queue: try again later.

        ``counted``: as often as after a defect, since a hook's error is nobody's answer,
        whatever its class; else for as long as it takes.
        """
        message = activation.queue.popleft()
        address = activation.address
        decision = self._decide(message, error if counted else PersistenceFailed(problem=str(error)), None)
        if isinstance(decision, FailWith):
            failed = ActivationFailed(problem=str(error), actor_type=address.type, key=address.key, method=message.envelope.method)
            decision = self._decide(message, failed, None)
        match decision:
            case RetryAfter(seconds, attempted):
                self._retry(activation, message, seconds, counted=attempted, discard=False)
            case Abandon():
                self._world.start_over(activation.shard, {})
            case _:
                self.dead_letter(
                    activation,
                    message,
                    reason="activation",
                    error=f"the actor could not be activated: {type(error).__name__}: {error}",
                    attempts=message.attempt + 1,
                )

    def _decide(self, message: Message, error: BaseException, retry: Retry | None) -> Decision:
        envelope = message.envelope
        spec = self._world.specs[envelope.type]
        return decide(
            error,
            attempt=message.attempt + 1,
            retry=retry or spec.options.retry,
            max_attempts=self._settings.max_attempts,
            random=self._world.random,
            unavailable=message.unavailable,
            actor_type=envelope.type,
            key=envelope.key,
            method=envelope.method,
        )

    def _fall_back(self, turn: Turn) -> None:
        """Undo what a turn did to its actor's state. A reentrant one did nothing, and the state is the outer turn's."""
        if not turn.reentrant:
            turn.activation.restore()
