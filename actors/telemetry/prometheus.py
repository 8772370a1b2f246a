"""Metrics for Prometheus: samples made from the meters when somebody asks for them.

The names below are a promise to whoever has built an alert on them. Every sample
carries ``system`` and ``runner``, so that the samples of several processes can stand
in one answer (:func:`merge`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric as Family

    from actors.telemetry.meters import Histogram
    from actors.telemetry.recorder import Recorder

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class ActorCollector(Collector):
    """Makes samples of a recorder's numbers at the moment of a scrape."""

    def __init__(self, recorder: Recorder, *, system: str, runner: str) -> None:
        self._recorder = recorder
        self._labels = ["system", "runner"]
        self._values = [system, runner]

    def collect(self) -> Iterator[Family]:
        """Yield all families."""
        yield from self._methods()
        yield from self._sends()
        yield from self._runner()
        yield from self._events()
        for metric, sums in self._recorder.readings():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=[*self._labels, *([metric.label] if metric.label else [])])
            for label, value in sums.items():
                family.add_metric([*self._values, *([label] if metric.label else [])], value)
            yield family

    def _methods(self) -> Iterator[Family]:
        handled = self._counter("actors_messages_handled", "Turns whose commit was acknowledged.", "actor", "method")
        retried = self._counter("actors_messages_retried", "Runs that ended in a defect and are repeated.", "actor", "method")
        failed = self._counter("actors_messages_failed", "Messages that ended in an error.", "actor", "method", "reason")
        stages = self._histogram(
            "actors_stage_seconds", "queued: send to start; run: start to end; commit: end to acknowledged.", "actor", "method", "stage"
        )
        for meter in list(self._recorder.methods.values()):
            labels = [*self._values, meter.actor_type, meter.method]
            handled.add_metric(labels, meter.handled)
            retried.add_metric(labels, meter.retried)
            for reason, count in list(meter.failures.items()):
                failed.add_metric([*labels, reason], count)
            for stage, histogram in (("queued", meter.queued), ("run", meter.run), ("commit", meter.commit)):
                _add(stages, [*labels, stage], histogram)
        return iter((handled, retried, failed, stages))

    def _sends(self) -> Iterator[Family]:
        sent = self._counter("actors_messages_sent", "Messages this process sent, acknowledged by Redis.", "actor", "method")
        duplicates = self._counter("actors_messages_duplicate", "Sends answered from an idempotency record.", "actor", "method")
        failed = self._counter("actors_sends_failed", "Sends and asks that ended in an error.", "actor", "method", "reason")
        asks = self._histogram("actors_ask_seconds", "Send to reply, as the caller saw it.", "actor", "method")
        for meter in list(self._recorder.sends.values()):
            labels = [*self._values, meter.actor_type, meter.method]
            sent.add_metric(labels, meter.sent)
            duplicates.add_metric(labels, meter.duplicates)
            for reason, count in list(meter.failures.items()):
                failed.add_metric([*labels, reason], count)
            if meter.round_trip.count:
                _add(asks, labels, meter.round_trip)
        return iter((sent, duplicates, failed, asks))

    def _runner(self) -> Iterator[Family]:
        meter = self._recorder.runner
        for name, text, value in (
            ("actors_activations", "Actors activated.", meter.activations),
            ("actors_reads", "Reads that brought entries.", meter.reads),
            ("actors_entries_read", "Entries read from mailboxes and backlogs.", meter.entries),
            ("actors_timers_due", "Delayed messages that became due.", meter.timers),
        ):
            family = self._counter(name, text)
            family.add_metric(self._values, value)
            yield family
        yield self._by_label("actors_deactivations", "Actors deactivated.", "reason", meter.deactivations)
        for name, text, histogram in (
            ("actors_activation_seconds", "Loading an actor and running its on_activate.", meter.activation),
            ("actors_commit_batch_turns", "Turns in one commit.", meter.batch),
            ("actors_loop_lag_seconds", "How late the event loop wakes a timer.", meter.loop_lag),
        ):
            yield self._one_histogram(name, text, histogram)

    def _events(self) -> Iterator[Family]:
        counts = self._recorder.counts
        yield self._by_label("actors_events", "Events told, by kind.", "event", counts.events)
        yield self._by_label("actors_fenced", "Operations refused to a former owner.", "operation", counts.fenced)
        yield self._by_label("actors_connections_lost", "Connections to Redis that broke.", "purpose", counts.connections_lost)
        dead = self._counter("actors_dead_letters", "Messages set aside.", "actor", "reason")
        for (actor_type, reason), count in list(counts.dead_letters.items()):
            dead.add_metric([*self._values, actor_type, reason], count)
        yield dead
        blocked = self._counter("actors_loop_blocked_seconds", "Time in which a handler blocked the event loop.")
        blocked.add_metric(self._values, counts.blocked_seconds)
        yield blocked
        for name, text, histogram in (
            ("actors_shard_acquire_seconds", "First sight of a free shard to serving it.", counts.acquire),
            ("actors_shard_drain_seconds", "Wish to move a shard to its release.", counts.drain),
            ("actors_takeover_seconds", "First sight of a dead owner to serving all its shards that fell to us.", counts.takeover),
        ):
            yield self._one_histogram(name, text, histogram)

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(name, text, labels=[*self._labels, *labels])

    def _histogram(self, name: str, text: str, *labels: str) -> HistogramMetricFamily:
        return HistogramMetricFamily(name, text, labels=[*self._labels, *labels])

    def _by_label(self, name: str, text: str, label: str, counts: Mapping[str, int]) -> Family:
        family = self._counter(name, text, label)
        for value, count in list(counts.items()):
            family.add_metric([*self._values, value], count)
        return family

    def _one_histogram(self, name: str, text: str, histogram: Histogram) -> Family:
        family = self._histogram(name, text)
        _add(family, self._values, histogram)
        return family


