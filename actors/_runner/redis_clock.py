"""What time it is in Redis, as seen from here.

Deadlines age by Redis' clock and not by any sender's: an entry's id holds the moment it
was appended, its envelope the budget. The runner needs only the difference between that
clock and its own, taken from replies that were fast, since half their round trip is what
the estimate may be off by.
"""

from __future__ import annotations

from actors.clock import Clock


class RedisClock:
    """An estimate of Redis' clock on top of this machine's boottime."""

    __slots__ = ("_clock", "_error", "_offset", "_taken")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.time() - clock.boottime()
        self._error = float("inf")
        self._taken = 0.0

    def sample(self, redis_seconds: float, *, asked: float, heard: float) -> None:
        """Take in a reading of Redis' clock that was asked for and heard at these boottimes."""
        error = (heard - asked) / 2
        # An old sample may have drifted: what is good enough grows by 1 ms in 10 s.
        if error <= self._error + (heard - self._taken) * 1e-4:
            self._error = error
            self._taken = heard
            self._offset = redis_seconds - (asked + heard) / 2

    def now_ms(self) -> float:
        """Redis' time in milliseconds since 1970."""
        return (self._clock.boottime() + self._offset) * 1000

    def boottime(self, redis_ms: float) -> float:
        """Return the boottime at which Redis' clock shows ``redis_ms``."""
        return redis_ms / 1000 - self._offset

    def arrived(self, entry: bytes) -> float:
        """Return the boottime at which an entry was appended."""
        return int(entry[: entry.index(b"-")]) / 1000 - self._offset

    def deadline(self, entry: bytes, budget_ms: int) -> float:
        """Return the boottime at which a message's budget ends."""
        return (int(entry[: entry.index(b"-")]) + budget_ms) / 1000 - self._offset
