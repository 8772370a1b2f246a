"""Deactivation: of actors that are idle, that asked for it, or that there is no room for.

``on_deactivate`` is a last turn: its changes commit. Until that commit is acknowledged the
activation stays, so that the next one cannot load a state older than it. Messages that
come meanwhile wait for the next activation.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from actors._runner.activation import Activation, Phase
from actors._runner.turn import Cut, Turn
from actors.context import current
from actors.telemetry.events import DeactivationFailed

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World

SLICES = 4
"""Ticks over which a look at every resident actor is spread."""

EVICT_SHARE = 0.05
"""Part of the resident actors that goes at once when there are too many."""


class Closing:
    """Deactivates actors."""

    def __init__(self, world: World) -> None:
        self._world = world

    def close(self, activation: Activation, reason: str | None = None) -> None:
        """Deactivate an actor that nothing runs in; inside a stretch of the engine's work."""
        world = self._world
        if activation.running or activation.threads or activation.streams or activation.phase is not Phase.READY:
            return
        activation.wants_close = False
        if reason is not None:
            activation.close_reason = reason
        activation.phase = Phase.CLOSING
        if not activation.spec.has_on_deactivate:
            self._closed(activation)
            return
        turn = activation.hook = Turn(activation, None)
        current.set(turn)
        assert activation.actor is not None
        if activation.expires:
            world.engine.let_expire(activation)
        work = activation.actor.on_deactivate(activation.close_reason)
        turn.task = self._world.stepper.step(work, copy_context(), self._ended, turn)
        if turn.task is not None:
            turn.timer = self._world.loop.call_later(
                self._world.settings.activation_timeout, self._world.engine.cut, turn, Cut.TURN_TIMEOUT
            )

    def committed(self, activation: Activation) -> None:
        """The last commit of a closing actor is acknowledged."""
        if activation.actor is None:
            self._closed(activation)

    def sweep(self) -> None:
        """Deactivate what has been idle for long enough, and the least recently used where too many are resident."""
        world = self._world
        engine = world.engine
        now = engine.ticks
        per_second = 1 / world.tick_seconds
        default = world.settings.idle_timeout
        idle: list[Activation] = []
        evictable: list[Activation] = []
        forlorn: list[Activation] = []
        over = engine.resident > world.settings.resident_limit
        # A part of the shards at each tick, all of them within a second; all at once where there are too many actors.
        shards = list(world.shards.values())
        for shard in shards if over else shards[now % SLICES :: SLICES]:
            for activation in shard.activations.values():
                if activation.phase is Phase.COLD and activation.idle:
                    forlorn.append(activation)
                if activation.keep_alive or activation.phase is not Phase.READY or not activation.idle:
                    continue
                options = activation.spec.options
                limit = options.idle_timeout or default
                if options.state_ttl:
                    limit = min(limit, options.state_ttl)
                if now - activation.touched >= limit * per_second:
                    idle.append(activation)
                elif over:
                    evictable.append(activation)
        for activation in forlorn:
            self._gone(activation)
        if over:
            evictable.sort(key=lambda activation: activation.touched)
            surplus = engine.resident - world.settings.resident_limit + int(world.settings.resident_limit * EVICT_SHARE)
            idle += evictable[: max(0, surplus - len(idle))]
        if idle:
            engine.begin()
            try:
                for activation in idle:
                    self.close(activation, "idle" if now - activation.touched >= 1 else "evicted")
            finally:
                engine.finish()

    def close_shard(self, shard: OwnedShard, reason: str) -> None:
        """Deactivate every actor of a shard that is moving away."""
        engine = self._world.engine
        engine.begin()
        try:
            for activation in list(shard.activations.values()):
                if activation.phase is Phase.READY:
                    self.close(activation, reason)
        finally:
            engine.finish()

    def _ended(self, turn: Turn, _value: Any, error: BaseException | None) -> None:
        activation = turn.activation
        activation.hook = None
        turn.ended = True
        if turn.timer is not None:
            turn.timer.cancel()
        if activation.phase is not Phase.CLOSING:
            return
        world = self._world
        suspended = turn.task is not None
        if suspended:
            world.engine.begin()
        try:
            if error is None and turn.cut is None:
                try:
                    world.engine.keep(turn)
                except Exception as problem:  # noqa: BLE001 - whatever a state's encoding raises
                    error = problem
            if error is not None or turn.cut is not None:
                limit = world.settings.activation_timeout
                text = f"{type(error).__name__}: {error}" if turn.cut is None else f"it took longer than activation_timeout, {limit:g} s"
                world.telemetry.emit(DeactivationFailed(actor_type=activation.address.type, key=activation.address.key, error=text))
            self._closed(activation)
            world.engine.settle_drain(activation.shard)
        finally:
            if suspended:
                world.engine.finish()

    def _closed(self, activation: Activation) -> None:
        activation.actor = None
        if activation.uncommitted:
            return  # `committed` comes back here
        world = self._world
        world.telemetry.runner.deactivated(activation.close_reason)
        if activation.queue or activation.more:
            activation.phase = Phase.COLD
            activation.bytes = activation.prelude = None
            activation.dirty = activation.wants_close = activation.keep_alive = False
            world.engine.pump(activation)
            return
        self._gone(activation)

    def _gone(self, activation: Activation) -> None:
        world = self._world
        activation.phase = Phase.GONE
        if activation.timer is not None:
            activation.timer.cancel()
        shard = activation.shard
        address = activation.address
        if shard.activations.get((address.type, address.key)) is activation:
            del shard.activations[address.type, address.key]
            world.engine.resident -= 1
        world.engine.settle_drain(shard)
