"""Renewing the lease: a thread with a connection of its own, and a task for virtual worlds.

The thread is there so that a renewal waits neither for the event loop's other work nor for
another command's answer. It must not make a blocked loop look alive, though: at every
beat it asks the loop for a sign of life, and without one it stops renewing
(:func:`~actors._placement.lease.next_step`). While the loop is silent it says what blocks
it, with the stack, which is what whoever wrote that handler needs to see.

Both shells do the same: ask the pure module, send, tell the :class:`Lease`. Only answers that
change something (trust has ended, the name is taken, the list lost us) reach the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypedDict, Unpack

from actors._placement.lease import Lease, Progress, Renew, Silent, Terms, Wait, next_step
from actors._placement.store import Found, Renewed, renewal_answer
from actors._redis.connection import Command, Connection, Server, SyncConnection
from actors._redis.faults import RedisFault
from actors.clock import Clock
from actors.telemetry.events import HandlerBlockedLoop, LeaseAtRisk
from actors.telemetry.hooks import Telemetry


class Renewals(NamedTuple):
    """What renewing has come to so far."""

    answered: int
    failed: int
    withheld: int
    """Due while the event loop was silent."""
    revived: int


class Renewal(Protocol):
    """Keeps a lease alive from :meth:`start` to :meth:`stop`."""

    def start(self) -> None:
        """Begin. The lease was granted just now."""
        ...

    def now(self) -> None:
        """Renew at once: there is a reason to think that the lease is gone."""
        ...

    async def stop(self) -> None:
        """End, and return when no renewal is under way any more."""
        ...

    def statistics(self) -> Renewals:
        """Return the counts so far."""
        ...


class Needs(TypedDict):
    """What a renewal is made with."""

    server: Server
    command: Command
    """See :func:`~actors._placement.store.renewal`."""
    lease: Lease
    terms: Terms
    clock: Clock
    on_change: Callable[[Renewed], None]
    """Called on the event loop for every answer after which things do not just go on."""
    telemetry: Telemetry


class _Renewal:
    """What thread and task share."""

    def __init__(self, **needs: Unpack[Needs]) -> None:
        self._server = needs["server"]
        self._command = needs["command"]
        self._lease = needs["lease"]
        self._terms = needs["terms"]
        self._clock = clock = needs["clock"]
        self._on_change = needs["on_change"]
        self._telemetry = needs["telemetry"]
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        now = clock.boottime()
        self._progress = Progress(now, now)
        self._ticked = now
        self._stopping = False
        self._hurry = False
        self._answered = self._failed = self._withheld = self._revived = 0
        self._warned = False

    def statistics(self) -> Renewals:
        """See :meth:`Renewal.statistics`."""
        return Renewals(self._answered, self._failed, self._withheld, self._revived)

    def _next(self) -> Renew | Wait | Silent:
        if self._lease.ended:
            return Wait(self._terms.ttl)
        if self._hurry:
            self._hurry = False
            return Renew()
        return next_step(self._progress, now=self._clock.boottime(), ticked=self._ticked, terms=self._terms)

    def _sent(self) -> None:
        self._progress = self._progress.sent(self._clock.boottime())

    def _took(self, answer: Renewed) -> Renewed | None:
        """Take in an answer; return it if the service has to know."""
        self._progress = self._progress.answered()
        self._answered += 1
        self._warned = False
        if answer.found is Found.SUPERSEDED:
            self._lease.end()
            return answer
        self._revived += answer.found is Found.REVIVED
        went_on = self._lease.granted(asked=self._progress.asked, unbroken=answer.found is Found.RENEWED)
        return None if went_on and answer.listed else answer

    def _failed_with(self, fault: RedisFault) -> None:
        self._failed += 1
        if not self._warned and self._lease.remaining < self._terms.ttl / 2:
            self._warned = True
            self._telemetry.emit(LeaseAtRisk(error=str(fault), left=self._lease.remaining))


class RenewalThread(_Renewal):
    """Renews from a thread. ``running`` names the handler that the event loop is in, for the log."""

    def __init__(self, *, running: Callable[[], str] | None = None, **needs: Unpack[Needs]) -> None:
        super().__init__(**needs)
        self._running = running
        self._wake = threading.Event()
        self._ended = self._loop.create_future()
        self._asked_for_tick = 0.0
        self._loop_thread = threading.get_ident()
        self._blocked_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="actors-lease", daemon=True)

    def start(self) -> None:
        """See :meth:`Renewal.start`."""
        self._thread.start()

    def now(self) -> None:
        """See :meth:`Renewal.now`."""
        self._hurry = True
        self._wake.set()

    async def stop(self) -> None:
        """See :meth:`Renewal.stop`. Bounded by the time-out of one renewal."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            await asyncio.wait({self._ended}, timeout=2 * self._terms.timeout + 1)

    def _run(self) -> None:
        connection: SyncConnection | None = None
        try:
            while not self._stopping:
                self._ask_for_tick()
                step = self._next()
                if isinstance(step, Renew):
                    connection = self._renew(connection)
                    continue
                if isinstance(step, Silent):
                    self._withheld += 1
                pause = min(step.seconds, self._terms.beat) if isinstance(step, Wait) else self._terms.beat
                self._wake.wait(pause)
                self._wake.clear()
        finally:
            if connection is not None:
                connection.close()
            self._on_loop(lambda: None if self._ended.done() else self._ended.set_result(None))

    def _renew(self, connection: SyncConnection | None) -> SyncConnection | None:
        self._sent()
        try:
            if connection is None or connection.closed:
                connection = self._server.connect_sync("lease", timeout=self._terms.timeout)
                self._sent()
            answer = renewal_answer(connection.execute(*self._command))
        except RedisFault as fault:
            self._failed_with(fault)
            return connection
        change = self._took(answer)
        if change is not None:
            self._on_loop(lambda: self._on_change(change))
        return connection

    # the loop's signs of life

    def _ask_for_tick(self) -> None:
        now = self._clock.boottime()
        if self._asked_for_tick <= self._ticked:
            self._asked_for_tick = now
            self._on_loop(self._tick)
        elif now - self._asked_for_tick > self._terms.silence and self._blocked_since is None:
            self._blocked_since = self._asked_for_tick
            self._tell_what_blocks(now - self._asked_for_tick)

    def _tick(self) -> None:
        self._ticked = self._clock.boottime()
        if self._blocked_since is not None:
            self._blocked_since = None
            self._wake.set()

    def _tell_what_blocks(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the one way to see another thread's stack
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        handler = self._running() if self._running is not None else ""
        self._telemetry.emit(HandlerBlockedLoop(handler=handler or "something", seconds=seconds, stack=stack))

    def _on_loop(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed under us: nobody is left to tell
            self._loop.call_soon_threadsafe(callback, context=self._context)


class RenewalTask(_Renewal):
    """Renews from a task, for worlds in which time is virtual and no loop ever blocks."""

    def __init__(self, **needs: Unpack[Needs]) -> None:
        super().__init__(**needs)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """See :meth:`Renewal.start`."""
        self._task = self._loop.create_task(self._run(), name="lease")

    def now(self) -> None:
        """See :meth:`Renewal.now`."""
        self._hurry = True
        self._wake.set()

    async def stop(self) -> None:
        """See :meth:`Renewal.stop`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        connection: Connection | None = None
        try:
            while True:
                self._ticked = self._clock.boottime()
                step = self._next()
                if not isinstance(step, Renew):
                    pause = step.seconds if isinstance(step, Wait) else self._terms.beat
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._wake.wait()
                    self._wake.clear()
                    continue
                self._sent()
                try:
                    if connection is None or connection.closed:
                        connection = await self._server.connect("lease", timeout=self._terms.timeout)
                        self._sent()
                    answer = renewal_answer(await connection.execute(*self._command))
                except RedisFault as fault:
                    self._failed_with(fault)
                    continue
                change = self._took(answer)
                if change is not None:
                    self._on_change(change)
        finally:
            if connection is not None:
                await connection.close()
