"""Meters: cheap to add to, right when read."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.telemetry.meters import SECONDS, Histogram, MethodMeter, sample_every


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 8))))
def test_every_observation_lands_in_exactly_one_bucket(observed: list[tuple[float, int]]) -> None:
    histogram = Histogram()

    for value, weight in observed:
        histogram.observe(value, weight)

    assert histogram.count == sum(weight for _, weight in observed)
    assert histogram.total == pytest.approx(sum(value * weight for value, weight in observed))
    for index, bound in enumerate(SECONDS):
        assert sum(histogram.counts[: index + 1]) == sum(weight for value, weight in observed if value <= bound)


def test_failures_are_counted_by_reason() -> None:
    meter = MethodMeter("Account", "deposit")

    meter.failed("domain")
    meter.failed("domain")
    meter.failed("ask_timeout")

    assert meter.failures == {"domain": 2, "ask_timeout": 1}


def test_a_turn_alone_is_always_timed() -> None:
    """A quiet system's latencies are exact; only a full batch is sampled."""
    assert sample_every(1) == 1
    assert sample_every(500) > 1


def test_an_observation_costs_far_less_than_a_turn() -> None:
    """A turn takes 6 µs at full speed; a labelled counter of the metrics library would take 1.8 of them."""
    histogram = Histogram()

    best = min(timeit.repeat(lambda: histogram.observe(0.003), number=10_000, repeat=5)) / 10_000

    assert best < 2e-6, f"{best * 1e9:.0f} ns an observation"
