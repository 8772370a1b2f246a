"""The recorder: one meter each, watches that add up, events counted and handed on."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from actors.telemetry import events, metrics
from actors.telemetry.events import Event
from actors.telemetry.hooks import NoTelemetry, Telemetry
from actors.telemetry.recorder import Recorder


def lost(shard: str = "default.1") -> events.ShardLost:
    return events.ShardLost(shard=shard, epoch="7", why="its lease ended")


@pytest.mark.parametrize("make", [Recorder, NoTelemetry])
def test_both_are_telemetry(make: type[Recorder | NoTelemetry]) -> None:
    """The runner is written against the Protocol; a type checker reads this."""
    telemetry: Telemetry = make()
    telemetry.method("Account", "deposit").handled += 1
    telemetry.sending("Account", "deposit").sent += 1
    telemetry.runner.reads += 1
    telemetry.watch(metrics.PENDING_ASKS, lambda: 1.0)()
    telemetry.emit(lost())

    assert not telemetry.tracer.active


def test_a_method_has_one_meter() -> None:
    recorder = Recorder()

    assert recorder.method("A", "m") is recorder.method("A", "m")
    assert recorder.method("A", "m") is not recorder.method("A", "n")
    assert recorder.sending("A", "m") is recorder.sending("A", "m")


def test_watches_of_one_metric_add_up_until_they_end() -> None:
    """Two clients of one process are one number; one that has closed is none."""
    recorder = Recorder()
    recorder.watch(metrics.PENDING_ASKS, lambda: 2.0)
    end = recorder.watch(metrics.PENDING_ASKS, lambda: 3.0)
    recorder.watch(metrics.SHARDS_OWNED, lambda: {"default": 1.0, "gpu": 4.0})
    recorder.watch(metrics.SHARDS_OWNED, lambda: {"default": 1.0})

    before = dict(recorder.readings())
    end()
    end()

    assert before == {metrics.PENDING_ASKS: {"": 5.0}, metrics.SHARDS_OWNED: {"default": 2.0, "gpu": 4.0}}
    assert dict(recorder.readings())[metrics.PENDING_ASKS] == {"": 2.0}


def test_a_broken_watch_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    recorder.watch(metrics.LEASE_LEFT, lambda: 1 / 0)
    recorder.watch(metrics.PENDING_ASKS, lambda: 2.0)

    readings = dict(recorder.readings())

    assert readings[metrics.PENDING_ASKS] == {"": 2.0}
    assert "actors_lease_left_seconds" in caplog.text


def test_an_event_is_counted_once_and_reaches_every_sink(caplog: pytest.LogCaptureFixture) -> None:
    """A sink that raises costs the others nothing, and the runner less."""
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("disk full")

    recorder = Recorder(sinks=[broken, seen.append])

    recorder.emit(lost())

    assert seen == [lost()]
    assert recorder.counts.events == {"ShardLost": 1}
    assert "disk full" in caplog.text


def test_events_are_the_source_of_their_counters() -> None:
    recorder = Recorder()
    dead = events.DeadLettered(
        actor_type="Account", key="a", method="m", message_id="1", reason="remote_error", attempts=5, error="boom", shard="default.1"
    )

    recorder.emit(dead)
    recorder.emit(events.Fenced(shard="default.1", epoch="7", operation="commit"))
    recorder.emit(events.TakeoverEnded(previous="pod-2", shards=80, seconds=3.0))
    recorder.emit(events.ShardAcquired(shard="default.1", epoch="8", previous="pod-2", unclean=True, seconds=0.2))
    recorder.emit(events.ShardReleased(shard="default.1", epoch="8", seconds=0.1))
    recorder.emit(events.ConnectionLost(purpose="commit", server="redis://x", error="reset"))
    recorder.emit(events.HandlerBlockedLoop(handler="Account.deposit", seconds=4.0, stack="…"))

    counts = recorder.counts
    assert counts.dead_letters == {("Account", "remote_error"): 1}
    assert counts.fenced == {"commit": 1}
    assert (counts.takeover.count, counts.takeover.total) == (1, 3.0)
    assert (counts.acquire.count, counts.drain.count) == (1, 1)
    assert counts.connections_lost == {"commit": 1}
    assert counts.blocked_seconds == 4.0


def test_free_text_is_no_label() -> None:
    """Each error message would become a time series of its own, for ever."""
    recorder = Recorder()
    for number in range(100):
        recorder.emit(
            events.DeadLettered(
                actor_type="Account",
                key="a",
                method="m",
                message_id="1",
                reason=f"order {number} is wrong",
                attempts=5,
                error="",
                shard="default.1",
            )
        )

    assert recorder.counts.dead_letters == {("Account", "other"): 100}


def test_events_may_come_from_any_thread() -> None:
    """The watchdog speaks from its own thread, just when the loop cannot."""
    recorder = Recorder()

    def flood() -> None:
        for _ in range(1000):
            recorder.emit(lost())

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert recorder.counts.events == {"ShardLost": 4000}


async def test_a_scrape_waits_for_fresh_numbers_but_not_for_ever(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("actors.telemetry.recorder.REFRESH_TIMEOUT", 0.05)
    recorder = Recorder()
    fresh: list[str] = []
    hung = asyncio.Event()

    async def quick() -> None:
        fresh.append("quick")

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            hung.set()

    async def fails() -> None:
        raise OSError("no route")

    recorder.before_scrape(quick)
    recorder.before_scrape(hangs)
    recorder.before_scrape(fails)

    with caplog.at_level(logging.WARNING):
        await recorder.refresh()

    assert fresh == ["quick"]
    assert "no route" in caplog.text
    await asyncio.wait_for(hung.wait(), 1)


def test_every_event_can_be_told_in_words() -> None:
    """A typo in a text would lose the one line that explains an outage."""
    samples = {str: "x", int: 3, float: 1.5, bool: True}
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event]
    assert len(kinds) > 20

    for kind in kinds:
        fields = {name: samples[_type(kind.__annotations__[name])] for name in kind.__struct_fields__}
        text = str(kind(**fields))
        assert text, kind
        assert "{" not in text, kind


def _type(name: str) -> type:
    return {"str": str, "int": int, "float": float, "bool": bool}[name]
