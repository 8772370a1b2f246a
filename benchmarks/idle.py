"""What a runner costs that has nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
import time

from actors.settings import Settings
from benchmarks.figures import Section, at_most, figure
from benchmarks.processes import runner
from benchmarks.proxy import counting
from benchmarks.stage import Stage

CPU_CEILING = at_most(1.0)
COMMANDS_CEILING = at_most(20)


async def measure(stage: Stage) -> Section:
    """A lone runner with the default number of shards, after it has settled."""
    seconds = stage.seconds(20, least=3)
    shards = Settings().shards
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(counting(stage.url))
        await stage.clear()
        stack.push_async_callback(stage.clear)
        process = await stack.enter_async_context(runner(proxy.url, "idle", Settings()))
        stage.say("an idle runner")
        await asyncio.sleep(3)
        proxy.reset()
        cpu, began = process.cpu_seconds, time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        used = process.cpu_seconds - cpu
        traffic = proxy.traffic()
    named = ", ".join(f"{name} {count / took:.1f}" for name, count in sorted(traffic.commands.items(), key=lambda item: -item[1])[:4])
    return Section(
        name="idle",
        title=f"An idle runner with {shards} shards",
        figures=[
            figure("processor", "% of a core", [100 * used / took], bound=CPU_CEILING),
            figure("commands", "1/s", [traffic.total / took], bound=COMMANDS_CEILING, note=named),
            figure("traffic", "B/s", [(traffic.sent + traffic.received) / took]),
        ],
    )
