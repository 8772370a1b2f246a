"""Reads that come late: none of what they took goes astray, none of it runs out of order."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.cast import Notes
from tests.integration.fleet import Fleet, until
from tests.integration.proxy import Proxy
from tests.integration.system import system

pytestmark = pytest.mark.server


async def test_a_read_answered_after_its_shard_was_acquired_anew_hides_nothing(fleet: Fleet, proxy: Proxy) -> None:
    """The answer to an earlier epoch's read must not count as what the next epoch has read: older entries would be passed over."""
    (runner,) = await fleet.start("r0", url=proxy.url)
    async with system.connect(fleet.url) as client:
        notes = client.get(Notes, "n")
        await notes.write("begin")
        await notes.write.tell("slow", 3.0)
        for line in ("second", "third"):
            await notes.write.tell(line)
        proxy.hold("read", up=False)
        held = proxy.held(up=False)
        await notes.write.tell("fourth")
        await until(lambda: proxy.held(up=False) > held, what="a held answer to a read")
        proxy.hold("lease")
        await runner.event("LeaseExpired")
        acquired = runner.count("ShardAcquired")
        proxy.release("lease")
        await runner.event("ShardAcquired", after=acquired + system.settings.shards - 1)
        proxy.release()

        async with asyncio.timeout(10):
            while len(await notes.read()) < 5:
                await asyncio.sleep(0.05)
        assert await notes.read() == ["begin", "slow", "second", "third", "fourth"]
