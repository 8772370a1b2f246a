"""Placement at work, in virtual time: who holds what, through joins, leaves, deaths and faults."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from actors._placement.membership import Member
from actors._placement.service import Statistics
from actors._redis.connection import Server
from actors._redis.faults import Loading, OutOfMemory, ReadOnly
from actors.errors import ConfigurationError
from actors.settings import Settings
from actors.telemetry.events import (
    AssignmentWritten,
    LeaseExpired,
    LeaseRevived,
    MembershipChanged,
    RunnerDraining,
    ShardAcquired,
    ShardLost,
    TakeoverEnded,
)
from actors.testing.faults import Disconnects, DropsReply, DropsRequest, ExecutesLate, Fails
from tests.placement.world import FakeWorld, Runner

Scenario = Callable[[FakeWorld], Awaitable[None]]
Virtually = Callable[..., None]

LEASE = 10.0


def lost(runner: Runner) -> int:
    return sum(what == "lost" for what, _ in runner.host.log)


def even(world: FakeWorld) -> bool:
    """Whether all runners hold what is assigned to them, evenly, and every shard is held by its recorded owner."""
    held = world.spread(*world.runners)
    owners = world.owners()
    return (
        sum(held) == world.settings.shards
        and held[-1] - held[0] <= 1
        and all(owners[shard.label] == runner.incarnation for runner in world.runners for shard in runner.host.held)
        and all(runner.service.lease.trusted() for runner in world.runners)
    )


# joining and leaving


def test_the_first_runner_takes_every_shard_before_it_is_ready(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")

        assert a.held == 64
        assert set(world.owners().values()) == {a.incarnation}

    virtually(scenario)


def test_many_that_start_at_once_agree_on_one_assignment(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        runners = [world.runner(f"r{i}") for i in range(7)]
        await world.until(lambda: even(world))

        assert {runner.service.assignment.version for runner in runners} == {runners[0].service.assignment.version}
        assert sum(runner.held for runner in runners) == 64

    virtually(scenario)


def test_a_join_moves_no_more_than_the_newcomers_share(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        before = world.owners()
        (c,) = await world.join("c")
        await world.until(lambda: even(world))
        moved = sum(before[shard] != owner for shard, owner in world.owners().items())

        assert moved == c.held <= -(-64 // 3)
        assert lost(a) == lost(b) == 0, "what moved was drained"

    virtually(scenario)


def test_a_shard_moves_the_moment_it_is_released(virtually: Virtually) -> None:
    """Without waiting for anybody's next look: in virtual time, where a round trip takes none, at once."""

    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        a.host.drain_takes = 3.0
        (b,) = await world.join("b")
        assert b.held == 0
        took = await world.until(lambda: even(world))

        assert took == pytest.approx(3.0, abs=0.01)

    virtually(scenario)


