"""What a runner tells while it works, on a real server: spans through the mailbox, meters, events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from actors._redis.connection import TcpServer
from actors.actor import Actor
from actors.context import current_context
from actors.errors import RemoteError
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from actors.telemetry import events
from actors.telemetry.events import Event
from actors.telemetry.otel import OtelTracer
from actors.telemetry.recorder import Recorder

pytestmark = pytest.mark.server

system = ActorSystem("told", settings=Settings(shards=8))


@system.actor
class Post(Actor[None]):
    @message
    async def forward(self, to: str) -> str | None:
        await self.client.get(Post, to).arrive.tell()
        context = current_context()
        assert context is not None
        return context.trace

    @message
    async def arrive(self) -> None: ...

    @message
    async def count(self) -> int:
        return await self.client.get(Post, "other").one()

    @message
    async def one(self) -> int:
        return 1

    @message(retry=Retry(max_attempts=2, initial=0.01))
    async def fail(self) -> None:
        raise RuntimeError("no idea")


class Told:
    """A runner, a client, and what they tell."""

    def __init__(self, runner: Recorder, client: Recorder, use: Any, exporter: InMemorySpanExporter, seen: list[Event]) -> None:
        self.runner, self.client, self.use, self.exporter, self.seen = runner, client, use, exporter, seen

    async def spans(self, count: int) -> dict[str, ReadableSpan]:
        """Return the finished spans by name, once there are ``count``."""
        await until(lambda: len(self.exporter.get_finished_spans()) >= count)
        spans = self.exporter.get_finished_spans()
        assert len(spans) == count, [span.name for span in spans]
        return {span.name: span for span in spans}


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():  # noqa: ASYNC110 - facts of the runner, which tells nobody
            await asyncio.sleep(0.005)


@pytest.fixture
async def told(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Told]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen: list[Event] = []
    tracing = getattr(request, "param", True)
    tracer = OtelTracer(provider) if tracing else None
    inside, outside = Recorder(tracer=tracer, sinks=[seen.append]), Recorder(tracer=tracer)
    server = TcpServer.from_url(redis_url)
    async with system.build_runner(server, name="pod-1", telemetry=inside), system.build_client(server, telemetry=outside) as client:
        yield Told(inside, outside, client, exporter, seen)


def child_of(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert parent.context is not None
    return child.parent is not None and child.parent.span_id == parent.context.span_id


async def test_a_message_and_what_it_causes_are_one_trace(told: Told) -> None:
    await told.use.get(Post, "a").forward("b")

    spans = await told.spans(4)
    assert spans["send Post.forward"].parent is None
    assert child_of(spans["process Post.forward"], spans["send Post.forward"])
    assert child_of(spans["send Post.arrive"], spans["process Post.forward"])
    assert child_of(spans["process Post.arrive"], spans["send Post.arrive"])


async def test_an_ask_inside_a_turn_is_in_its_trace(told: Told) -> None:
    assert await told.use.get(Post, "a").count() == 1

    spans = await told.spans(4)
    assert child_of(spans["send Post.one"], spans["process Post.count"])
    assert child_of(spans["process Post.one"], spans["send Post.one"])


async def test_a_failed_turn_is_a_failed_span(told: Told) -> None:
    with pytest.raises(RemoteError):
        await told.use.get(Post, "a").fail()

    await until(lambda: len(told.exporter.get_finished_spans()) == 3)
    spans = told.exporter.get_finished_spans()
    assert sorted((span.name, span.status.status_code.name) for span in spans) == [
        ("process Post.fail", "ERROR"),
        ("process Post.fail", "ERROR"),
        ("send Post.fail", "UNSET"),  # sent it was
    ]


@pytest.mark.parametrize("told", [False], indirect=True)
async def test_without_a_provider_the_callers_context_is_passed_along(told: Told) -> None:
    """A service that traces, behind one that does not, still finds its parent."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert await told.use.get(Post, "a").forward.options(headers={"traceparent": trace})("b") == trace

    assert told.exporter.get_finished_spans() == ()


async def test_what_happened_is_counted(told: Told) -> None:
    with pytest.raises(RemoteError):
        await told.use.get(Post, "a").fail()
    for _ in range(3):
        await told.use.get(Post, "a").one()

    one, fail = told.runner.method("Post", "one"), told.runner.method("Post", "fail")
    await until(lambda: one.handled == 3)
    assert (one.queued.count, one.run.count, one.commit.count) == (3, 3, 3)
    assert fail.retried == 1
    assert told.runner.runner.activations >= 1
    assert told.runner.runner.batch.count >= 1
    assert told.client.sending("Post", "one").sent == 3
    assert told.client.sending("Post", "one").round_trip.count == 3
    assert any(isinstance(event, events.RunnerStarted) for event in told.seen)
    assert len([event for event in told.seen if isinstance(event, events.HandlerFailed)]) == 2
    (dead,) = [event for event in told.seen if isinstance(event, events.DeadLettered)]
    assert (dead.actor_type, dead.key, dead.method, dead.attempts) == ("Post", "a", "fail", 2)
