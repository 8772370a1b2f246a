"""Whether a runner lives, and whether it can work: decisions over what was seen.

*Live* means a restart would not help: the event loop turns and the runner's services
run. *Ready* means messages of its shards are being handled: Redis answered within its
time-out, the lease is renewed, actor types are registered, it is not draining. Nothing
seen more than :data:`STALE_AFTER` seconds ago counts as seen: a probe is never answered
with an old yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

STALE_AFTER: Final = 10.0
"""An observation older than this, in seconds, is none."""

LOOP_BLOCKED_AFTER: Final = 5.0
"""A loop that has not turned for this long is not alive."""


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """What was last seen of a runner. All times are of one clock, in seconds."""

    now: float
    loop_turned_at: float
    """When the event loop last woke a timer."""
    redis_answered_at: float | None
    """When Redis last answered a PING that was sent at most ``redis_timeout`` before; ``None``: never."""
    redis_problem: str = ""
    """Why the last PING failed, where it did."""
    redis_timeout: float = 2.0
    """How long a PING may take."""
    lease_trusted_until: float | None = None
    """When this runner would stop on its own; ``None``: it has no lease yet."""
    actor_types: int = 0
    """How many actor types the system has."""
    draining: bool = False
    """Whether the runner is giving its shards away."""
    failed_service: str = ""
    """The service that ended the runner, if one did."""


class Check(msgspec.Struct, frozen=True):
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


class Verdict(msgspec.Struct, frozen=True):
    """All that was looked at; ``ok`` when every check is."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok for check in self.checks)

    def report(self) -> dict[str, object]:
        """Return the verdict as the JSON object that a probe answers."""
        return {
            "status": "ok" if self.ok else "failing",
            "failing": [f"{check.name}: {check.detail}" for check in self.checks if not check.ok],
            "checks": self.checks,
        }

    @classmethod
    def read(cls, body: bytes) -> Verdict:
        """Read a verdict that another process reported as JSON. Raises ``msgspec.DecodeError``."""
        return cls(msgspec.json.decode(body, type=_Report).checks)


class _Report(msgspec.Struct):
    checks: tuple[Check, ...]


def live(vitals: Vitals) -> Verdict:
    """Return whether the process should be left alone rather than restarted."""
    return Verdict((_loop(vitals), _services(vitals)))


def ready(vitals: Vitals) -> Verdict:
    """Return whether the runner handles the messages of its shards."""
    return Verdict((_loop(vitals), _services(vitals), _redis(vitals), _lease(vitals), _types(vitals), _draining(vitals)))


def together(verdicts: Mapping[str, Sequence[Check] | None]) -> Verdict:
    """Return one verdict for several processes by name; ``None`` where one did not answer."""
    checks: list[Check] = []
    for name, seen in verdicts.items():
        if seen is None:
            checks.append(Check(name, ok=False, detail="does not answer"))
        else:
            checks.extend(Check(f"{name}/{check.name}", check.ok, check.detail) for check in seen)
    return Verdict(tuple(checks) or (Check("processes", ok=False, detail="none is running"),))


def _loop(vitals: Vitals) -> Check:
    late = vitals.now - vitals.loop_turned_at
    return Check("loop", late < LOOP_BLOCKED_AFTER, f"turned {late:.1f} s ago")


def _services(vitals: Vitals) -> Check:
    failed = vitals.failed_service
    return Check("services", not failed, f"{failed} failed" if failed else "running")


def _redis(vitals: Vitals) -> Check:
    answered = vitals.redis_answered_at
    problem = f" ({vitals.redis_problem})" if vitals.redis_problem else ""
    if answered is None:
        return Check("redis", ok=False, detail=f"has not answered within {vitals.redis_timeout:g} s yet{problem}")
    age = vitals.now - answered
    fresh = age <= STALE_AFTER and not vitals.redis_problem
    return Check("redis", fresh, f"answered {age:.1f} s ago{problem}")


def _lease(vitals: Vitals) -> Check:
    until = vitals.lease_trusted_until
    if until is None:
        return Check("lease", ok=False, detail="not acquired yet")
    left = until - vitals.now
    return Check("lease", left > 0, f"{left:.1f} s left" if left > 0 else f"ended {-left:.1f} s ago without a renewal")


def _types(vitals: Vitals) -> Check:
    count = vitals.actor_types
    return Check("types", count > 0, f"{count} actor types" if count else "no actor types are registered")


def _draining(vitals: Vitals) -> Check:
    return Check("draining", not vitals.draining, "giving its shards away" if vitals.draining else "no")