def test_slow_drains_hold_up_nothing_else(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        drains: dict[int, float] = {}
        plain = a.host.drain

        async def drain(shard: Any) -> str | None:
            a.host.drain_takes = drains[shard.index] = 0.0 if shard.index % 2 else 5.0
            return await plain(shard)

        a.host.drain = drain  # type: ignore[method-assign]
        (b,) = await world.join("b")
        await world.until(lambda: len(drains) == 32)
        quick = sum(not seconds for seconds in drains.values())
        assert await world.until(lambda: b.held == quick) < 0.1

        assert 0 < quick < 32
        assert await world.until(lambda: b.held == 32) == pytest.approx(5.0, abs=0.1)

    virtually(scenario)


def test_a_stopped_runner_has_handed_over_everything_when_stop_returns(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        a.host.drain_takes = 0.05
        began = world.clock.boottime()
        await a.service.stop()

        assert world.clock.boottime() - began == pytest.approx(0.05, abs=0.02)
        assert a.held == 0
        assert a.incarnation not in world.owners().values()
        assert world.server.execute("EXISTS", world.keys.lease(a.incarnation)) == 0
        assert world.server.execute("HEXISTS", world.keys.members, "a") == 0
        assert lost(a) == 0
        world.runners.remove(a)
        assert await world.until(lambda: b.held == 64) < 0.05
        await world.clock.sleep(LEASE * 2)
        assert world.server.execute("EXISTS", world.keys.lease(a.incarnation)) == 0, "nor is the lease renewed by mistake"
        assert not a.task.done(), "it waits to be cancelled, as every service does"
        await a.end()

    virtually(scenario)


def test_the_last_runner_leaves_all_shards_free_and_clean(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        await a.service.stop()

        assert set(world.owners().values()) == {None}
        began = world.clock.boottime()
        (b,) = await world.join("b")
        assert b.held == 64
        assert world.clock.boottime() - began < 0.1, "nobody has to wait for a lease"
        assert not any(event.unclean for event in b.telemetry.of(ShardAcquired))

    virtually(scenario)


def test_a_runner_on_its_way_out_takes_nothing_new(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        a.host.drain_takes = 5.0
        a.service.leave()
        world.kill(b)
        grants = len([what for what, _ in a.host.log if what == "granted"])
        await world.clock.sleep(20.0)

        assert len([what for what, _ in a.host.log if what == "granted"]) == grants
        assert a.held == 0
        world.runners.remove(a)
        await a.end()

    virtually(scenario)


def test_renewals_outlive_the_last_drain(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        a.host.drain_takes = 20.0
        await a.service.stop()

        assert lost(a) == 0
        assert a.service.statistics().lapses == 0
        assert not any(event.unclean for event in b.telemetry.of(ShardAcquired))

    virtually(scenario)


def test_a_drain_that_does_not_end_is_cut_and_the_shard_runs_elsewhere(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        a.host.drain_takes = 1e6
        began = world.clock.boottime()
        await a.service.stop()

        assert world.clock.boottime() - began == pytest.approx(25.0 + 2 * 10.0 + 2.0, abs=0.2)
        assert lost(a) == 32
        world.runners.remove(a)
        await world.until(lambda: b.held == 64)
        await a.end()

    virtually(scenario)


def test_a_shard_that_comes_back_while_it_drains_is_taken_anew(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        a.host.drain_takes = 5.0
        (b,) = await world.join("b")
        await b.service.stop()
        world.runners.remove(b)
        await b.end()
        await world.until(lambda: even(world))

        assert a.held == 64
        assert lost(a) == 0

    virtually(scenario)


def test_weights_and_groups_decide_who_gets_how_many(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        heavy = world.runner("heavy", Settings(shards=60, weight=3))
        light = world.runner("light", Settings(shards=60))
        both = world.runner("both", Settings(shards=60, shard_groups=("default", "gpu"), weight=2))
        await world.until(lambda: [heavy.held, light.held, both.held] == [30, 10, 20 + 60])

        assert {shard.group for shard in heavy.host.held} == {"default"}
        gpu = world.runner("gpu", Settings(shards=60, shard_groups=("gpu",), weight=1))
        await world.until(lambda: [gpu.held, both.held] == [20, 20 + 40])
        versions = [runner.service.assignment.version for runner in world.runners]
        await world.clock.sleep(30)
        assert [runner.service.assignment.version for runner in world.runners] == versions, "settled"

    virtually(scenario)


def test_members_can_be_watched(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        seen: list[list[str]] = []

        def changed(members: Mapping[str, Member]) -> None:
            seen.append(sorted(members))

        a.service.watch(changed)
        (b,) = await world.join("b")
        await world.until(lambda: even(world))
        await b.service.stop()
        await world.until(lambda: a.held == 64)

        await world.until(lambda: seen[-1] == ["a"])

        assert seen[0] == ["a", "b"]
        assert sorted(a.service.members) == ["a"]

    virtually(scenario)


# death


@pytest.mark.parametrize("lease", [1.0, 10.0])
def test_a_killed_runners_shards_run_within_the_lease_and_two_seconds(virtually: Virtually, lease: float) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b, c = await world.join("a", "b", "c")
        await world.until(lambda: even(world))
        for _ in range(5):
            world.kill(c)
            took = await world.until(lambda: even(world))
            assert took <= lease + 2.0
            assert took > lease * 0.7 - 0.5, "and not before it has ended"
            (c,) = await world.join("c")
            await world.until(lambda: even(world))

        assert lost(a) == lost(b) == 0
        assert a.service.statistics().takeovers > 0
        assert all(event.seconds < 1.0 for event in a.telemetry.of(TakeoverEnded))

    virtually(scenario, Settings(shards=64, lease=lease))


def test_when_all_have_died_a_new_one_takes_over_as_soon_as_their_leases_end(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        for runner in await world.join("a", "b"):
            world.kill(runner)
        (c,) = await world.join("c")
        assert await world.until(lambda: c.held == 64) <= LEASE + 2.0

        assert all(event.unclean for event in c.telemetry.of(ShardAcquired))

    virtually(scenario)


def test_a_lease_is_not_taken_before_it_is_free(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        world.kill(b)
        while world.server.execute("EXISTS", world.keys.lease(b.incarnation)):
            assert a.held == 32
            await world.clock.sleep(0.05)
        await world.until(lambda: a.held == 64)

    virtually(scenario)


# cut off, paused, forgotten


def test_who_is_cut_off_stops_by_its_own_clock_before_others_take_over(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        world.server.faults.partition("a")
        await world.until(lambda: not a.service.lease.trusted())
        assert b.held == 32
        assert world.server.execute("EXISTS", world.keys.lease(a.incarnation)) == 1
        await world.until(lambda: a.held == 0)
        await world.until(lambda: b.held == 64, within=LEASE + 2)
        world.server.faults.heal("a")
        await world.until(lambda: even(world))

        assert lost(b) == 0
        assert a.telemetry.of(LeaseExpired)[0].shards == 32
        assert len(a.telemetry.of(LeaseRevived)) == 1

    virtually(scenario)


def test_a_short_cut_moves_nothing(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        version = a.service.assignment.version
        world.server.faults.partition("a")
        await world.clock.sleep(5.5)
        world.server.faults.heal("a")
        await world.clock.sleep(30)

        assert even(world)
        assert a.service.assignment.version == version
        assert lost(a) == lost(b) == 0

    virtually(scenario)


def test_a_runner_paused_beyond_its_lease_drops_everything_and_joins_anew(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        world.server.faults.pause("a")
        await world.until(lambda: b.held == 64)
        world.server.faults.resume("a")
        await world.until(lambda: even(world))

        assert lost(a) == 32
        assert a.service.statistics().lapses == 1

    virtually(scenario)


def test_when_redis_stalls_longer_than_the_lease_nothing_moves(virtually: Virtually) -> None:
    """All leases are gone at once when it is back, until the renewals that waited are read. Nobody died."""

    async def scenario(world: FakeWorld) -> None:
        a, b, c = await world.join("a", "b", "c")
        await world.until(lambda: even(world))
        before = world.owners()
        version = a.service.assignment.version
        world.server.faults.partition()
        await world.clock.sleep(15)
        assert [a.held, b.held, c.held] == [0, 0, 0]
        world.server.faults.heal()
        await world.until(lambda: even(world))

        assert world.owners() == before
        assert a.service.assignment.version == version

    virtually(scenario)


def test_a_server_that_restarts_without_scripts_costs_nothing(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        world.server.stop()
        await world.clock.sleep(4)
        world.server.start()
        await world.clock.sleep(20)

        assert even(world)
        assert lost(a) == lost(b) == 0

    virtually(scenario)


def test_when_redis_loses_everything_all_is_recorded_and_taken_anew(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        facts = world.server.execute("HGETALL", world.keys.facts)
        world.server.execute("FLUSHALL")
        await world.clock.sleep(1)
        took = await world.until(lambda: len(world.owners()) == 64 and even(world))

        assert took < 15
        assert sorted(world.server.execute("HGETALL", world.keys.facts)) == sorted(facts)
        assert world.server.execute("HLEN", world.keys.members) == 2
        assert lost(a) + lost(b) == 64

    virtually(scenario)


def test_when_redis_goes_back_in_time_what_it_forgot_is_taken_anew(virtually: Virtually) -> None:
    """A failover to a replica that lagged behind."""

    async def scenario(world: FakeWorld) -> None:
        a, _b = await world.join("a", "b")
        await world.until(lambda: even(world))
        behind = world.server.snapshot()
        world.referee.strict = False  # what a lease promises is only as good as Redis' memory; commits are fenced all the same
        (c,) = await world.join("c")
        await world.until(lambda: even(world))
        world.server.restore(behind)
        await world.clock.sleep(1)
        await world.until(lambda: even(world))

        assert c.held > 0
        assert [event for event in c.telemetry.of(ShardLost) if "record" in event.why or "taken" in event.why]
        assert a.held > 0

    virtually(scenario)


def test_nothing_depends_on_anybodys_wall_clock(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        def forbidden() -> float:
            raise AssertionError("placement asked for the wall clock")

        world.clock.time = forbidden  # type: ignore[method-assign]
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        world.kill(b)
        await world.until(lambda: a.held == 64)
        await a.service.stop()

    # The fake server must keep a clock of its own.
    virtually(scenario, own_server_clock=True)


# answers that are lost


@pytest.mark.parametrize("fault", [DropsReply(), DropsRequest(), Disconnects(applied=True), Disconnects(applied=False), ExecutesLate(7.0)])
def test_an_acquire_without_an_answer_is_cleared_up(virtually: Virtually, fault: Any) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        world.server.faults.inject(fault, owner="b", script="acquire")
        b = world.runner("b")
        await world.until(lambda: even(world))
        await world.clock.sleep(10)

        assert even(world)
        assert lost(a) == 0
        await b.service.stop()
        world.runners.remove(b)
        await world.until(lambda: a.held == 64)
        await b.end()

    virtually(scenario)


@pytest.mark.parametrize("fault", [DropsReply(), ExecutesLate(6.0)])
def test_an_acquire_that_applies_while_its_target_moves_is_given_back(virtually: Virtually, fault: Any) -> None:
    """Nobody else could take the shard while our lease lives, and we could not leave."""

    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        world.server.faults.inject(fault, owner="b", script="acquire")
        b = world.runner("b")
        await world.until(lambda: b.service.assignment.version >= 2)
        world.server.faults.partition("b", "placement")
        b.service.leave()
        await world.clock.sleep(1)
        world.server.faults.heal("b", "placement")
        await b.service.stop()

        assert b.incarnation not in world.owners().values()
        world.runners.remove(b)
        await world.until(lambda: a.held == 64)
        await b.end()

    virtually(scenario)


@pytest.mark.parametrize("script", ["release", "leave", "assign", "register", "prune"])
@pytest.mark.parametrize("fault", [DropsReply(), DropsRequest(), ExecutesLate(6.0)])
def test_any_answer_may_be_lost(virtually: Virtually, script: str, fault: Any) -> None:
    async def scenario(world: FakeWorld) -> None:
        injected = world.server.faults.inject(fault, script=script)
        a, b, c = await world.join("a", "b", "c")
        await world.until(lambda: even(world))
        world.kill(c)
        await world.until(lambda: even(world))
        await b.service.stop()
        world.runners.remove(b)
        await world.until(lambda: a.held == 64)

        assert injected.hits == 1
        assert lost(a) == lost(b) == 0
        await b.end()

    virtually(scenario)


@pytest.mark.parametrize("fault", [OutOfMemory("OOM"), ReadOnly("READONLY"), Loading("LOADING")])
def test_a_server_that_refuses_for_a_while_is_waited_for(virtually: Virtually, fault: Exception) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        refusing = world.server.faults.inject(Fails(fault), when=lambda call: call.name != "CONNECT", times=None)  # type: ignore[arg-type]
        b = world.runner("b")
        await world.clock.sleep(5)
        world.server.faults.withdraw(refusing)
        await world.until(lambda: even(world))

        assert lost(a) == 0
        assert b.held == 32

    virtually(scenario)


def test_a_leaver_that_cannot_reach_redis_goes_when_its_lease_is_long_gone(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        world.server.faults.partition("a")
        began = world.clock.boottime()
        await a.service.stop()

        assert world.clock.boottime() - began < 2 * LEASE + 15
        assert a.held == 0
        world.runners.remove(a)
        await world.until(lambda: b.held == 64)
        await a.end()

    virtually(scenario)


def test_a_fenced_host_can_have_everything_looked_at_at_once(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        shard = min(a.host.held)
        world.server.execute("HSET", world.keys.own, shard.label, f"{'f' * 16} 5 0 0 0-0")
        a.service.recheck()
        await world.until(lambda: shard in a.host.held and world.record(shard).text == a.host.held[shard].token, within=2.0)

        assert lost(a) == 1

    virtually(scenario)


# names and facts


async def refused(runner: Runner) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        await runner.task
    runner.host.trusted = lambda: False
    return caught.value


def test_a_name_in_use_is_refused_within_one_renewal_interval(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        began = world.clock.boottime()
        second = world.runner("a")
        error = await refused(second)
        world.runners.remove(second)

        assert world.clock.boottime() - began <= LEASE / 3 + 0.1
        assert error.setting == "runner_name"
        assert a.incarnation in str(error)
        assert "process 1" in str(error)
        assert even(world)
        assert lost(a) == 0

    virtually(scenario)


def test_a_name_is_free_one_renewal_interval_after_a_crash(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        await world.clock.sleep(1.0)
        world.kill(a)
        world.server.faults.revive("a")
        began = world.clock.boottime()
        (again,) = await world.join("a")
        assert world.clock.boottime() - began <= LEASE / 3 + 0.1
        assert again.held == 0, "the shards follow the lease, not the name"
        await world.until(lambda: again.held == 64)

        assert world.clock.boottime() - began <= LEASE + 2

    virtually(scenario)


def test_a_name_is_free_at_once_after_a_clean_exit(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        await a.service.stop()
        world.runners.remove(a)
        await a.end()
        began = world.clock.boottime()
        (again,) = await world.join("a")

        assert world.clock.boottime() - began < 0.05
        assert again.held == 64

    virtually(scenario)


def test_a_frozen_runner_whose_name_was_taken_ends_when_it_thaws(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        world.server.faults.pause("a")

        def another_host(name: str) -> Server:
            return world.server.for_owner(f"{name}, the second")

        world.server_for = another_host
        (second,) = await world.join("a")
        await world.until(lambda: second.held == 64)
        world.server.faults.resume("a")
        world.runners.remove(a)
        error = await refused(a)

        assert second.incarnation in str(error)
        assert a.held == 0
        await world.clock.sleep(LEASE)
        assert even(world)
        assert lost(second) == 0

    virtually(scenario)


@pytest.mark.parametrize(
    ("settings", "setting", "both"),
    [(Settings(shards=128), "shards", ["128", "64"]), (Settings(shards=32), "shards", ["32", "64"])],
)
def test_a_member_that_does_not_fit_touches_nothing(virtually: Virtually, settings: Settings, setting: str, both: list[str]) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        misfit = world.runner("b", settings)
        error = await refused(misfit)
        world.runners.remove(misfit)

        assert error.setting == setting
        assert all(value in str(error) for value in both)
        assert sorted(a.service.members) == ["a"]
        assert world.server.execute("HLEN", world.keys.members) == 1

    virtually(scenario)


def test_two_first_runners_that_disagree_do_not_both_start(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        one, two = world.runner("a"), world.runner("b", Settings(shards=32))
        await world.clock.sleep(1)
        failed = [runner for runner in (one, two) if runner.task.done()]
        assert len(failed) == 1
        await refused(failed[0])
        world.runners.remove(failed[0])

    virtually(scenario)


# what it costs and what it tells


def test_an_idle_runner_sends_few_commands(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, _b = await world.join("a", "b")
        await world.until(lambda: even(world))
        before = sum(connection.statistics().sent for connection in world.server.connections if connection.owner == "a")
        await world.clock.sleep(100)
        after = sum(connection.statistics().sent for connection in world.server.connections if connection.owner == "a")

        assert (after - before) / 100 < 4
        assert a.service.statistics().lapses == 0

    virtually(scenario, Settings(shards=256))


def test_a_settled_system_leaves_nothing_behind(virtually: Virtually) -> None:
    """Leases of the dead expire, their records and read groups go with their shards."""

    async def scenario(world: FakeWorld) -> None:
        await world.join("a")
        for round_ in range(6):
            (other,) = await world.join(f"b{round_}")
            await world.until(lambda: even(world))
            if round_ % 2:
                world.kill(other)
            else:
                await other.service.stop()
                world.runners.remove(other)
                await other.end()
            await world.until(lambda: even(world))
        keys = sorted(key.decode() for key in world.server.execute("KEYS", "*"))

        assert [key for key in keys if key.startswith(world.keys.lease(""))] == [world.keys.lease(world.runners[0].incarnation)]
        for shard in world.runners[0].host.held:
            assert len(world.server.execute("XINFO", "GROUPS", world.keys.mailbox(shard.label))) == 1
        assert world.server.execute("HLEN", world.keys.members) == 1
        assert len(keys) == 64 + 6  # mailboxes; own, members, facts, assignment, control, one lease

    virtually(scenario)


def test_statistics_and_events_tell_what_happened(virtually: Virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        a, b = await world.join("a", "b")
        await world.until(lambda: even(world))
        a.host.drain_takes = 1.0
        (c,) = await world.join("c")
        stats = c.service.statistics()
        assert isinstance(stats, Statistics)
        assert (stats.owned, stats.waiting) == (c.held, stats.wanted - c.held)
        await world.until(lambda: a.service.statistics().draining > 0)
        await world.until(lambda: even(world))

        now = a.service.statistics()
        assert (now.owned, now.wanted, now.draining, now.waiting, now.members) == (a.held, a.held, 0, 0, 3)
        assert now.acquired - now.released == a.held
        assert 0 < now.lease_remaining <= 9.0
        assert b.telemetry.of(MembershipChanged)[-1].joined == "c"
        assert c.telemetry.of(AssignmentWritten)[-1].moved == c.held
        c.service.leave()
        assert c.telemetry.of(RunnerDraining)[-1].shards == c.held

    virtually(scenario)
