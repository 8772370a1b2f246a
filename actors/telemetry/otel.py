"""Spans by OpenTelemetry's conventions for messaging.

``send`` spans are opened by whoever sends, ``process`` spans by the runner's turn; the
context travels in the message's headers, by the application's own propagators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import context, propagate, trace

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM: Final = "actors"
"""The value of ``messaging.system``."""


class OtelSpan:
    """One open span, and the headers that carry it."""

    __slots__ = ("_span", "headers")

    def __init__(self, span: trace.Span, headers: Mapping[str, str]) -> None:
        self._span = span
        self.headers = headers

    def attach(self) -> None:
        """Make this the current span of the running context, until that context is dropped."""
        context.attach(trace.set_span_in_context(self._span))

    def end(self, error: BaseException | None = None) -> None:
        """End the span, as failed where there is an ``error``."""
        if error is not None:
            self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.record_exception(error)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
        self._span.end()


class OtelTracer:
    """Makes spans with a provider of the application's."""

    active = True

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer("actors")

    def send(self, actor_type: str, key: str, method: str, message_id: str, *, ask: bool) -> OtelSpan:
        """Open a ``send`` span under the caller's current span."""
        attributes = _attributes("send", actor_type, key, method, message_id)
        attributes["actors.ask"] = ask
        span = self._tracer.start_span(f"send {actor_type}.{method}", kind=trace.SpanKind.PRODUCER, attributes=attributes)
        headers: dict[str, str] = {}
        propagate.inject(headers, trace.set_span_in_context(span))
        return OtelSpan(span, headers)

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
    ) -> OtelSpan:
        """Open a ``process`` span under the one whose context the message carries."""
        attributes = _attributes("process", actor_type, key, method, message_id)
        attributes["messaging.destination.partition.id"] = shard
        attributes["actors.attempt"] = attempt
        # From an empty context: what happens to be current where the turn starts is not its parent.
        parent = propagate.extract(headers, context.Context())
        span = self._tracer.start_span(
            f"process {actor_type}.{method}", context=parent, kind=trace.SpanKind.CONSUMER, attributes=attributes
        )
        return OtelSpan(span, headers)


def _attributes(operation: str, actor_type: str, key: str, method: str, message_id: str) -> dict[str, str | int | bool]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": f"{actor_type}.{method}",
        "messaging.message.id": message_id,
        "actors.actor.type": actor_type,
        "actors.actor.key": key,
        "actors.method": method,
    }
