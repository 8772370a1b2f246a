"""Load: callers that wait for each reply (closed loop) and arrivals that do not (open loop)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
from hdrh.histogram import HdrHistogram

Call = Callable[[int], Awaitable[object]]
"""Makes call number n."""


class Figures(msgspec.Struct, frozen=True):
    """What a load saw."""

    rate: float
    """Completed calls per second."""
    p50_us: float
    p99_us: float


class Latencies(msgspec.Struct, frozen=True):
    """The distribution that an open loop saw, in microseconds."""

    offered: float
    """Calls per second that were due."""
    achieved: float
    """Calls per second that were answered."""
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float
    curve: list[tuple[float, float]]
    """(percentile, microseconds) for drawing."""


async def closed_loop(call: Call, calls: int, callers: int) -> Figures:
    """``callers`` callers share ``calls`` calls; each makes its next one when its last has been answered."""
    left = calls
    latencies: list[float] = []
    clock = time.perf_counter

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = clock()
            await call(left)
            latencies.append(clock() - began)

    began = clock()
    await asyncio.gather(*[caller() for _ in range(callers)])
    took = clock() - began
    latencies.sort()
    return Figures(rate=calls / took, p50_us=latencies[len(latencies) // 2] * 1e6, p99_us=latencies[int(len(latencies) * 0.99)] * 1e6)


async def open_loop(call: Call, rate: float, seconds: float) -> Latencies:
    """Make calls at a fixed rate, whatever becomes of them, for ``seconds``.

    A latency counts from the moment its call was *due*. So a stall is paid for by every call
    that fell into it, also by those that a stalled load generator could not even make in time:
    nothing is omitted, and nothing has to be corrected afterwards.
    """
    histogram = HdrHistogram(1, 120_000_000, 3)
    clock = time.perf_counter
    total = int(rate * seconds)
    running: set[asyncio.Task[None]] = set()

    async def one(number: int, due: float) -> None:
        await call(number)
        histogram.record_value(max(1, int((clock() - due) * 1e6)))

    began = clock()
    number = 0
    while number < total:
        now = clock()
        while number < total and began + number / rate <= now:
            task = asyncio.ensure_future(one(number, began + number / rate))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.sleep(max(0.0, began + number / rate - clock()))
    await asyncio.gather(*running)
    took = clock() - began
    at = histogram.get_value_at_percentile
    shown = [0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100]
    return Latencies(
        offered=rate,
        achieved=total / took,
        p50_us=at(50),
        p90_us=at(90),
        p99_us=at(99),
        p999_us=at(99.9),
        max_us=at(100),
        curve=[(float(percentile), float(at(percentile))) for percentile in shown],
    )
