"""Meters: plain counters that the hot path adds to and a scrape reads.

A labelled counter of a metrics library costs about as much as a fifth of a whole turn.
So the runner keeps one meter per (actor type, method), looked up once, and adds to its
integers; :mod:`actors.telemetry.prometheus` turns them into samples when somebody asks.

Meters belong to one event loop: its thread adds to them, and its thread reads them.
A reader elsewhere sees numbers that may be one turn old, never broken ones.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the time buckets: from below one round trip to the longest turn."""

SIZES: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0)
"""Upper bounds of the batch-size buckets: a full batch holds 500."""


class Histogram:
    """Counts of observed values by bucket. ``counts`` has one more than ``bounds``: the rest."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, weight: int = 1) -> None:
        """Count ``value``, standing for ``weight`` alike (of which only one was measured)."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.total += value * weight

    @property
    def count(self) -> int:
        """How many values were observed, weights included."""
        return sum(self.counts)


class MethodMeter:
    """What happened to the messages of one (actor type, method) in this runner.

    Times are observed for every turn while there are few of them, and for one in
    ``n``, with weight ``n``, in a full batch: :func:`sample_every` says which.
    """

    __slots__ = ("actor_type", "commit", "failures", "handled", "method", "queued", "retried", "run")

    def __init__(self, actor_type: str, method: str) -> None:
        self.actor_type = actor_type
        self.method = method
        self.handled = 0
        """Turns whose commit was acknowledged, those that ended in a domain error included."""
        self.retried = 0
        """Runs that ended in a defect and will be repeated."""
        self.failures: dict[str, int] = {}
        """Messages that ended in an error, by reason: ``domain``, or a ``Reason``'s value."""
        self.queued = Histogram()
        """Send to start of the turn."""
        self.run = Histogram()
        """Start to end of the turn."""
        self.commit = Histogram()
        """End of the turn to the acknowledgement of its commit."""

    def failed(self, reason: str) -> None:
        """Count one message that ended in an error."""
        self.failures[reason] = self.failures.get(reason, 0) + 1


class SendMeter:
    """What a client saw of the messages it sent to one (actor type, method)."""

    __slots__ = ("actor_type", "duplicates", "failures", "method", "round_trip", "sent")

    def __init__(self, actor_type: str, method: str) -> None:
        self.actor_type = actor_type
        self.method = method
        self.sent = 0
        """Messages acknowledged by Redis."""
        self.duplicates = 0
        """Sends whose idempotency key was known: answered from its record instead of being run again."""
        self.failures: dict[str, int] = {}
        """Sends and asks that ended in an error, by reason."""
        self.round_trip = Histogram()
        """Send to reply, for asks."""

    def failed(self, reason: str) -> None:
        """Count one send or ask that ended in an error."""
        self.failures[reason] = self.failures.get(reason, 0) + 1


class RunnerMeter:
    """What one runner does beside its single methods."""

    __slots__ = (
        "activation",
        "activations",
        "batch",
        "deactivations",
        "entries",
        "loop_lag",
        "reads",
        "timers",
    )

    def __init__(self) -> None:
        self.activations = 0
        """Actors activated."""
        self.deactivations: dict[str, int] = {}
        """Actors deactivated, by reason."""
        self.activation = Histogram()
        """Seconds to load an actor and run its ``on_activate``."""
        self.reads = 0
        """Reads that brought at least one entry."""
        self.entries = 0
        """Entries read from mailboxes and backlogs."""
        self.batch = Histogram(SIZES)
        """Turns in one acknowledged commit."""
        self.timers = 0
        """Delayed messages that became due."""
        self.loop_lag = Histogram()
        """How late the event loop wakes a timer."""

    def deactivated(self, reason: str) -> None:
        """Count one deactivation."""
        self.deactivations[reason] = self.deactivations.get(reason, 0) + 1


def sample_every(batch: int) -> int:
    """Return how many turns one timing should stand for when ``batch`` of them come at once.

    A turn alone is always timed. In a full batch the clocks and buckets of three stages
    would cost a tenth of the turn, and one in eight tells the same.
    """
    return 1 if batch <= 16 else 8