class Exposition:
    """What ``/metrics`` answers: a recorder's samples, then those of the process and of the application.

    The application's own counters live in prometheus_client's default registry.
    """

    def __init__(self, recorder: Recorder, *, system: str, runner: str) -> None:
        self._recorder = recorder
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(ActorCollector(recorder, system=system, runner=runner))

    async def render(self) -> bytes:
        """Return the text of one scrape."""
        await self._recorder.refresh()
        return generate_latest(self._registry) + generate_latest(REGISTRY)


def merge(texts: Mapping[str, bytes]) -> bytes:
    """Return one exposition of those of several processes, by runner name.

    Each family is named once, with all processes' samples under it. A sample without a
    ``runner`` label gets one, so that no two processes' samples collide.
    """
    families: dict[str, tuple[list[bytes], list[bytes]]] = {}
    for runner, text in texts.items():
        label = b'runner="%s"' % runner.encode().replace(b"\\", rb"\\").replace(b'"', rb"\"").replace(b"\n", rb"\n")
        family = ""
        for line in text.split(b"\n"):
            if not line:
                continue
            if (head := _HEAD.match(line)) is not None:
                family = head[2].decode()
                heads, _ = families.setdefault(family, ([], []))
                if all(not known.startswith(head[0]) for known in heads):
                    heads.append(line)
            elif not line.startswith(b"#"):
                families.setdefault(family, ([], []))[1].append(_labelled(line, label))
    return b"".join(b"%s\n" % line for heads, samples in families.values() for line in (*heads, *samples))


_HEAD: Final = re.compile(rb"# (HELP|TYPE) (\S+) ")
_SAMPLE: Final = re.compile(rb"([^\s{]+)(\{)?")
_RUNNER: Final = re.compile(rb'[{,]runner="')


def _labelled(line: bytes, label: bytes) -> bytes:
    sample = _SAMPLE.match(line)
    if sample is None or _RUNNER.search(line) is not None:
        return line
    rest = line[sample.end() :]
    if sample[2] is None:
        return b"%s{%s}%s" % (sample[1], label, rest)
    return b"%s{%s%s%s" % (sample[1], label, b"" if rest.startswith(b"}") else b",", rest)


def _add(family: HistogramMetricFamily, labels: Iterable[str], histogram: Histogram) -> None:
    counts = list(histogram.counts)  # one copy: the last bucket must be the count
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip(histogram.bounds, counts, strict=False):
        below += count
        buckets.append((str(bound), below))
    buckets.append(("+Inf", below + counts[-1]))
    family.add_metric(list(labels), buckets=buckets, sum_value=histogram.total)
