"""Streaming replies: items per second of one stream, and of many at once."""

from __future__ import annotations

import asyncio
import time

from benchmarks.app import Account
from benchmarks.figures import Section, figure
from benchmarks.stage import Ours, Stage

STREAMS = 64


async def measure(stage: Stage) -> Section:
    """Consume as fast as the items come; flow control is on, as always."""
    one = stage.size(20_000, least=500)
    each = stage.size(2_000, least=50)
    single: list[float] = []
    many: list[float] = []
    async with stage.ours() as ours:
        for _ in range(stage.rounds):
            stage.say("one stream")
            single.append(await _rate(ours, 1, one))
            stage.say(f"{STREAMS} streams")
            many.append(await _rate(ours, STREAMS, each))
    return Section(
        name="streaming",
        title="Streaming replies",
        figures=[figure("items of one stream", "1/s", single), figure(f"items of {STREAMS} streams", "1/s", many)],
    )


async def _rate(ours: Ours, streams: int, items: int) -> float:
    async def consume(key: int) -> None:
        expected = 0
        async for item in ours.client.get(Account, f"stream-{key}").count_to(items):
            assert item == expected
            expected += 1
        assert expected == items

    began = time.perf_counter()
    await asyncio.gather(*[consume(key) for key in range(streams)])
    return streams * items / (time.perf_counter() - began)
