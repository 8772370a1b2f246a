"""Kills and freezes under a load of transfers, then an audit of each single one."""

from __future__ import annotations

import asyncio
import random

import pytest

from actors.client import Client
from tests.integration.bank import Transfers
from tests.integration.fleet import Fleet
from tests.integration.system import LEASE

pytestmark = [pytest.mark.server, pytest.mark.chaos]


@pytest.mark.timeout(90)
async def test_kills_and_freezes_lose_and_double_nothing(fleet: Fleet, client: Client, seed: int) -> None:
    await storm(fleet, client, seed, kills=3, freezes=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_twenty_kills_and_five_long_freezes_lose_and_double_nothing(fleet: Fleet, client: Client, seed: int) -> None:
    await storm(fleet, client, seed, kills=20, freezes=5)


async def storm(fleet: Fleet, client: Client, seed: int, *, kills: int, freezes: int) -> None:
    chance = random.Random(seed)
    blows = ["kill"] * kills + ["freeze"] * freezes
    chance.shuffle(blows)
    await fleet.start("r0", "r1", "r2")
    names = 3

    load = Transfers(client, seed)
    async with load:
        await load.until(300)
        for blow in blows:
            victim = chance.choice(fleet.alive)
            if blow == "kill":
                victim.kill()
                await victim.ended()
                (survivor,) = await fleet.start(f"r{names}")
                names += 1
            else:
                victim.freeze()
                await asyncio.sleep(LEASE + 1)
                victim.thaw()
                await victim.event("LeaseExpired")
            await load.go_on(300)
    audit = await load.audit()

    print(audit.acknowledged, "acknowledged;", len(load.unknown), "unknown;", load.slowest, "slowest")
    assert audit.clean, audit
    assert not load.errors
