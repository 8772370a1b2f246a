"""A runner's answers: fresh, and honest before the start and after the end."""

from __future__ import annotations

import json

from actors.cli.probes import PING_AGAIN_AFTER, Probes
from actors.errors import PersistenceFailed
from actors.telemetry.health import STALE_AFTER
from actors.telemetry.prometheus import Exposition
from actors.telemetry.recorder import Recorder


class Clock:
    """Time as the test says."""

    now = 1000.0

    def boottime(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Subject:
    """A runner that is as the test says."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lease_trusted_until = clock.now + 1000
        self.loop_turned_at = clock.now
        self.pings = 0
        self.answers = True

    async def ping(self, timeout: float = 2.0) -> None:
        self.pings += 1
        if not self.answers:
            raise PersistenceFailed(problem="no answer within 2 s")


def probes(clock: Clock) -> Probes:
    return Probes(Exposition(Recorder(), system="bank", runner="pod-1"), clock, actor_types=1)


async def test_a_runner_that_starts_is_alive_and_not_ready() -> None:
    routes = probes(Clock()).routes()

    assert (await routes["/livez"]()).status == 200
    assert (await routes["/readyz"]()).status == 503


async def test_ready_follows_redis_within_a_second() -> None:
    clock = Clock()
    tested = probes(clock)
    tested.runner = subject = Subject(clock)
    ready = tested.routes()["/readyz"]

    assert (await ready()).status == 200
    subject.answers = False
    clock.now += PING_AGAIN_AFTER
    subject.loop_turned_at = clock.now
    answer = await ready()

    assert answer.status == 503
    assert "no answer within 2 s" in json.loads(answer.body)["failing"][0]


async def test_probes_that_come_at_once_share_a_ping() -> None:
    """Ten probes a second must not become ten commands a second."""
    clock = Clock()
    tested = probes(clock)
    tested.runner = subject = Subject(clock)

    for _ in range(10):
        await tested.routes()["/readyz"]()

    assert subject.pings == 1


async def test_no_answer_is_older_than_ten_seconds() -> None:
    """A yes is always from a PING of now: there is no background check whose last result could stand."""
    clock = Clock()
    tested = probes(clock)
    tested.runner = subject = Subject(clock)
    await tested.routes()["/readyz"]()
    clock.now += STALE_AFTER * 2
    subject.loop_turned_at = clock.now

    assert (await tested.routes()["/readyz"]()).status == 200
    assert subject.pings == 2


async def test_a_draining_runner_is_taken_out_and_left_alone() -> None:
    clock = Clock()
    tested = probes(clock)
    tested.runner = Subject(clock)
    tested.draining = True

    assert (await tested.routes()["/livez"]()).status == 200
    assert (await tested.routes()["/readyz"]()).status == 503
