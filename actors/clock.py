"""Time as the rest of the package sees it: one seam, so that tests can bring their own."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What our logic knows of time."""

    def boottime(self) -> float:
        """Seconds since some fixed moment. Never steps back, and runs on while the machine is suspended."""
        ...

    def time(self) -> float:
        """Seconds since 1970. For display and ids only: it follows whoever sets the clock."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after at least ``seconds``."""
        ...


class SystemClock:
    """The machine's clock.

    A lease that is trusted by a clock which stops during a suspend would be trusted
    long after Redis gave it away, so ``boottime`` is CLOCK_BOOTTIME wherever there is
    one (Linux). Elsewhere it is the monotonic clock, which on macOS stops in a suspend:
    there a runner that wakes up relies on its first fenced write to find out.
    """

    def __init__(self) -> None:
        clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
        self.boottime: Callable[[], float] = time.monotonic if clock is None else functools.partial(time.clock_gettime, clock)
        """Seconds since boot, suspends included. Asked before every turn: an attribute, so that there is no frame of ours in between."""

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop. A suspend may lengthen it, never shorten it."""
        await asyncio.sleep(seconds)
