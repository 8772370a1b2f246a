"""Tells and asks per second, and what a single caller waits."""

from __future__ import annotations

import time
from collections.abc import Sequence

from actors.settings import Settings
from benchmarks import bare_loop
from benchmarks.figures import Bound, Curve, Figure, Plot, Section, at_least, at_most, beside
from benchmarks.load import Figures
from benchmarks.stage import PARITY, Ours, Stage, load_in_turns, spread

CALLERS = (1, 16, 64, 256, 1024)

TELL_FLOOR = at_least(0.5)
ASK_FLOORS = {256: at_least(0.5)}
LATENCY_CEILING = at_most(1.5)

_CALLS = {1: 3_000, 16: 15_000, 64: 30_000, 256: 40_000, 1024: 60_000}


async def measure(stage: Stage) -> Section:
    """Compare at the bare loop's number of shards, and the main figures at the default number too."""
    figures: list[Figure] = []
    curves: list[Curve] = []
    for shards, callers in ((PARITY, CALLERS), (Settings().shards, (1, 256))):
        suffix = f", {shards} shards"
        async with stage.ours(settings=Settings(shards=shards)) as ours, stage.bare() as bare:
            stage.say(f"tells in batches{suffix}")
            figures.append(await _tells(stage, ours, bare, f"tell, batches of 500{suffix}"))
            for kind, our_call, bare_call in (("tell", ours.tell, bare.tell), ("ask", ours.ask, bare.ask)):
                rates: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
                for count in callers:
                    stage.say(f"{kind}s of {count} callers{suffix}")
                    calls = stage.size(_CALLS[count], least=count)
                    seen = await load_in_turns(stage, spread(our_call), spread(bare_call), calls, count)
                    await ours.drained()
                    bound = ASK_FLOORS.get(count) if kind == "ask" else None
                    figures += _compared(f"{kind}, {count} callers{suffix}", *seen, bound=bound, alone=count == 1 and kind == "ask")
                    for rate, figures_seen in zip(rates, seen, strict=True):
                        rate.append((float(count), _median_rate(figures_seen)))
                if shards == PARITY:
                    curves += [Curve(label=f"{kind}, actors", points=rates[0]), Curve(label=f"{kind}, bare loop", points=rates[1])]
    plot = Plot(
        name="throughput", title="Calls per second by number of callers", x="callers", y="calls/s", curves=curves, log_x=True, log_y=True
    )
    return Section(name="throughput", title="Throughput and latency of a closed loop", figures=figures, plots=[plot])


async def _tells(stage: Stage, ours: Ours, bare: bare_loop.Caller, name: str) -> Figure:
    messages = stage.size(100_000, least=2_000)
    keys = [number % bare_loop.ACTORS for number in range(messages)]

    async def rate(tell_all: Ours | bare_loop.Caller) -> float:
        began = time.perf_counter()
        await tell_all.tell_all(keys)
        return messages / (time.perf_counter() - began)

    pair = await stage.in_turns(lambda: rate(ours), lambda: rate(bare))
    return beside(name, "1/s", *pair, bound=TELL_FLOOR)


def _compared(name: str, ours: Sequence[Figures], bare: Sequence[Figures], *, bound: Bound | None, alone: bool) -> list[Figure]:
    figures = [beside(name, "1/s", [seen.rate for seen in ours], [seen.rate for seen in bare], bound=bound)]
    for label, ours_us, bare_us in (
        ("p50", [seen.p50_us for seen in ours], [seen.p50_us for seen in bare]),
        ("p99", [seen.p99_us for seen in ours], [seen.p99_us for seen in bare]),
    ):
        limit = LATENCY_CEILING if alone and label == "p50" else None
        figures.append(beside(f"{name}: {label}", "µs", ours_us, bare_us, bound=limit))
    return figures


def _median_rate(seen: Sequence[Figures]) -> float:
    rates = sorted(figures.rate for figures in seen)
    return rates[len(rates) // 2]
