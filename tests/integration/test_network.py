"""Connections that fail at the worst moment, over and over, under a load of transfers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from actors.client import Client
from tests.integration.bank import NarrowAccount, Transfers
from tests.integration.fleet import Fleet
from tests.integration.proxy import Link, Proxy, reads, runs
from tests.integration.system import system

pytestmark = [pytest.mark.server, pytest.mark.chaos]


@pytest.mark.timeout(60)
async def test_answers_lost_after_the_script_ran_double_and_lose_nothing(fleet: Fleet, proxy: Proxy, seed: int) -> None:
    """Every sixth or so send, commit and read is carried out and its answer lost, at the client and at both runners."""
    chance = random.Random(seed)
    matchers = {name: runs(name) for name in ("send", "commit", "mark", "fire")} | {"read": reads}

    def some(name: str):  # noqa: ANN202
        return lambda link, command: matchers[name](link, command) and chance.random() < 0.15

    await fleet.start("r0", "r1", url=proxy.url)
    faults = {name: proxy.lose_answers(some(name), times=1 << 30) for name in matchers}
    async with system.connect(proxy.url) as client:
        load = Transfers(client, seed, kind=NarrowAccount, accounts=30, ways=("tell", "ask", "later"), burst=6, defects=0.05)
        async with load:
            await load.until(1500, within=50)
        for fault in faults.values():
            fault.stop()
        audit = await load.audit()

    print(audit.acknowledged, {name: fault.happened for name, fault in faults.items()}, f"{load.slowest:.2f}")
    assert all(faults[name].happened > 10 for name in ("send", "commit", "read"))
    assert not load.errors
    assert audit.clean, audit
