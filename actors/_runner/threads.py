"""Handlers that are plain functions: run in threads of ours, in the turn's context.

A thread cannot be cancelled. When its turn is cut off, the result is discarded when it
comes, and until then nothing of its actor starts here.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from actors.context import ContextExecutor

if TYPE_CHECKING:
    from actors._runner.activation import Activation
    from actors._runner.turn import Turn
    from actors._runner.world import World


class Threads:
    """Runs plain functions beside the event loop."""

    def __init__(self, world: World, *, workers: int | None = None) -> None:
        self._world = world
        self._executor = ContextExecutor(max_workers=workers, thread_name_prefix="actor")

    def run(self, turn: Turn, function: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a turn whose handler is ``function``."""
        return self.call(turn.activation, function)

    async def call(self, activation: Activation, function: Callable[[], Any]) -> Any:
        """Run ``function`` in a thread and return its result; cancelled, let the thread end alone."""
        loop = self._world.loop
        future = loop.run_in_executor(self._executor, functools.partial(copy_context().run, function))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not future.done():
                activation.threads += 1
                future.add_done_callback(functools.partial(self._returned, activation))
            raise

    def close(self) -> None:
        """Start no more threads; those that run end by themselves."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _returned(self, activation: Activation, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            future.exception()  # discarded, and not reported as never retrieved
        activation.threads -= 1
        self._world.engine.pump(activation)
