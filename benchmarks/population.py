"""Many actors: 100,000 of them spoken to, and how fast cold ones wake."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from random import Random

from actors.settings import Settings
from benchmarks import bare_loop
from benchmarks.figures import Figure, Section, beside, figure
from benchmarks.load import closed_loop
from benchmarks.stage import Ours, Stage, load_in_turns

ACTORS = 100_000


async def measure(stage: Stage) -> Section:
    """Resident actors beside the bare loop, then activations of actors without and with stored state."""
    population = stage.size(ACTORS, least=2_000)
    figures = [*await _resident(stage, population), *await _activations(stage)]
    return Section(name="population", title=f"{ACTORS:,} actors, and activations", figures=figures)


async def _resident(stage: Stage, population: int) -> list[Figure]:
    keys = [Random(1).randrange(population) for _ in range(stage.size(100_000, least=2_000))]
    everyone = range(population)

    async with stage.ours(settings=Settings(shards=64, resident_limit=2 * ACTORS)) as ours, stage.bare() as bare:
        stage.say(f"waking {population:,} actors")
        await ours.tell_all(everyone)
        await bare.tell_all(everyone)

        async def rate(contender: Ours | bare_loop.Caller) -> float:
            began = time.perf_counter()
            await contender.tell_all(keys)
            return len(keys) / (time.perf_counter() - began)

        stage.say(f"tells to {population:,} actors")
        figures = [beside(f"tell, {population:,} actors", "1/s", *await stage.in_turns(lambda: rate(ours), lambda: rate(bare)))]
        stage.say(f"asks to {population:,} actors")
        seen = await load_in_turns(
            stage,
            lambda number: ours.ask(keys[number % len(keys)]),
            lambda number: bare.ask(keys[number % len(keys)]),
            stage.size(40_000, least=256),
            256,
        )
        figures.append(beside(f"ask, 256 callers, {population:,} actors", "1/s", *[[one.rate for one in side] for side in seen]))
    return figures


async def _activations(stage: Stage) -> list[Figure]:
    new = stage.size(20_000, least=512)
    fresh: list[float] = []
    stored: list[float] = []
    limit = max(1, new // 4)
    async with stage.ours(settings=Settings(shards=64, resident_limit=limit)) as ours:
        for number in range(stage.rounds):
            first = number * new

            def ask(call: int, first: int = first) -> Awaitable[object]:
                return ours.ask(first + call)

            stage.say("activations of new actors")
            fresh.append((await closed_loop(ask, new, 256)).rate)
            stage.say("activations of stored actors")
            # Far more actors than may be resident, in the same order again: each has just been evicted.
            stored.append((await closed_loop(ask, new, 256)).rate)
    return [
        figure("activations of new actors, 256 callers", "1/s", fresh),
        figure("activations of stored actors, 256 callers", "1/s", stored, note="each evicts another"),
    ]
