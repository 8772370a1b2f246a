"""Spans: one tree through the mailbox, and none where nobody looks."""

from __future__ import annotations

import contextvars
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from actors.telemetry.otel import OtelTracer


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> OtelTracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTracer(provider)


def test_a_turn_is_the_child_of_its_send(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    sent = tracer.send("Account", "alice", "deposit", "01J", ask=True)
    handled = tracer.process(sent.headers, "Account", "alice", "deposit", "01J", shard="default.3", attempt=2)
    handled.end()
    sent.end()

    process, send = exporter.get_finished_spans()
    assert (send.name, process.name) == ("send Account.deposit", "process Account.deposit")
    assert (send.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert process.parent is not None
    assert send.context is not None
    assert process.parent.span_id == send.context.span_id
    assert send.attributes is not None
    assert process.attributes is not None
    for attributes, operation in ((send.attributes, "send"), (process.attributes, "process")):
        assert attributes["messaging.system"] == "actors"
        assert attributes["messaging.operation.type"] == operation
        assert attributes["messaging.destination.name"] == "Account.deposit"
        assert attributes["messaging.message.id"] == "01J"
        assert attributes["actors.actor.key"] == "alice"
    assert process.attributes["messaging.destination.partition.id"] == "default.3"


def test_what_a_turn_sends_is_its_child(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    """Attached in the turn's own context: the next turn does not see it."""
    turn = contextvars.copy_context()
    handled = tracer.process({}, "Account", "alice", "transfer", "01J", shard="default.3", attempt=1)
    turn.run(handled.attach)

    turn.run(tracer.send, "Account", "bob", "deposit", "02J", ask=False).end()
    tracer.send("Account", "carol", "deposit", "03J", ask=False).end()
    handled.end()

    inside, outside, process = exporter.get_finished_spans()
    assert process.context is not None
    assert inside.parent is not None
    assert inside.parent.span_id == process.context.span_id
    assert outside.parent is None
    assert process.parent is None


def test_an_error_fails_its_span(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    tracer.process({}, "Account", "alice", "deposit", "01J", shard="default.3", attempt=1).end(ValueError("no"))

    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"
    assert [event.name for event in span.events] == ["exception"]


def test_garbage_in_the_headers_starts_a_new_trace(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    tracer.process({"traceparent": "00-zz"}, "Account", "a", "m", "1", shard="default.3", attempt=1).end()

    (span,) = exporter.get_finished_spans()
    assert span.parent is None


def test_with_no_provider_nothing_is_even_imported() -> None:
    """The API's proxy would cost its 50 ms at start, and 5 µs a span."""
    program = (
        "import sys; from actors.telemetry.tracing import tracer\n"
        "assert not tracer().active; assert 'opentelemetry' not in sys.modules\n"
        "import opentelemetry.trace; assert not tracer().active\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "opentelemetry.trace.set_tracer_provider(TracerProvider()); assert tracer().active\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
