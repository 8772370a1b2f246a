"""Virtual time: an event loop that never waits for a timer, and the clock that goes with it.

When nothing is ready, the loop's time jumps to the next timer. Thirty seconds of leases
and backoffs pass in a few milliseconds, in the same order every time.

Only threads are waited for in earnest. While a job of :meth:`VirtualLoop.run_in_executor`
is under way, virtual time goes at the pace of real time, so that a slow thread is not
made to miss deadlines that lie far ahead.

Several processes live on one loop. Which one a callback belongs to is told by its context:
whatever is scheduled, awaited or started from inside a process inherits :data:`process`
from there. So one of them can be frozen as SIGSTOP does, while the others, the server and
time itself go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

process: ContextVar[str | None] = ContextVar("process", default=None)
"""Which of the processes in this loop the running code belongs to."""

EPOCH = 1_767_225_600.0  # the wall clock of every virtual world starts here: 2026-01-01T00:00:00Z


class VirtualTimeExceeded(RuntimeError):
    """Virtual time ran past its limit: what is awaited never comes, and only periodic timers go round."""

    def __init__(self, limit: float, pending: str) -> None:
        super().__init__(f"{limit:g} s of virtual time have passed and the test still waits. Pending tasks:\n{pending}")
        self.limit = limit


class Stalled(RuntimeError):
    """Nothing is ready, no timer is set and no thread is at work: nothing can ever happen again."""

    def __init__(self, pending: str) -> None:
        super().__init__(f"nothing is ready and no timer is set, so the test would wait for ever. Pending tasks:\n{pending}")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time.

    ``limit``: seconds of virtual time after which it raises :class:`VirtualTimeExceeded`
    naming the pending tasks; raised once, so that cleaning up can still use timers.
    """

    _ready: deque[asyncio.Handle]  # asyncio's own: callbacks about to run

    def __init__(self, *, limit: float = 30 * 86_400.0) -> None:
        self._now = 0.0
        self._limit = limit
        self._jobs = 0  # executor jobs under way
        self._pool: ThreadPoolExecutor | None = None
        self._real_since: float | None = None
        self._tasks_of: dict[str, weakref.WeakSet[asyncio.Task[Any]]] = {}
        self._frozen: set[str] = set()
        self._held: list[asyncio.Handle] = []
        self._selector_of_ours = _Selector(self)
        super().__init__(self._selector_of_ours)
        self._clock_resolution = 1e-9  # a timer fires at its time, not "about then"
        self.clock = VirtualClock(self)

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        if self._real_since is not None:
            return time.monotonic() - self._real_since
        return self._now

    def keep_real_time(self) -> None:
        """Let time go at its real pace from here on: what is waited for lives outside of this process."""
        if self._real_since is None:
            self._real_since = time.monotonic() - self._now

    @property
    def real(self) -> bool:
        """Whether time goes at its real pace."""
        return self._real_since is not None

    # processes

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """As asyncio's; the task belongs to the process of its context."""
        task: asyncio.Task[Any] = super().create_task(coro, **kwargs)
        context = kwargs.get("context")
        owner = process.get() if context is None else context.get(process)
        if owner is not None:
            self._tasks_of.setdefault(owner, weakref.WeakSet()).add(task)
        return task

    def tasks_of(self, name: str) -> list[asyncio.Task[Any]]:
        """Return the unfinished tasks of a process."""
        return [task for task in self._tasks_of.get(name, ()) if not task.done()]

    def freeze(self, name: str) -> None:
        """Stop a process as SIGSTOP does: none of its callbacks runs until :meth:`thaw`. Its timers come due meanwhile."""
        self._frozen.add(name)
        if not isinstance(self._ready, _Filtered):
            self._ready = _Filtered(self._ready, self)

    def thaw(self, name: str) -> None:
        """Let a frozen process go on: what came due meanwhile runs now, in the order in which it did."""
        self._frozen.discard(name)
        held, self._held = self._held, []
        self._ready.extend(held)
        if not self._frozen:
            self._ready = deque(self._ready)

    def holds_back(self, handle: asyncio.Handle) -> bool:
        """Keep ``handle`` for later if its process is frozen."""
        context = handle._context  # type: ignore[attr-defined] # noqa: SLF001 - where a callback keeps what it runs in
        if handle._cancelled or context.get(process) not in self._frozen:  # noqa: SLF001 - as above
            return False
        if not any(held is handle for held in self._held):  # a socket that stays readable comes again and again
            self._held.append(handle)
        return True

    # threads

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """As asyncio's, and counted: until the job's result has been delivered, time does not jump."""
        counted = _Counted(executor or self._default_pool())
        future = super().run_in_executor(counted, func, *args)
        self._jobs += 1
        # Added after asyncio's own callback, so that the result is on its way before the job counts as over.
        counted.job.add_done_callback(self._job_over)
        return future

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """As asyncio's."""
        super().set_default_executor(executor)
        self._pool = executor

    def _default_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        assert self._pool is not None
        return self._pool

    def _job_over(self, _job: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            self.call_soon_threadsafe(self._forget_job)

    def _forget_job(self) -> None:
        self._jobs -= 1

    # time

    def advance_idle(self, timeout: float | None) -> None:
        """Let ``timeout`` seconds pass, nothing being ready before. Called by the selector."""
        if timeout is None:
            raise Stalled(self._pending())
        self._now += timeout
        if self._now > self._limit:
            limit, self._limit = self._limit, float("inf")
            raise VirtualTimeExceeded(limit, self._pending())

    def pass_in_earnest(self, seconds: float) -> None:
        """Let time pass that was really waited."""
        self._now += seconds

    @property
    def threads_at_work(self) -> bool:
        """Whether a job of the executor has yet to deliver its result."""
        return self._jobs > 0

    def _pending(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        return "\n".join(f"  {task.get_name()}: {task.get_coro()!r} {_where(task)}" for task in tasks) or "  none"


class _Filtered(deque[asyncio.Handle]):
    """A loop's queue of callbacks while some process is frozen."""

    def __init__(self, handles: deque[asyncio.Handle], loop: VirtualLoop) -> None:
        super().__init__(handles)
        self._loop = loop

    def popleft(self) -> asyncio.Handle:
        """Return the next callback, or in its place, if its process is frozen, one that does nothing."""
        handle = super().popleft()
        if self._loop.holds_back(handle):
            nothing = asyncio.Handle(_nothing, (), self._loop)
            nothing.cancel()
            return nothing
        return handle


def _nothing() -> None:
    """Stand in for a callback that is held back."""


class VirtualClock:
    """A :class:`~actors.clock.Clock` in a virtual loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def boottime(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def time(self) -> float:
        """A fixed date plus the loop's time."""
        return EPOCH + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of virtual time."""
        await asyncio.sleep(seconds)


class _Selector(selectors.DefaultSelector):
    """Polls, and where asyncio would wait, lets virtual time pass instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._skipped = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self._loop
        if loop.real:
            return super().select(timeout)
        busy = timeout is not None and timeout <= 0
        if len(self.get_map()) == 1 and (busy or not loop.threads_at_work) and self._skipped < _SKIPS:
            # Only asyncio's own wake-up pipe is watched. Whoever writes to it has put its callback
            # into the loop before, where it is seen without looking here.
            self._skipped += 1
            if not busy:
                self._idle(timeout)
            return []
        self._skipped = 0
        events = super().select(0)
        if events or busy:
            return events
        if not loop.threads_at_work:
            return self._idle(timeout)
        before = time.monotonic()
        events = super().select(_SLICE if timeout is None else min(timeout, _SLICE))
        loop.pass_in_earnest(time.monotonic() - before)
        return events

    def _idle(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # A thread of somebody else's may still have something to say.
            events = super().select(_PATIENCE)
            if events:
                return events
        self._loop.advance_idle(timeout)
        return []


class _Counted(Executor):
    """Passes one job on to an executor and keeps hold of it."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.job: Future[Any] = Future()

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        job = self._executor.submit(fn, *args, **kwargs)
        self.job = job
        return job


def _where(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=1)
    return f"at {frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else ""


_SKIPS = 63  # iterations between two real polls while only the wake-up pipe is watched
_SLICE = 0.05  # longest real wait at once for a thread, in seconds
_PATIENCE = 2.0  # real seconds without anything to do before the loop gives up
