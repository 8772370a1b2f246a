"""The end of a message, written down: its entry goes, whoever waits is answered, the dead are buried.

These are the parts that the effects of every end are made of, whether a turn succeeded,
failed, was cut off, or never ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors._mailbox.commit import Effects, operate
from actors._runner.activation import Activation, Message, entry_order
from actors._runner.shard import NO_SUSPECTS

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.turn import Turn
    from actors._runner.world import World

DERIVED = "q:"
"""Prefix of the record that holds the asks of one parent message."""

DERIVED_LIFE = 86_400.0
"""Seconds the outcome of an ask made in a turn is kept, unless its parent's commit drops it."""


class Settlement:
    """Writes the ends of messages into effects, and gathers these for the next commit."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings
        self._keys = world.keys

    def take_away(self, activation: Activation, message: Message, effects: Effects) -> None:
        """Gather effects that end a message which did not run."""
        if activation.handled(message.entry):
            effects.entry = None
            self._world.backlogs.done(activation, effects, message.entry, attempts=message.attempt)
        self._clear_mark(activation.shard, message, effects)
        activation.uncommitted += 1
        self._world.committer.add(activation.shard, effects)

    def gather(self, turn: Turn) -> None:
        """Gather the effects of an ended turn for its shard's next commit."""
        activation = turn.activation
        message = turn.message
        shard = activation.shard
        if activation.inside and message is not None and activation.handled(message.entry):
            turn.entry = None
            self._world.backlogs.done(activation, turn, message.entry, attempts=message.attempt)
        if shard.suspects_upto != NO_SUSPECTS and message is not None:
            self._clear_mark(shard, message, turn)
        if turn.asked and turn.cut is None:
            operate(turn, "E", (self._keys.record(DERIVED + turn.message_id),))
        activation.uncommitted += 1
        self._world.committer.add(shard, turn)

    def _clear_mark(self, shard: OwnedShard, message: Message, effects: Effects) -> None:
        if shard.suspects_upto != NO_SUSPECTS and entry_order(message.entry) <= shard.suspects_upto:
            operate(effects, "M", (self._keys.marks(shard.label),), message.entry)

    def answer(self, effects: Effects, message: Message, body: bytes, *, final: bool, dead: bool = False) -> None:
        """Let ``effects`` answer whoever waits. ``final``: a reply or domain error, kept under its idempotency key.

        Not final (expired, cancelled, dead-lettered): the key is free again. The exception is
        an ask made in a turn that is ``dead``: what it was told is kept, so that a re-run of
        its parent is told the same.
        """
        envelope = message.envelope
        record = envelope.extra.record if envelope.extra is not None else None
        if record is not None:
            if record.suffix.startswith(DERIVED):
                ttl = int(DERIVED_LIFE * 1000) if final or dead else 0
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
