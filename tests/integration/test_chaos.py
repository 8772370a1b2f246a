"""Kills and freezes under a load of transfers, then an audit of each single one."""

from __future__ import annotations

import asyncio
import random

import pytest

from actors.client import Client
from tests.integration.bank import ALL_WAYS, NarrowAccount, Transfers
from tests.integration.fleet import Fleet
from tests.integration.system import LEASE

pytestmark = [pytest.mark.server, pytest.mark.chaos]


@pytest.mark.timeout(90)
async def test_kills_and_freezes_lose_and_double_nothing(fleet: Fleet, client: Client, seed: int) -> None:
    """Plain transfers, as they come."""
    await storm(fleet, Transfers(client, seed), kills=3, freezes=1)


@pytest.mark.timeout(90)
async def test_kills_and_freezes_while_messages_wait_in_backlogs_fail_and_ask(fleet: Fleet, client: Client, seed: int) -> None:
    """Short queues, bursts, defects, asks inside turns, delayed sends: every way a message can go."""
    load = Transfers(client, seed, kind=NarrowAccount, accounts=30, ways=ALL_WAYS, twins=0.1, burst=12, defects=0.1, pause=0.05)
    await storm(fleet, load, kills=2, freezes=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_twenty_kills_and_five_long_freezes_lose_and_double_nothing(fleet: Fleet, client: Client, seed: int) -> None:
    """The same as the first, long."""
    await storm(fleet, Transfers(client, seed), kills=20, freezes=5)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_twenty_kills_and_five_long_freezes_while_messages_wait_fail_and_ask(fleet: Fleet, client: Client, seed: int) -> None:
    """The same as the second, long."""
    load = Transfers(client, seed, kind=NarrowAccount, accounts=30, ways=ALL_WAYS, twins=0.1, burst=12, defects=0.1, pause=0.05)
    await storm(fleet, load, kills=20, freezes=5)


async def storm(fleet: Fleet, load: Transfers, *, kills: int, freezes: int) -> None:
    """Run ``load`` while runners are killed and frozen past their lease; nothing may be missing at the end."""
    chance = random.Random(load.seed)
    blows = ["kill"] * kills + ["freeze"] * freezes
    chance.shuffle(blows)
    await fleet.start("r0", "r1", "r2")
    names = 3

    async with load:
        await load.until(300)
        for blow in blows:
            victim = chance.choice(fleet.alive)
            if blow == "kill":
                victim.kill()
                await victim.ended()
                await fleet.start(f"r{names}")
                names += 1
            else:
                lapses = victim.count("LeaseExpired")
                victim.freeze()
                await asyncio.sleep(LEASE + 1)
                victim.thaw()
                await victim.event("LeaseExpired", after=lapses)
            await load.go_on(300)
    audit = await load.audit()

    print(f"{audit.acknowledged} acknowledged; the slowest took {load.slowest:.2f} s")
    assert not load.errors
    assert audit.clean, audit
