"""Bringing an actor to life: its state, its instance, its ``on_activate``.

States of all actors that became cold messages' targets in one stretch are fetched by one
MGET. A state is loaded only when nothing of the actor is uncommitted; an actor that was
discarded after a defect goes on from what its last ended turn left, which is in memory.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from actors._redis.faults import RedisFault, Unknown
from actors._runner.activation import Activation, Phase
from actors._runner.turn import Cut, Turn
from actors.context import current
from actors.errors import ActivationFailed
from actors.telemetry import events
from actors.wire.codec import StateUnreadable

if TYPE_CHECKING:
    from actors._runner.world import World

_PAGE = 500


class Loader:
    """Activates actors."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cold: list[Activation] = []
        self._page = _PAGE

    def load(self, activation: Activation) -> bool:
        """Begin to activate a cold actor; true if it is ready at once, else it is pumped when it is."""
        spec = activation.spec
        activation.phase = Phase.LOADING
        if spec.state is None or activation.bytes is not None:
            self._instantiate(activation, activation.bytes)
        elif activation.uncommitted:
            activation.phase = Phase.COLD  # pumped again when its commits are acknowledged
        else:
            self._cold.append(activation)
        return bool(activation.ready)

    def flush(self) -> None:
        """Ask for the states of all actors that turned up cold."""
        while self._cold:
            page, self._cold = self._cold[: self._page], self._cold[self._page :]
            keys = [activation.state_key or "" for activation in page]
            for activation in page:
                if activation.spec.options.state_ttl:
                    asked = functools.partial(self._lives_on, activation, self._world.clock.boottime())
                    self._world.state.submit(("PTTL", activation.state_key or ""), asked)
            self._world.state.submit(("MGET", *keys), functools.partial(self._loaded, page))

    @staticmethod
    def _lives_on(activation: Activation, asked: float, reply: Any) -> None:
        activation.expires = asked + reply / 1000 if isinstance(reply, int) and reply >= 0 else 0.0

    def discard(self, activation: Activation) -> None:
        """After a defect: the next turn gets a new instance, from the state the last ended turn left."""
        activation.actor = None
        activation.cleared = False
        if activation.prelude is not None:
            # on_activate runs again, so that nothing of its first run may stay.
            activation.prelude = None
            activation.bytes, activation.dirty = activation.base, False
        if activation.phase is Phase.READY:
            activation.phase = Phase.COLD

    def _loaded(self, page: list[Activation], reply: Any) -> None:
        if isinstance(reply, RedisFault):
            if isinstance(reply, Unknown):
                # Perhaps the page was too much to be answered in time.
                self._page = max(1, len(page) // 2)

            def again() -> None:
                self._cold += [activation for activation in page if activation.phase is Phase.LOADING]
                self.flush()

            self._world.state.when_up(lambda: self._world.loop.call_later(0.05, again))
            return
        self._page = min(_PAGE, self._page * 2)
        engine = self._world.engine
        engine.begin(len(page))
        try:
            for activation, raw in zip(page, reply, strict=True):
                if activation.phase is Phase.LOADING and activation.shard.alive:
                    self._instantiate(activation, raw)
                    engine.advance(activation)
                    engine.settle_drain(activation.shard)
        finally:
            engine.finish()

    def _instantiate(self, activation: Activation, raw: bytes | None) -> None:
        """Make the instance and run its hook; ready at once where there is none."""
        spec = activation.spec
        try:
            state = self._restore(activation, raw) if spec.state is not None else None
            actor = spec.make(activation.address, Cell(self._world, activation))
            if spec.state is not None:
                actor.state = state
        except StateUnreadable as error:
            self._world.telemetry.emit(events.StateUnreadable(actor_type=spec.name, key=activation.address.key, problem=str(error)))
            self._failed(activation, error, counted=False)
            return
        except Exception as error:  # noqa: BLE001 - whatever a migration or a constructor of the user's raises
            self._failed(activation, error, counted=True)
            return
        activation.actor = actor
        self._world.telemetry.runner.activations += 1
        if not spec.has_on_activate:
            activation.phase = Phase.READY
            return
        turn = Turn(activation, None)
        activation.prelude = turn
        activation.base = activation.bytes
        current.set(turn)
        turn.started_at = self._world.clock.boottime()
        activation.hook = turn
        task = self._world.stepper.step(actor.on_activate(), copy_context(), self._activated, turn)
        if task is not None:
            turn.task = task
            turn.timer = self._world.loop.call_later(
                self._world.settings.activation_timeout, self._world.engine.cut, turn, Cut.TURN_TIMEOUT
            )

    def _restore(self, activation: Activation, raw: bytes | None) -> Any:
        codec = activation.spec.state
        assert codec is not None
        if raw is None:
            state = codec.fresh()
            activation.leftover = None
            activation.bytes = codec.encode(state, None)
        else:
            state, activation.leftover = codec.decode(raw)
            activation.bytes = codec.encode(state, activation.leftover)
        return state

    def _activated(self, turn: Turn, _value: Any, error: BaseException | None) -> None:
        """``on_activate`` has ended. Its changes commit with the first turn."""
        activation = turn.activation
        activation.hook = None
        turn.ended = True
        if turn.timer is not None:
            turn.timer.cancel()
        if activation.phase is Phase.GONE:
            return
        suspended = turn.task is not None
        engine = self._world.engine
        if suspended:
            engine.begin()
        try:
            if turn.cut is not None:
                limit = self._world.settings.activation_timeout
                error = TimeoutError(f"on_activate took longer than activation_timeout, {limit:g} s")
            if error is None:
                try:
                    self._keep(activation)
                except Exception as problem:  # noqa: BLE001 - whatever a state's encoding raises
                    error = problem
            if error is None:
                activation.phase = Phase.READY
                turn.leaves, activation.wants_close = activation.wants_close, False
                self._world.telemetry.runner.activation.observe(self._world.clock.boottime() - turn.started_at)
            else:
                activation.prelude = None
                self._failed(activation, error, counted=True)
            if suspended:
                engine.advance(activation)
                engine.settle_drain(activation.shard)
        finally:
            if suspended:
                engine.finish()

    def _keep(self, activation: Activation) -> None:
        """Keep the state as ``on_activate`` left it, for the first turn to commit."""
        codec = activation.spec.state
        if codec is None:
            return
        data = codec.encode(activation.actor_state, activation.leftover)
        if data != activation.bytes:
            codec.verify(data)
            activation.bytes = data
            activation.dirty = True

    def _failed(self, activation: Activation, error: BaseException, *, counted: bool) -> None:
        """The actor cannot be activated: an ask at the head is told so, a tell is tried again later."""
        activation.phase = Phase.COLD
        activation.actor = None
        address = activation.address
        self._world.telemetry.emit(
            events.ActivationFailed(actor_type=address.type, key=address.key, error=f"{type(error).__name__}: {error}")
        )
        if not activation.dirty and not activation.uncommitted:
            activation.bytes = None
        while activation.queue:
            message = activation.queue[0]
            if message.envelope.reply is None:
                break
            activation.queue.popleft()
            failure = ActivationFailed(
                problem=str(error),
                type_name=type(error).__name__,
                actor_type=address.type,
                key=address.key,
                method=message.envelope.method,
            )
            self._world.failures.fail(activation, message, failure)
        if activation.queue:
            self._world.failures.retry_activation(activation, error, counted=counted)


class Cell:
    """An actor instance's view of its place."""

    __slots__ = ("_activation", "_world")

    def __init__(self, world: World, activation: Activation) -> None:
        self._world = world
        self._activation = activation

    def request_deactivate(self) -> None:
        """Deactivate when the running turn has ended."""
        self._activation.wants_close = True
        self._activation.close_reason = "requested"

    def keep_alive(self, on: bool) -> None:  # noqa: FBT001 - the public name's shape
        """Do not deactivate for idleness."""
        self._activation.keep_alive = on

    def clear_state(self) -> None:
        """Delete the state with the running turn's commit; it is fresh from here on."""
        activation = self._activation
        codec = activation.spec.state
        if codec is not None:
            activation.cleared = True
            activation.leftover = None
            activation.actor_state = codec.fresh()

    def run_in_turn(self, function: Any, /) -> Any:
        """Run a plain function of this actor in a thread, inside the running turn."""
        return self._world.threads.call(self._activation, function)

    def wait(self, work: Any) -> Any:
        """From a handler in a thread: run a coroutine on the loop and wait for its result."""
        context = copy_context()
        loop = self._world.loop
        turn = current.get()

        async def inside() -> Any:
            return await work

        async def outside() -> Any:
            task = loop.create_task(inside(), context=context)
            if isinstance(turn, Turn):
                turn.waits = turn.waits if turn.waits is not None else set()
                turn.waits.add(task)
                task.add_done_callback(turn.waits.discard)
                if turn.cut is not None:
                    task.cancel()
            return await task

        try:
            return asyncio.run_coroutine_threadsafe(outside(), loop).result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError("the turn was cut off") from None
