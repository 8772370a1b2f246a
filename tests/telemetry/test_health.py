"""Probes: what counts as alive and as ready, case by case."""

from __future__ import annotations

import msgspec
import pytest

from actors.telemetry.health import LOOP_BLOCKED_AFTER, STALE_AFTER, Check, Verdict, Vitals, live, ready, together

WELL = Vitals(now=1000.0, loop_turned_at=999.9, redis_answered_at=999.0, lease_trusted_until=1007.0, actor_types=2)


def but(**changes: object) -> Vitals:
    return msgspec.structs.replace(WELL, **changes)


def test_a_well_runner_lives_and_is_ready() -> None:
    assert live(WELL).ok
    assert ready(WELL).ok


@pytest.mark.parametrize(
    ("vitals", "lives", "named"),
    [
        (but(loop_turned_at=1000.0 - LOOP_BLOCKED_AFTER - 1), False, "loop"),
        (but(failed_service="placement"), False, "services"),
        (but(redis_answered_at=None), True, "redis"),
        (but(redis_answered_at=999.9, redis_problem="timed out"), True, "redis"),
        (but(lease_trusted_until=None), True, "lease"),
        (but(lease_trusted_until=999.0), True, "lease"),
        (but(actor_types=0), True, "types"),
        (but(draining=True), True, "draining"),
    ],
)
def test_one_thing_wrong_is_named(vitals: Vitals, lives: bool, named: str) -> None:  # noqa: FBT001 - a table's column
    """Only what a restart mends ends a process; the rest takes it out of service."""
    verdict = ready(vitals)

    assert live(vitals).ok is lives
    assert [check.name for check in verdict.checks if not check.ok] == [named]
    assert named in str(verdict.report()["failing"])


def test_an_old_answer_of_redis_is_none() -> None:
    assert ready(but(redis_answered_at=WELL.now - STALE_AFTER)).ok
    assert not ready(but(redis_answered_at=WELL.now - STALE_AFTER - 0.1)).ok


def test_several_processes_are_as_well_as_the_worst() -> None:
    well = ready(WELL).checks

    assert together({"pod-0": well, "pod-1": well}).ok
    assert not together({"pod-0": well, "pod-1": None}).ok
    assert not together({}).ok
    sick = together({"pod-0": well, "pod-1": (Check("redis", ok=False, detail="timed out"),)})
    assert sick.report()["failing"] == ["pod-1/redis: timed out"]


def test_a_verdict_survives_its_report() -> None:
    """A parent reads what its children answered to the same question."""
    verdict = ready(but(draining=True))

    assert Verdict.read(msgspec.json.encode(verdict.report())) == verdict
