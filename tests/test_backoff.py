"""Delays between attempts."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.backoff import Backoff


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    """Without jitter the schedule can be read off the settings."""
    backoff = Backoff(random=Random(0), initial=0.5, maximum=3.0, factor=2.0, jitter=0.0)

    assert [backoff.delay(attempt) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@given(seed=st.integers(), attempt=st.integers(1, 10_000), jitter=st.floats(0, 1), factor=st.floats(1, 10))
def test_jitter_only_shortens(seed: int, attempt: int, jitter: float, factor: float) -> None:
    """The sum of the full delays bounds how long a retry takes, whatever the dice say."""
    full = Backoff(random=Random(0), initial=0.1, maximum=5.0, factor=factor, jitter=0.0).delay(attempt)

    delay = Backoff(random=Random(seed), initial=0.1, maximum=5.0, factor=factor, jitter=jitter).delay(attempt)

    assert full * (1 - jitter) - 1e-9 <= delay <= full


def test_the_same_seed_gives_the_same_delays() -> None:
    """A failing simulation must replay."""
    first, second = (Backoff(random=Random(7)) for _ in range(2))

    assert [first.delay(n) for n in range(1, 20)] == [second.delay(n) for n in range(1, 20)]


@pytest.mark.parametrize("options", [{"jitter": 1.5}, {"jitter": -0.1}, {"initial": -1.0}, {"factor": 0.5}])
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    """At once, not at the first failure in production."""
    with pytest.raises(ValueError, match="must"):
        Backoff(random=Random(0), **options)


def test_attempts_count_from_one() -> None:
    """Off by one would skip the first delay."""
    with pytest.raises(ValueError, match="the first is 1"):
        Backoff(random=Random(0)).delay(0)
