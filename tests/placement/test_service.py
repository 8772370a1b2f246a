"""Placement at work, in virtual time: who holds what, through joins, leaves, deaths and faults."""

from __future__ import annotations

from tests.placement.world import FakeWorld


def test_the_first_runner_takes_every_shard(virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        await world.until(lambda: a.held == 64)

        assert set(world.owners().values()) == {a.incarnation}

    virtually(scenario)


def test_x(virtually) -> None:
    async def scenario(world: FakeWorld) -> None:
        (a,) = await world.join("a")
        await world.until(lambda: a.held == 64)
        (b,) = await world.join("b")
        print("join", await world.until(lambda: a.held == 32 and b.held == 32))
        (c,) = await world.join("c")
        print("join", await world.until(lambda: world.spread(a, b, c) == [21, 21, 22]))
        world.kill(c)
        print("kill", await world.until(lambda: world.spread(a, b) == [32, 32]))
        a.host.drain_takes = 0.05
        t = world.clock.boottime()
        await a.service.stop()
        print("stop", world.clock.boottime() - t)
        print(await world.until(lambda: b.held == 64))
        print(b.service.statistics())
        for e in b.telemetry.events[-5:]:
            print(e)
        n = len(world.server.connections)
        s0 = [c.statistics().sent for c in world.server.connections]
        await world.clock.sleep(60)
        s1 = [c.statistics().sent for c in world.server.connections]
        print([(c.owner, c.purpose, (b - a) / 60) for c, a, b in zip(world.server.connections, s0, s1)])

    virtually(scenario)
