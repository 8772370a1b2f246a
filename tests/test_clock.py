"""The machine's clock."""

from __future__ import annotations

import time

import pytest

from actors.clock import SystemClock


def test_boottime_does_not_step_back() -> None:
    """A lease is trusted by it."""
    clock = SystemClock()
    readings = [clock.boottime() for _ in range(100)]

    assert readings == sorted(readings)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no such clock on this system")
def test_boottime_runs_through_suspends() -> None:
    """Otherwise a lease would be trusted long after another runner took its shards."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    reading = SystemClock().boottime()

    assert before <= reading <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_time_is_the_wall_clock() -> None:
    """For people and ids."""
    before = time.time()
    reading = SystemClock().time()

    assert before <= reading <= time.time()
