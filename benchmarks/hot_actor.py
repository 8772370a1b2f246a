"""One actor that everybody talks to: its turns cannot overlap, so this is the ceiling of a single key."""

from __future__ import annotations

import time

from benchmarks.figures import Section, beside
from benchmarks.stage import Ours, Stage, load_in_turns


async def measure(stage: Stage) -> Section:
    """Compare with the bare loop sending everything to one of its actors."""
    messages = stage.size(40_000, least=2_000)
    async with stage.ours() as ours, stage.bare() as bare:

        async def rate(contender: Ours | object) -> float:
            began = time.perf_counter()
            await (ours if contender is ours else bare).tell_all([0] * messages)
            return messages / (time.perf_counter() - began)

        stage.say("tells to one actor")
        figures = [beside("tell, batches of 500, one actor", "1/s", *await stage.in_turns(lambda: rate(ours), lambda: rate(bare)))]
        stage.say("asks of 256 callers to one actor")
        seen = await load_in_turns(stage, lambda _: ours.ask(0), lambda _: bare.ask(0), stage.size(40_000, least=256), 256)
        figures.append(beside("ask, 256 callers, one actor", "1/s", *[[figures.rate for figures in side] for side in seen]))
    return Section(name="hot-actor", title="One hot actor", figures=figures)
