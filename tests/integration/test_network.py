"""Connections that fail at the worst moment, over and over, under a load of transfers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from typing import Literal, get_args

import pytest

from actors.client import Client
from tests.integration.bank import ALL_WAYS, NarrowAccount, Transfers
from tests.integration.fleet import Fleet, RunnerProcess
from tests.integration.proxy import Matches, Proxy, reads, runs
from tests.integration.system import LEASE, system

pytestmark = [pytest.mark.server, pytest.mark.chaos]


@pytest.mark.timeout(60)
async def test_answers_lost_after_the_script_ran_double_and_lose_nothing(fleet: Fleet, proxy: Proxy, seed: int) -> None:
    """Every sixth or so send, commit and read is carried out and its answer lost, at the client and at both runners."""
    chance = random.Random(seed)
    matchers = {name: runs(name) for name in ("send", "commit", "mark", "fire")} | {"read": reads}

    def some(name: str) -> Matches:
        return lambda link, command: matchers[name](link, command) and chance.random() < 0.15

    await fleet.start("r0", "r1", url=proxy.url)
    faults = {name: proxy.lose_answers(some(name), times=1 << 30) for name in matchers}
    async with system.connect(proxy.url) as client:
        load = Transfers(client, seed, kind=NarrowAccount, accounts=30, ways=ALL_WAYS, twins=0.1, burst=6, defects=0.05)
        async with load:
            await load.until(1500, within=50)
        for fault in faults.values():
            fault.stop()
        audit = await load.audit()

    print(f"{audit.acknowledged} acknowledged, answers lost: { {name: fault.happened for name, fault in faults.items()} }")
    assert all(faults[name].happened > 10 for name in ("send", "commit", "read"))
    assert not load.errors
    assert audit.clean, audit


@pytest.mark.parametrize("seconds", [15, pytest.param(120, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_everything_at_once_loses_and_doubles_nothing(fleet: Fleet, client: Client, seed: int, seconds: float) -> None:
    """Each runner behind a network of its own; kills, freezes, ends, starts, cuts, delays, partitions, lost answers, as the seed has it."""
    async with contextlib.AsyncExitStack() as stack:
        storm = Storm(fleet, stack, random.Random(seed))
        for _ in range(3):
            await storm.start()
        sender = await storm.network()
        troubled = await stack.enter_async_context(system.connect(sender.url))
        load = Transfers(troubled, seed, kind=NarrowAccount, accounts=30, ways=ALL_WAYS, twins=0.1, burst=8, defects=0.05, pause=0.05)
        async with load:
            await asyncio.gather(*[storm.rage(sender, seconds) for _ in range(2)])
            storm.calm()
            await load.go_on(100, within=40)
        audit = await load.audit()

    print(f"{audit.acknowledged} acknowledged; the slowest took {load.slowest:.2f} s; {dict(storm.blows)}")
    assert len(storm.blows) > 4
    assert not load.errors
    assert audit.clean, audit


Blow = Literal["kill", "freeze", "end", "cut", "cut in a reply", "delay", "hold", "hold one way", "lose"]
BLOWS: tuple[Blow, ...] = get_args(Blow)


class Storm:
    """Does harm to a fleet, one blow after the other."""

    def __init__(self, fleet: Fleet, stack: contextlib.AsyncExitStack, chance: random.Random) -> None:
        self.blows: Counter[str] = Counter()
        self._fleet = fleet
        self._stack = stack
        self._chance = chance
        self._networks: dict[RunnerProcess, Proxy] = {}
        self._ending: set[RunnerProcess] = set()
        self._started = 0

    async def network(self) -> Proxy:
        """Make one more network to the server."""
        return await self._stack.enter_async_context(Proxy(self._fleet.url))

    async def start(self) -> None:
        """Start one more runner, behind a network of its own."""
        name = f"r{self._started}"
        self._started += 1
        network = await self.network()
        (runner,) = await self._fleet.start(name, url=network.url)
        self._networks[runner] = network

    def calm(self) -> None:
        """Let everything heal."""
        for network in self._networks.values():
            network.calm()

    async def rage(self, sender: Proxy, seconds: float) -> None:
        """Strike for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self.blow(sender)

    async def blow(self, sender: Proxy) -> None:
        """Strike once and wait a moment, or for what the blow needs."""
        chance = self._chance
        victim = chance.choice([runner for runner in self._networks if runner.alive and runner not in self._ending])
        network = chance.choice([self._networks[victim], self._networks[victim], sender])
        blow = chance.choice(BLOWS)
        self.blows[blow] += 1
        match blow:
            case "kill":
                self._ending.add(victim)
                victim.kill()
                await self.start()
            case "end":
                self._ending.add(victim)
                victim.terminate()
                await self.start()
            case "freeze":
                victim.freeze()
                await asyncio.sleep(chance.uniform(0.1, LEASE * 2))
                if victim.alive:
                    victim.thaw()
            case "cut":
                network.cut(chance.choice(["", "commit", "read", "send", "client", "runner", "placement", "state", "lease"]))
            case "cut in a reply":
                network.cut_within_a_reply("", chance.randint(1, 500))
            case "delay":
                network.delay(up=chance.uniform(0, 0.1), down=chance.uniform(0, 0.1))
                await asyncio.sleep(chance.uniform(0, 1))
                network.delay()
            case "hold" | "hold one way":
                up = chance.random() < 0.5
                network.hold(
                    chance.choice(["", "", "commit", "read", "placement", "lease"]), up=up or blow == "hold", down=not up or blow == "hold"
                )
                await asyncio.sleep(chance.uniform(0.1, LEASE * 2))
                network.release()
            case "lose":
                scripts = ["send", "commit", "acquire", "release", "regroup", "mark", "fire"]
                network.lose_answers(runs(chance.choice(scripts)), times=chance.randint(1, 3))
        await asyncio.sleep(chance.uniform(0, 0.5))
