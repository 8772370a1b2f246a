"""What a measurement hands over: figures beside their yardstick and their bound, and curves to draw."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

Point = tuple[float, float]


class Bound(msgspec.Struct, frozen=True):
    """What a figure must not fall below, or exceed."""

    limit: float
    at_least: bool

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps it."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def at_least(limit: float) -> Bound:
    """A floor."""
    return Bound(limit, at_least=True)


def at_most(limit: float) -> Bound:
    """A ceiling."""
    return Bound(limit, at_least=False)


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    name: str
    unit: str
    value: float
    """The median over the rounds."""
    rounds: list[float]
    bare: float | None = None
    """The bare loop's, likewise, from rounds taken in turns with ours."""
    ratio: float | None = None
    """The median over the rounds of ours / bare."""
    bound: Bound | None = None
    """What the ratio, or without one the value, must keep."""
    note: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the bound is kept; ``None`` without one."""
        if self.bound is None:
            return None
        return self.bound.holds(self.value if self.ratio is None else self.ratio)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a plot."""

    label: str
    points: list[Point]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """One picture."""

    name: str
    title: str
    x: str
    y: str
    curves: list[Curve]
    log_x: bool = False
    log_y: bool = False


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What one measurement found."""

    name: str
    title: str
    figures: list[Figure]
    plots: list[Plot] = []


def figure(name: str, unit: str, rounds: Sequence[float], *, bound: Bound | None = None, note: str = "") -> Figure:
    """Return a figure with no yardstick."""
    return Figure(name=name, unit=unit, value=median(rounds), rounds=list(rounds), bound=bound, note=note)


def beside(name: str, unit: str, ours: Sequence[float], bare: Sequence[float], *, bound: Bound | None = None, note: str = "") -> Figure:
    """Return a figure beside the bare loop's: each round is compared with the one taken next to it."""
    return Figure(
        name=name,
        unit=unit,
        value=median(ours),
        rounds=list(ours),
        bare=median(bare),
        ratio=median(one / other for one, other in zip(ours, bare, strict=True)),
        bound=bound,
        note=note,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that ``percent`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100).__int__() - 1))]


def distribution(values: Sequence[float]) -> list[Point]:
    """Return (value, share not above it) for drawing."""
    ordered = sorted(values)
    return [(value, (index + 1) / len(ordered)) for index, value in enumerate(ordered)]
