"""Running a coroutine in place: to its end if it never waits, in a task of its own if it does.

Most turns never suspend. A task for each would cost more than the turn, so a coroutine
is stepped where it stands, inside a callback of the event loop. What it may ask for
meanwhile (`asyncio.current_task()`, which `asyncio.timeout` and task groups do) has to
be the task that will run it if it does suspend. So there is always one *spare* task,
parked and waiting for work: it is the current task while coroutines are stepped, and the
first one that suspends is handed to it to be driven to its end. Entering and leaving a
task are asyncio's documented hooks for task implementations of others.

Each coroutine runs in a context of its own, so that what it sets does not leak into the
next one.
"""

from __future__ import annotations

import asyncio
import functools
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage,reportAttributeAccessIssue,reportUnknownVariableType] # documented for other task implementations
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Ended = Callable[[T, Any, BaseException | None], None]


class Stepper:
    """Steps coroutines in place on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: _Spare | None = None
        self._entered: _Spare | None = None
        self._outer: asyncio.Task[object] | None = None
        self._closed = False
        self._running: set[asyncio.Task[None]] = set()

    def enter(self) -> None:
        """Begin stepping; pair with :meth:`leave`. A task that calls this is not the current one meanwhile."""
        outer = asyncio.current_task(self._loop)
        if outer is not None:
            _leave_task(self._loop, outer)
        self._outer = outer
        self._take_spare()

    def leave(self) -> None:
        """End stepping."""
        self._put_spare()
        outer, self._outer = self._outer, None
        if outer is not None:
            _enter_task(self._loop, outer)

    def _take_spare(self) -> None:
        spare = self._spare
        if spare is None or spare.task.done():
            spare = self._spare = _Spare(self._loop)
        self._entered = spare
        _enter_task(self._loop, spare.task)

    def _put_spare(self) -> None:
        spare, self._entered = self._entered, None
        if spare is not None:
            _leave_task(self._loop, spare.task)

    def step(self, work: Coroutine[Any, Any, Any], context: Context, ended: Ended[T], token: T) -> asyncio.Task[None] | None:
        """Run ``work`` to its first suspension, between :meth:`enter` and :meth:`leave`.

        ``ended`` is called with ``token`` and its result or its exception: at once if it
        does not suspend, and then this returns ``None``; else from a callback of the loop,
        and this returns the task that drives it.
        """
        try:
            waits_for = context.run(work.send, None)
        except StopIteration as stop:
            ended(token, stop.value, None)
            return None
        except BaseException as error:  # noqa: BLE001 - it is told, also a cancellation or an exit
            ended(token, None, error)
            return None
        return self.suspend(work, context, waits_for, ended, token)

    def suspend(self, work: Coroutine[Any, Any, Any], context: Context, waits_for: Any, ended: Ended[T], token: T) -> asyncio.Task[None]:
        """Have a task drive ``work``, which was stepped by the caller and waits; between :meth:`enter` and :meth:`leave`."""
        spare = self._entered
        assert spare is not None
        self._put_spare()
        self._spare = None
        spare.take(work, context, waits_for, functools.partial(ended, token))
        self._running.add(spare.task)
        spare.task.add_done_callback(self._running.discard)
        self._take_spare()
        return spare.task

    @property
    def driven(self) -> int:
        """Coroutines that are suspended."""
        return len(self._running)

    async def close(self) -> None:
        """End the parked task. Suspended coroutines are their owner's to cancel."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.task.cancel()
            await asyncio.gather(spare.task, return_exceptions=True)


class _Spare:
    """A task that waits to be handed one coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handed: asyncio.Future[None] = loop.create_future()
        self._work: Coroutine[Any, Any, Any] | None = None
        self._context: Context
        self._waits_for: Any = None
        self._ended: Callable[[Any, BaseException | None], None]
        run = self._run()
        # It stands inside its `try` before its task's first step: a cancellation that comes even before that is seen there.
        run.send(None)
        self.task: asyncio.Task[None] = loop.create_task(run, name="actor turn")

    def take(
        self,
        work: Coroutine[Any, Any, Any],
        context: Context,
        waits_for: Any,
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        self._work, self._context, self._waits_for, self._ended = work, context, waits_for, ended
        if not self._handed.done():
            self._handed.set_result(None)

    async def _run(self) -> None:
        interrupted: BaseException | None = None
        try:
            await _standing()
            await self._handed
        except asyncio.CancelledError as error:
            if self._work is None:
                raise
            interrupted = error  # cancelled between its first step and here
        work = self._work
        assert work is not None
        try:
            result = await _drive(work, self._context, self._waits_for, interrupted)
        except BaseException as error:
            self._loop.call_soon(self._ended, None, error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        else:
            self._loop.call_soon(self._ended, result, None)


@coroutine
def _standing() -> Generator[None, None, None]:
    """Stop here once, until the task takes its first step."""
    yield


@coroutine
def _drive(work: Coroutine[Any, Any, Any], context: Context, waits_for: Any, interrupted: BaseException | None) -> Generator[Any, Any, Any]:
    if getattr(waits_for, "_asyncio_future_blocking", None) is False:
        # Another task has awaited the same future since, and asyncio took the mark off.
        waits_for._asyncio_future_blocking = True  # noqa: SLF001 - the mark by which a task knows what it may wait for
    if interrupted is not None and hasattr(waits_for, "cancel") and waits_for.cancel():
        interrupted = None  # as a task's cancellation does: what is waited for is cancelled, and says so
    try:
        while True:
            if interrupted is None:
                try:
                    value = yield waits_for
                except BaseException as error:  # noqa: BLE001 - it is thrown into the coroutine that is driven
                    interrupted = error
                else:
                    waits_for = context.run(work.send, value)
                    continue
            thrown, interrupted = interrupted, None
            waits_for = context.run(work.throw, thrown)
    except StopIteration as stop:
        return stop.value
