"""What the runner and the client tell, and the nobody who listens.

Three ways out, by how often a thing happens:

* *meters* for what happens with every message: plain integers, found once per
  (actor type, method) and kept by the caller;
* *watches* for what merely is, such as a depth: a callable, asked at scrape time;
* *events* for what is rare and worth a line in the log: one frozen record each.

Nothing here raises into the caller, whatever its sinks do.
"""

# ruff: noqa: ARG002 - whoever listens to nothing has no use for what it is told

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from actors.telemetry.meters import MethodMeter, RunnerMeter, SendMeter

if TYPE_CHECKING:
    from actors.telemetry.events import Event
    from actors.telemetry.metrics import Metric

Reading = float | Mapping[str, float]
"""One number, or one for each value of the metric's label."""


class SendSpan(Protocol):
    """An open ``send`` span."""

    headers: Mapping[str, str]
    """What the message has to carry: ``traceparent`` and what belongs to it."""

    def end(self, error: BaseException | None = None) -> None:
        """End the span: the send is acknowledged, the reply is here, or ``error``."""


class ProcessSpan(Protocol):
    """An open ``process`` span."""

    def attach(self) -> None:
        """Make it the current span of the running context, which should be the turn's own."""

    def end(self, error: BaseException | None = None) -> None:
        """End the span with the turn."""


class Tracer(Protocol):
    """Makes spans. Callers test ``active`` first and spend nothing when it is false."""

    active: bool

    def send(self, actor_type: str, key: str, method: str, message_id: str, *, ask: bool) -> SendSpan:
        """Open a span for a message that leaves, child of the caller's current one."""
        ...

    def process(
        self,
        headers: Mapping[str, str],
        actor_type: str,
        key: str,
        method: str,
        message_id: str,
        *,
        shard: str,
        attempt: int,
    ) -> ProcessSpan:
        """Open a span for a turn, child of the one in the message's ``headers``."""
        ...


class Telemetry(Protocol):
    """Where a runner and its clients report. One per runner, one per client outside a runner."""

    tracer: Tracer
    runner: RunnerMeter

    def method(self, actor_type: str, method: str) -> MethodMeter:
        """Return the meter of one registered method, always the same one. Keep it."""
        ...

    def sending(self, actor_type: str, method: str) -> SendMeter:
        """Return the client's meter of one registered method, always the same one. Keep it."""
        ...

    def watch(self, metric: Metric, read: Callable[[], Reading]) -> Callable[[], None]:
        """Ask ``read`` for this metric at each scrape; watches of one metric add up.

        Return what ends the watch.
        """
        ...

    def before_scrape(self, refresh: Callable[[], Awaitable[object]]) -> Callable[[], None]:
        """Await ``refresh`` before each scrape, for at most a second, so that watches are fresh.

        Return what ends it.
        """
        ...

    def emit(self, event: Event) -> None:
        """Tell of ``event``. May be called from any thread."""
        ...


class NoSpan:
    """A span of nothing."""

    headers: Mapping[str, str] = {}

    def attach(self) -> None:
        """Do nothing."""

    def end(self, error: BaseException | None = None) -> None:
        """Do nothing."""


NO_SPAN = NoSpan()


class NoTracer:
    """Makes no spans: a ``traceparent`` header is passed along like any other."""

    active = False

    def send(self, actor_type: str, key: str, method: str, message_id: str, *, ask: bool) -> NoSpan:
        """Return a span of nothing."""
        return NO_SPAN

    def process(
        self,
        headers: Mapping[str, str],
        actor_type: str,
        key: str,
        method: str,
        message_id: str,
        *,
        shard: str,
        attempt: int,
    ) -> NoSpan:
        """Return a span of nothing."""
        return NO_SPAN


class NoTelemetry:
    """Listens to nothing. Meters are still there to be added to; nobody reads them."""

    def __init__(self) -> None:
        self.tracer: Tracer = NoTracer()
        self.runner = RunnerMeter()
        self._method = MethodMeter("", "")
        self._sending = SendMeter("", "")

    def method(self, actor_type: str, method: str) -> MethodMeter:
        """Return one meter for all."""
        return self._method

    def sending(self, actor_type: str, method: str) -> SendMeter:
        """Return one meter for all."""
        return self._sending

    def watch(self, metric: Metric, read: Callable[[], Reading]) -> Callable[[], None]:
        """Never ask."""
        return _nothing

    def before_scrape(self, refresh: Callable[[], Awaitable[object]]) -> Callable[[], None]:
        """Never scrape."""
        return _nothing

    def emit(self, event: Event) -> None:
        """Drop it."""


def _nothing() -> None:
    pass
