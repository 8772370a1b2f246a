"""From an entry that was read to the actor it is for.

Whatever the bytes are, the entry gets an end: a message goes to its actor, one for a type
or method unknown here is parked, a word for the runner is acted on, and what is none of
these is set aside with its reason. The entries behind it go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from actors._mailbox.commit import Effects
from actors._runner.activation import Activation, Message, entry_order
from actors.ids import ActorAddress
from actors.telemetry.events import DeadLettered
from actors.wire.envelope import Envelope, Kind, Unreadable, decode, encode

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World
    from actors.actor import ActorSpec


class Dispatch:
    """Puts entries to their actors."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings
        self._keys = world.keys
        self._specs = world.specs
        self._telemetry = world.telemetry
        self._engine = world.engine
        self._settlement = world.settlement

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
            label = self._world.label_of(envelope.type, envelope.key)
            if label != shard.label:
                self._forward(shard, entry, label, envelope, raw)
                return
            activation = self.activate(shard, spec, envelope.key)
        method = activation.spec.methods.get(envelope.method)
        if method is None:
            self._world.parking.park(shard, entry, envelope, raw)
            return
        self._engine.arrive(activation, Message(entry, envelope, raw, method))

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
        activation.touched = self._engine.ticks
        activation.threads = self._world.threads.left_alone(activation.address)
        shard.activations[spec.name, key] = activation
        self._engine.resident += 1
        return activation

    def _forward(self, shard: OwnedShard, entry: bytes, label: str, envelope: Envelope, raw: bytes) -> None:
        """Send a message on to its shard: its sender still counts them as they were before a reshard."""
        effects = Effects(entry)
        if envelope.budget_ms:
            # Its new entry is younger than its call: it takes along only what is left of the deadline.
            left = self._world.redis_clock.deadline(entry, envelope.budget_ms) - self._world.clock.boottime()
            raw = encode(msgspec.structs.replace(envelope, budget_ms=max(int(left * 1000), 1)))
        effects.tells = [(label, raw)]
        self._world.committer.add(shard, effects)

    def _control(self, shard: OwnedShard, entry: bytes, envelope: Envelope) -> None:
        """A message for the runner rather than the actor: act on it and be done with its entry."""
        effects = Effects(entry)
        match envelope.kind:
            case Kind.CANCEL:
                self._engine.cancel(shard, envelope)
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
        self._settlement.bury(effects, shard, raw, reason=why, error=detail, entry=entry, attempts=0)
        self._telemetry.emit(
            DeadLettered(message_id="?", actor_type="?", key="?", method="?", reason=why, attempts=0, error=detail, shard=shard.label)
        )
        self._world.committer.add(shard, effects)
