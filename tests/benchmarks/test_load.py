"""Load generators must not flatter what they measure."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.load import closed_loop, open_loop


async def test_a_closed_loop_makes_exactly_its_calls_and_no_more_than_its_callers_at_once() -> None:
    """Rates are calls over time: a call too many or too few would bend them."""
    made: list[int] = []
    running = 0
    most = 0

    async def call(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        made.append(number)

    await closed_loop(call, 100, 7)

    assert sorted(made) == list(range(100))
    assert most == 7


async def test_a_stall_is_paid_for_by_every_call_that_was_due_in_it() -> None:
    """Coordinated omission: a generator that waits with the system sees one slow call where users saw many."""
    up = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, up.set)

    async def call(_number: int) -> None:
        await up.wait()

    seen = await open_loop(call, rate=200, seconds=1.0)

    assert seen.max_us == pytest.approx(500_000, rel=0.2)
    assert seen.p50_us < 100_000
    assert dict(seen.curve)[75.0] == pytest.approx(250_000, rel=0.3)  # half of the calls waited, on average half of the stall


async def test_an_open_loop_goes_on_when_the_generator_itself_was_held_up() -> None:
    """Calls that could not be made in time are made late, and counted from when they were due."""
    import time

    held = False

    async def call(_number: int) -> None:
        nonlocal held
        if not held:
            held = True
            time.sleep(0.3)

    seen = await open_loop(call, rate=100, seconds=0.5)

    assert seen.max_us >= 250_000
    assert seen.offered == 100
