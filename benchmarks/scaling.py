"""One, two and four runners. They share this machine's cores with Redis and the caller: see how many there are."""

from __future__ import annotations

import os
import time

from actors.settings import Settings
from benchmarks import bare_loop
from benchmarks.figures import Curve, Figure, Plot, Section, figure
from benchmarks.load import closed_loop
from benchmarks.stage import Stage, spread

COUNTS = (1, 2, 4)


async def measure(stage: Stage) -> Section:
    """Tells in batches and asks of 256 callers over each number of runners, at the default number of shards."""
    figures: list[Figure] = []
    points: dict[str, list[tuple[float, float]]] = {"tell": [], "ask": []}
    messages = stage.size(100_000, least=2_000)
    keys = [number % bare_loop.ACTORS for number in range(messages)]
    asks = stage.size(40_000, least=256)
    for count in COUNTS:
        async with stage.ours(count=count, settings=Settings()) as ours:
            tells: list[float] = []
            rates: list[float] = []
            await ours.tell_all(keys[: messages // 4])
            for _ in range(stage.rounds):
                stage.say(f"{count} runners")
                began = time.perf_counter()
                await ours.tell_all(keys)
                tells.append(messages / (time.perf_counter() - began))
                rates.append((await closed_loop(spread(ours.ask), asks, 256)).rate)
        for kind, seen in (("tell", tells), ("ask", rates)):
            name = {"tell": "tell, batches of 500", "ask": "ask, 256 callers"}[kind]
            line = figure(f"{name}, {count} runners", "1/s", seen, note=f"{os.cpu_count()} cores for all")
            figures.append(line)
            points[kind].append((float(count), line.value))
    plot = Plot(
        name="scaling",
        title=f"Messages per second by number of runners ({os.cpu_count()} cores for all)",
        x="runners",
        y="1/s",
        curves=[Curve(label=kind, points=line) for kind, line in points.items()],
    )
    return Section(name="scaling", title="1, 2 and 4 runners", figures=figures, plots=[plot])
