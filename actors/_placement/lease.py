"""How long a runner may trust that nobody else has its shards.

A lease is a key in Redis that lives for ``ttl`` seconds after each renewal. While it is
there nobody takes the runner's shards; once it is gone anybody may. So the runner must
stop *before* the key can have gone, by its own clock alone, since the network may be what
has failed:

* Trust is counted from the moment before a renewal was sent. Redis starts the new time
  to live when the renewal arrives, which is later; so a slow round trip shortens trust and
  never stretches it. A margin covers clocks that do not run equally fast.
* The clock runs on while the machine is suspended.
* Renewals go on only while the event loop ticks. A runner whose loop is blocked cannot
  serve its shards, and must lose them.

Trust that has ended does not come back by itself: an answer that arrives after the deadline, or
one that says the key had been gone, is only an *offer*. Others may hold some of the shards by
then, and handlers may still run that were to be stopped. The offer is taken
(:meth:`Lease.resume`) once that has been cleaned up.

Correctness never rests on any of this: every write names its epoch, and Redis refuses
a stale one. The lease keeps a runner from doing work that would be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec


class Terms(msgspec.Struct, frozen=True):
    """What follows from the length of a lease, all in seconds."""

    ttl: float
    margin: float
    """Trust ends this long before the key can be gone."""
    renew_every: float
    retry_every: float
    """Pause after a renewal without an answer."""
    watch: float
    """How long a newcomer watches the holder of its name. Longer than ``renew_every``."""
    beat: float
    """How often the event loop is asked for a sign of life."""
    silence: float
    """Without one for this long there are no renewals."""
    timeout: float
    """Longest wait for one renewal."""


def terms(lease: float) -> Terms:
    """Return the terms of a lease of ``lease`` seconds."""
    return Terms(
        ttl=lease,
        margin=lease / 10,
        renew_every=lease / 4,
        retry_every=lease / 20,
        watch=lease / 3,
        beat=lease / 20,
        silence=lease / 5,
        timeout=lease / 5,
    )


class Progress(NamedTuple):
    """How renewing has gone so far; times by the boot clock."""

    asked: float
    """When the last renewal that was answered was sent."""
    tried: float
    """When the last one was sent, answered or not."""

    def sent(self, now: float) -> Progress:
        """Return the progress after sending one."""
        return Progress(self.asked, now)

    def answered(self) -> Progress:
        """Return the progress after the answer to the last one sent."""
        return Progress(self.tried, self.tried)


class Renew(NamedTuple):
    """Send a renewal now."""


class Wait(NamedTuple):
    """There is nothing to do for so many seconds."""

    seconds: float


class Silent(NamedTuple):
    """A renewal is due, but the event loop has given no sign of life for ``seconds``: do not renew."""

    seconds: float


def next_step(progress: Progress, *, now: float, ticked: float, terms: Terms) -> Renew | Wait | Silent:
    """Return what to do at ``now``, the event loop having ticked last at ``ticked``."""
    failing = progress.tried > progress.asked
    due = progress.tried + (terms.retry_every if failing else terms.renew_every)
    if now < due:
        return Wait(due - now)
    if now - ticked > terms.silence:
        return Silent(now - ticked)
    return Renew()


class Lease:
    """The trust that one incarnation has, as its host and committer ask for it."""

    __slots__ = ("_boottime", "_offered", "_terms", "ended", "until")

    def __init__(self, boottime: Callable[[], float], terms: Terms) -> None:
        self._boottime = boottime
        self._terms = terms
        self.until = _NEVER
        """When trust ends, by the boot clock, unless it is renewed. In the past where it has ended."""
        self._offered = _NEVER
        self.ended = False
        """Given up for good: not trusted, not renewed."""

    def trusted(self) -> bool:
        """Whether nobody else can have our shards yet. Asked before every turn, send and commit."""
        return self._boottime() < self.until

    @property
    def offered(self) -> bool:
        """Whether an answer is there with which trust could begin anew."""
        return self._offered > self._boottime()

    @property
    def remaining(self) -> float:
        """Seconds of trust left, 0 where there is none."""
        return max(self.until - self._boottime(), 0.0)

    def granted(self, *, asked: float, unbroken: bool) -> bool:
        """Take in the answer to a renewal that was sent at ``asked``; return whether trust goes on.

        ``unbroken``: the key was there all along. Called from the renewal's thread.
        """
        if self.ended:
            return False
        until = asked + self._terms.ttl - self._terms.margin
        if unbroken and self._boottime() < self.until:
            self.until = max(self.until, until)
            return True
        self.until = _NEVER
        self._offered = until
        return False

    def resume(self) -> bool:
        """Trust the answer that came last, everything of the time before having been dropped or checked."""
        self.until = max(self.until, self._offered)
        self._offered = _NEVER
        return self.trusted()

    def end(self) -> None:
        """Give up for good: nothing is trusted any more, nor renewed."""
        self.ended = True
        self.until = self._offered = _NEVER


_NEVER = float("-inf")
