"""What a caller waits at a given rate of arrivals: an open loop, so that a stall is paid for by all who meet it."""

from __future__ import annotations

from statistics import median

from benchmarks.figures import Curve, Figure, Plot, Section, beside
from benchmarks.load import Latencies, open_loop
from benchmarks.stage import Stage, spread

RATES = (500, 2_000, 5_000, 10_000)
DRAWN = 2_000
"""The rate whose distribution is drawn."""


async def measure(stage: Stage) -> Section:
    """Compare at several rates, each well below what either can do."""
    figures: list[Figure] = []
    curves: list[Curve] = []
    seconds = stage.seconds(5)
    async with stage.ours() as ours, stage.bare() as bare:
        for rate in RATES:
            stage.say(f"asks at {rate} a second")
            rounds: tuple[list[Latencies], list[Latencies]] = ([], [])
            for _ in range(stage.rounds):
                rounds[0].append(await open_loop(spread(ours.ask), rate, seconds))
                rounds[1].append(await open_loop(spread(bare.ask), rate, seconds))
            for label, of in (("p50", _p50), ("p99", _p99), ("p99.9", _p999)):
                figures.append(beside(f"ask at {rate}/s: {label}", "µs", *[[of(seen) for seen in side] for side in rounds]))
            if rate == DRAWN:
                curves = [Curve(label=label, points=_curve(side)) for label, side in zip(("actors", "bare loop"), rounds, strict=True)]
    plot = Plot(
        name="latency",
        title=f"Latency of asks arriving at {DRAWN}/s, counted from when each was due",
        x="percentile",
        y="µs",
        curves=curves,
        log_y=True,
    )
    return Section(name="latency", title="Latency of an open loop", figures=figures, plots=[plot])


def _p50(seen: Latencies) -> float:
    return seen.p50_us


def _p99(seen: Latencies) -> float:
    return seen.p99_us


def _p999(seen: Latencies) -> float:
    return seen.p999_us


def _curve(rounds: list[Latencies]) -> list[tuple[float, float]]:
    """The median over the rounds at each percentile."""
    by_percentile = zip(*[seen.curve for seen in rounds], strict=True)
    return [(points[0][0], median(value for _, value in points)) for points in by_percentile]
