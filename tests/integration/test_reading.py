"""Reads that come late: none of what they took goes astray, none of it runs out of order."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors._redis.connection import SyncConnection, TcpServer
from actors._redis.faults import NoGroup
from actors.client import Client
from tests.integration.cast import Notes
from tests.integration.fleet import Fleet, eventually, until
from tests.integration.proxy import Proxy
from tests.integration.system import KEYS, system

pytestmark = pytest.mark.server


async def test_a_read_answered_after_its_shard_was_acquired_anew_hides_nothing(fleet: Fleet, proxy: Proxy, tmp_path: Path) -> None:
    """The answer to an earlier epoch's read must not count as what the next epoch has read: older entries would be passed over."""
    gate = tmp_path / "gate"
    (runner,) = await fleet.start("r0", url=proxy.url)
    async with system.connect(fleet.url) as client:
        notes = client.get(Notes, "n")
        await notes.write("begin")
        await notes.write.tell("slow", str(gate))
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
        gate.touch()

        await eventually(notes.read, lambda lines: len(lines) == 5)
        assert await notes.read() == ["begin", "slow", "second", "third", "fourth"]


async def test_a_read_that_a_frozen_owner_left_waiting_takes_nothing_from_the_next_owner(
    fleet: Fleet, client: Client, redis: SyncConnection
) -> None:
    """It was blocked in Redis when the shard was acquired; acquiring ends it, empty-handed."""
    (first,) = await fleet.start("r0", shards=1)
    notes, mailbox = client.get(Notes, "n"), KEYS.mailbox("default.0")
    await notes.write("1")
    group = redis.execute("XINFO", "GROUPS", mailbox)[0][1]
    first.freeze()
    stale = await TcpServer.from_url(fleet.url).connect("test", timeout=30)
    read = stale.execute("XREADGROUP", "GROUP", group, "r", "COUNT", 10, "BLOCK", 20_000, "NOACK", "STREAMS", mailbox, ">")
    await fleet.start("r1", shards=1)
    with pytest.raises(NoGroup):
        await read
    for line in ("2", "3"):
        await notes.write.tell(line)
    first.thaw()
    await first.event("LeaseExpired")

    assert await notes.write("4") == 4
    assert await notes.read() == ["1", "2", "3", "4"]
    await stale.close()


@pytest.mark.slow
async def test_a_read_that_was_given_up_and_executes_after_the_next_one_takes_nothing(
    fleet: Fleet, proxy: Proxy, redis: SyncConnection
) -> None:
    """The reader timed out, went to the next generation of its group and read on; then the first read arrives after all."""
    await fleet.start("r0", url=proxy.url, shards=1, lease=30)
    mailbox = KEYS.mailbox("default.0")
    async with system.connect(fleet.url) as client:
        notes = client.get(Notes, "n")
        await notes.write("1")
        group = redis.execute("XINFO", "GROUPS", mailbox)[0][1]
        given_up = await proxy.link("read")
        proxy.hold_link(given_up)
        await eventually(lambda: group_of(redis), lambda now: now != group)
        following = await proxy.link("read", beside=given_up)
        held = proxy.held(up=True)
        proxy.hold_link(following)
        await until(lambda: proxy.held(up=True) > held, what="the next read, held")
        replies = given_up.replies
        for line in ("2", "3"):
            await notes.write.tell(line)
        proxy.release(given_up)
        await until(lambda: given_up.replies > replies, what="the late read's answer")
        proxy.release(following)

        assert await notes.write("4") == 4
        assert await notes.read() == ["1", "2", "3", "4"]


async def group_of(redis: SyncConnection) -> bytes:
    """Return the name of the read group of the one shard."""
    return bytes(redis.execute("XINFO", "GROUPS", KEYS.mailbox("default.0"))[0][1])
