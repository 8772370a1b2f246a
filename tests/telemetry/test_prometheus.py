"""The exposition: what a Prometheus server reads, alone and merged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, Counter
from prometheus_client.parser import text_string_to_metric_families

from actors.telemetry import events, metrics
from actors.telemetry.prometheus import Exposition, merge
from actors.telemetry.recorder import Recorder

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: bytes) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            place = (sample.name, frozenset(sample.labels.items()))
            assert place not in found, f"{place} is there twice"
            found[place] = sample.value
    return found


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    meter = recorder.method("Account", "deposit")
    meter.handled = 7
    meter.retried = 2
    meter.failed("domain")
    meter.queued.observe(0.003)
    meter.queued.observe(100.0)
    recorder.sending("Account", "deposit").sent = 9
    recorder.runner.batch.observe(3)
    recorder.watch(metrics.SHARDS_OWNED, lambda: {"default": 4.0})
    recorder.watch(metrics.COMMANDS_SENT, lambda: 5.0)
    recorder.emit(events.Fenced(shard="default.1", epoch="7", operation="commit"))
    return recorder


async def test_a_scrape_shows_what_operators_ask(recorder: Recorder) -> None:
    text = await Exposition(recorder, system="bank", runner="pod-1").render()

    samples = samples_of(text)
    where = {"system": "bank", "runner": "pod-1"}
    method = {**where, "actor": "Account", "method": "deposit"}
    assert samples[of("actors_messages_handled_total", **method)] == 7
    assert samples[of("actors_messages_retried_total", **method)] == 2
    assert samples[of("actors_messages_failed_total", **method, reason="domain")] == 1
    assert samples[of("actors_messages_sent_total", **method)] == 9
    assert samples[of("actors_fenced_total", **where, operation="commit")] == 1
    assert samples[of("actors_shards_owned", **where, group="default")] == 4
    assert samples[of("actors_redis_commands_total", **where)] == 5
    assert samples[of("actors_commit_batch_turns_count", **where)] == 1


async def test_buckets_are_cumulative_and_end_in_the_count(recorder: Recorder) -> None:
    text = await Exposition(recorder, system="bank", runner="pod-1").render()

    samples = samples_of(text)
    labels = {"system": "bank", "runner": "pod-1", "actor": "Account", "method": "deposit", "stage": "queued"}
    buckets = [samples[of("actors_stage_seconds_bucket", **labels, le=le)] for le in ("0.0025", "0.005", "60.0", "+Inf")]
    assert buckets == [0, 1, 1, 2]
    assert samples[of("actors_stage_seconds_count", **labels)] == 2
    assert samples[of("actors_stage_seconds_sum", **labels)] == pytest.approx(100.003)


async def test_the_applications_own_counters_are_there_too(recorder: Recorder) -> None:
    counter = Counter("orders_placed", "Orders.", registry=REGISTRY)
    try:
        counter.inc(3)
        text = await Exposition(recorder, system="bank", runner="pod-1").render()
    finally:
        REGISTRY.unregister(counter)

    assert samples_of(text)[of("orders_placed_total")] == 3


async def test_several_processes_make_one_answer(recorder: Recorder) -> None:
    """Each family once, and no sample of one process in the place of another's."""
    texts = {name: await Exposition(recorder, system="bank", runner=name).render() for name in ("pod-0", "pod-1")}

    merged = merge(texts)

    lines = merged.decode().splitlines()
    heads = [line for line in lines if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    samples = samples_of(merged)
    for name in texts:
        assert samples[of("actors_messages_handled_total", system="bank", runner=name, actor="Account", method="deposit")] == 7
        assert any(place == "process_cpu_seconds_total" and ("runner", name) in labels for place, labels in samples)
    assert len(samples) == sum(len(samples_of(text)) for text in texts.values())


# The library's parser, not ours, splits lines at a carriage return too.
_TEXT = st.text(st.characters(exclude_characters="\r", codec="utf-8"), max_size=8)


@given(st.dictionaries(_TEXT.filter(bool), st.integers(0, 9), min_size=1, max_size=4), _TEXT)
def test_any_name_and_label_survives_the_merge(values: dict[str, int], label: str) -> None:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    texts = {
        name: f'# HELP a_b Help.\n# TYPE a_b gauge\na_b {value}\na_b{{x="{escaped}"}} {value}\n'.encode() for name, value in values.items()
    }

    samples = samples_of(merge(texts))

    assert len(samples) == 2 * len(values)
    for name, value in values.items():
        assert samples[of("a_b", runner=name)] == value
        assert samples[of("a_b", runner=name, x=label)] == value
