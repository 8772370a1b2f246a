"""The telemetry that listens: meters by method, watches, and events handed to sinks.

What the events say is counted here too, so that an event is the single source of its
counter: nobody can log a dead letter and forget to count it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from actors.telemetry import events
from actors.telemetry.hooks import NoTracer
from actors.telemetry.meters import Histogram, MethodMeter, RunnerMeter, SendMeter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from actors.telemetry.events import Event
    from actors.telemetry.hooks import Reading, Tracer
    from actors.telemetry.metrics import Metric

REFRESH_TIMEOUT: Final = 1.0
"""A scrape waits this long for fresher numbers, then takes those it has."""

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_K = TypeVar("_K")


class EventCounts:
    """What has been told so far, in numbers."""

    def __init__(self) -> None:
        self.events: dict[str, int] = {}
        """Events by class name."""
        self.fenced: dict[str, int] = {}
        """Refused operations of a former owner, by operation."""
        self.dead_letters: dict[tuple[str, str], int] = {}
        """Dead letters by (actor type, reason)."""
        self.connections_lost: dict[str, int] = {}
        """Lost connections by purpose."""
        self.acquire = Histogram()
        """Seconds from the first sight of a free shard to serving it."""
        self.drain = Histogram()
        """Seconds from the wish to move a shard to its release."""
        self.takeover = Histogram()
        """Seconds from the first sight of a dead owner to serving all that fell to us."""
        self.blocked_seconds = 0.0
        """Time in which a handler blocked the event loop."""

    def add(self, event: Event) -> None:
        """Count one event."""
        _increment(self.events, type(event).__name__)
        match event:
            case events.Fenced():
                _increment(self.fenced, event.operation)
            case events.DeadLettered():
                # A label is a word: free text in it would make a time series of every message.
                _increment(self.dead_letters, (event.actor_type, event.reason if event.reason.isidentifier() else "other"))
            case events.ConnectionLost():
                _increment(self.connections_lost, event.purpose)
            case events.ShardAcquired():
                self.acquire.observe(event.seconds)
            case events.ShardReleased():
                self.drain.observe(event.seconds)
            case events.TakeoverEnded():
                self.takeover.observe(event.seconds)
            case events.HandlerBlockedLoop():
                self.blocked_seconds += event.seconds
            case _:
                pass


class Recorder:
    """Keeps what it is told: the :class:`~actors.telemetry.hooks.Telemetry` of a runner."""

    def __init__(self, *, tracer: Tracer | None = None, sinks: Sequence[Callable[[Event], None]] = ()) -> None:
        self.tracer: Tracer = tracer or NoTracer()
        self.runner = RunnerMeter()
        self.counts = EventCounts()
        self.methods: dict[tuple[str, str], MethodMeter] = {}
        self.sends: dict[tuple[str, str], SendMeter] = {}
        self._sinks = tuple(sinks)
        self._watches: dict[Metric, list[Callable[[], Reading]]] = {}
        self._refreshers: list[Callable[[], Awaitable[object]]] = []
        self._lock = threading.Lock()

    def method(self, actor_type: str, method: str) -> MethodMeter:
        """Return the meter of one registered method, always the same one."""
        meter = self.methods.get((actor_type, method))
        if meter is None:
            meter = self.methods[actor_type, method] = MethodMeter(actor_type, method)
        return meter

    def sending(self, actor_type: str, method: str) -> SendMeter:
        """Return the client's meter of one registered method, always the same one."""
        meter = self.sends.get((actor_type, method))
        if meter is None:
            meter = self.sends[actor_type, method] = SendMeter(actor_type, method)
        return meter

    def watch(self, metric: Metric, read: Callable[[], Reading]) -> Callable[[], None]:
        """Ask ``read`` at each scrape, until the returned callable is called."""
        return _keep(self._watches.setdefault(metric, []), read)

    def before_scrape(self, refresh: Callable[[], Awaitable[object]]) -> Callable[[], None]:
        """Await ``refresh`` before each scrape, until the returned callable is called."""
        return _keep(self._refreshers, refresh)

    def emit(self, event: Event) -> None:
        """Count ``event`` and hand it to every sink. A sink that raises is logged and skipped."""
        with self._lock:
            self.counts.add(event)
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:  # noqa: BLE001 - a broken sink must not become a broken runner
                _log.exception("a telemetry sink failed on %s", type(event).__name__)

    async def refresh(self) -> None:
        """Run all refreshers at once, for :data:`REFRESH_TIMEOUT` at most; failures keep the old numbers."""
        if not self._refreshers:
            return
        tasks = [asyncio.ensure_future(_await(refresh)) for refresh in self._refreshers]
        try:
            done, pending = await asyncio.wait(tasks, timeout=REFRESH_TIMEOUT)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise
        for task in pending:
            task.cancel()
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.warning("numbers for a scrape could not be refreshed: %s", error)

    def readings(self) -> Iterable[tuple[Metric, dict[str, float]]]:
        """Yield each watched metric with its sums by label (``""`` where it has none).

        A watch that raises is left out and logged: one broken number hides no other.
        """
        for metric, reads in list(self._watches.items()):
            sums: dict[str, float] = {}
            for read in list(reads):
                try:
                    value = read()
                except Exception:  # noqa: BLE001 - one broken number hides no other
                    _log.exception("the watch of %s failed", metric.name)
                    continue
                for label, number in value.items() if isinstance(value, Mapping) else (("", value),):
                    sums[label] = sums.get(label, 0.0) + number
            if sums or reads:
                yield metric, sums


async def _await(refresh: Callable[[], Awaitable[object]]) -> None:
    await refresh()


def _keep(items: list[_T], item: _T) -> Callable[[], None]:
    items.append(item)

    def end() -> None:
        if item in items:
            items.remove(item)

    return end


def _increment(counts: dict[_K, int], key: _K) -> None:
    counts[key] = counts.get(key, 0) + 1
