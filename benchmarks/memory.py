"""What an idle actor costs: in Redis beside its state, in the runner while resident, and after it was deactivated."""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio

from actors._redis.keys import Keys
from actors.settings import Settings
from benchmarks.app import system
from benchmarks.figures import Section, at_most, figure
from benchmarks.stage import Ours, Stage

IDLE_TIMEOUT = 0.5
REDIS_CEILING = at_most(300)
GONE_CEILING = at_most(16)
"""What one actor may leave behind in a runner: measured over waves of many, so that what is left is noise."""


async def measure(stage: Stage) -> Section:
    """Wake waves of actors that nobody speaks to again."""
    wave = stage.size(50_000, least=2_000)
    control = redis.asyncio.from_url(stage.url)
    try:
        stage.say(f"{wave:,} resident actors")
        async with stage.ours(settings=Settings(shards=64, resident_limit=4 * wave)) as ours:
            await ours.tell_all(range(-1000, 0))  # what a first turn brings in once
            used, rss = await _used(control), ours.processes[0].rss
            await ours.tell_all(range(wave))
            in_redis = (await _used(control) - used) / wave
            in_runner = (ours.processes[0].rss - rss) / wave
            state = await _state_bytes(control)
        left = await _left_behind(stage, wave)
    finally:
        await control.aclose()
    return Section(
        name="memory",
        title="Memory of an idle actor",
        figures=[
            figure("in Redis, beside its state", "B", [in_redis - state], bound=REDIS_CEILING, note=f"state {state} B"),
            figure("in the runner, while resident", "B", [in_runner]),
            figure("in the runner, once deactivated", "B", [left], bound=GONE_CEILING, note=f"growth over waves of {wave:,}"),
        ],
    )


async def _left_behind(stage: Stage, wave: int) -> float:
    """Return by how much the runner grows with each actor that comes and goes.

    The allocator keeps what one wave needed, so the first ones do not count: growth is between
    the peak of a later wave and the peak of the last.
    """
    async with stage.ours(settings=Settings(shards=64, resident_limit=4 * wave, idle_timeout=IDLE_TIMEOUT)) as ours:
        peaks: list[int] = []
        for number in range(6):
            stage.say(f"wave {number + 1} of 6: wake, deactivate")
            await ours.tell_all(range(number * wave, (number + 1) * wave))
            peaks.append(ours.processes[0].rss)
            await _deactivated(ours)
    return max(0.0, (peaks[-1] - peaks[2]) / (3 * wave))


async def _deactivated(ours: Ours) -> None:
    """Wait until the runner has had time to see that its actors are idle, and is at rest again."""
    process = ours.processes[0]
    await asyncio.sleep(2 * IDLE_TIMEOUT)
    busy = process.cpu_seconds
    while True:
        await asyncio.sleep(IDLE_TIMEOUT)
        now = process.cpu_seconds
        if now - busy < 0.1 * IDLE_TIMEOUT:
            return
        busy = now


async def _used(control: redis.asyncio.Redis) -> int:
    info: dict[str, Any] = await control.info("memory")
    return int(info["used_memory"])


async def _state_bytes(control: redis.asyncio.Redis) -> int:
    return int(await control.strlen(Keys(system.name).state("Account", "a0")))
