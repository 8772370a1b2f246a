"""Handlers that are plain functions: run in threads of ours, in the turn's context.

A thread cannot be cancelled. When its turn is cut off, the result is discarded when it
comes, and until then nothing of its actor starts here.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from actors.context import ContextExecutor

if TYPE_CHECKING:
    from actors._runner.activation import Activation
    from actors._runner.turn import Turn
    from actors._runner.world import World
    from actors.ids import ActorAddress


WORKERS = 128
"""Threads at most. They are made as needed, and a handler that waits on another's reply holds one."""


def _finished(context: Context, function: Callable[[], Any]) -> Any:
    try:
        return context.run(function)
    except StopIteration as error:
        # A future does not take one: the turn would wait for ever.
        raise RuntimeError(f"the handler raised {error!r}") from error


class Threads:
    """Runs plain functions beside the event loop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._executor = ContextExecutor(max_workers=WORKERS, thread_name_prefix="actor")
        self._left_alone: Counter[ActorAddress] = Counter()

    def left_alone(self, address: ActorAddress) -> int:
        """How many cut-off handlers of an actor still run in a thread, whichever activation they began in."""
        return self._left_alone[address]

    def run(self, turn: Turn, function: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a turn whose handler is ``function``."""
        return self.call(turn.activation, function)

    async def call(self, activation: Activation, function: Callable[[], Any]) -> Any:
        """Run ``function`` in a thread and return its result; cancelled, let the thread end alone."""
        loop = self._world.loop
        future = loop.run_in_executor(self._executor, functools.partial(_finished, copy_context(), function))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                activation.threads += 1
                self._left_alone[activation.address] += 1
                future.add_done_callback(functools.partial(self._returned, activation))
            raise

    def close(self) -> None:
        """Start no more threads; those that run end by themselves."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _returned(self, activation: Activation, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            future.exception()  # discarded, and not reported as never retrieved
        address = activation.address
        self._left_alone[address] -= 1
        if not self._left_alone[address]:
            del self._left_alone[address]
        # The shard may have been lost and taken again meanwhile: then another activation waits for this.
        shard = self._world.shards.get(activation.shard.label)
        now = shard.activations.get((address.type, address.key)) if shard is not None else None
        if now is not None:
            now.threads -= 1
            if now is activation:
                activation.restore()  # it went on after its turn was cut off, and had the live state in its hands
            self._world.engine.pump(now)
