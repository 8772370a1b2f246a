"""Redis is away, or refuses, for a while: everybody recovers by itself, and nothing that was acknowledged is missing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from actors._redis.connection import SyncConnection
from actors._redis.embedded import EmbeddedServer
from actors.client import Client
from actors.errors import MailboxFull, PersistenceFailed
from actors.ids import shard_of
from tests.integration.bank import ALL_WAYS, NarrowAccount, Transfers
from tests.integration.cast import Counter
from tests.integration.conftest import show_logs
from tests.integration.fleet import Fleet, until
from tests.integration.pulses import SHARDS
from tests.integration.system import KEYS, LEASE

pytestmark = [pytest.mark.server, pytest.mark.chaos]


@pytest_asyncio.fixture
async def fleet(own_server: EmbeddedServer, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    """Runner processes on a server that only this test uses, and that keeps what it acknowledged."""
    fleet = Fleet(own_server.url, tmp_path)
    yield fleet
    await fleet.close()
    show_logs(fleet, request)


async def recovers(fleet: Fleet, client: Client, load: Transfers) -> None:
    """See the load go on, end it, and audit it."""
    await load.go_on(200, within=40)
    await load.stop()
    audit = await load.audit()
    print(f"{audit.acknowledged} acknowledged; the slowest took {load.slowest:.2f} s; {len(load.errors)} errors")
    assert audit.clean, audit
    assert all(runner.alive for runner in fleet.runners)


def busy(client: Client, seed: int) -> Transfers:
    """Return a load in which messages go every way."""
    return Transfers(client, seed, kind=NarrowAccount, accounts=30, ways=ALL_WAYS, twins=0.1, burst=6, defects=0.05, pause=0.03)


async def test_a_server_that_is_killed_and_comes_back_has_lost_nothing(
    fleet: Fleet, client: Client, own_server: EmbeddedServer, seed: int
) -> None:
    """Its log of commands holds all that it has acknowledged. Twice, once for longer than a lease."""
    await fleet.start("r0", "r1")
    async with busy(client, seed) as load:
        for away in (0.2, LEASE + 1):
            await load.go_on(200)
            await asyncio.to_thread(own_server.kill)
            await asyncio.sleep(away)
            await asyncio.to_thread(own_server.start)
            await load.go_on(100, within=40)
        await recovers(fleet, client, load)
    assert not load.errors


async def test_a_server_that_stands_still_for_five_seconds_moves_nothing(
    fleet: Fleet, client: Client, own_server: EmbeddedServer, redis: SyncConnection, seed: int
) -> None:
    """All leases are over when it wakes, and nobody has taken anything: they are revived."""
    runners = await fleet.start("r0", "r1")
    async with busy(client, seed) as load:
        await load.go_on(200)
        own_server.pause()
        await asyncio.sleep(5)
        own_server.resume()
        await recovers(fleet, client, load)
    assert not load.errors
    assert all(runner.count("LeaseExpired") for runner in runners)


async def test_scripts_flushed_and_connections_killed_are_not_even_noticed(
    fleet: Fleet, client: Client, redis: SyncConnection, seed: int
) -> None:
    """Over and over."""
    await fleet.start("r0", "r1")
    async with busy(client, seed) as load:
        for _ in range(10):
            redis.execute("SCRIPT", "FLUSH")
            await load.go_on(30)
            assert redis.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") > 5
            await load.go_on(30)
        await recovers(fleet, client, load)
    assert not load.errors


async def test_a_full_server_refuses_new_messages_and_drains_what_it_has(
    fleet: Fleet, client: Client, redis: SyncConnection, seed: int, tmp_path: Path
) -> None:
    """Clients hear that memory is full; turns commit and shards are taken over all the same; afterwards all goes on."""
    (first,) = await fleet.start("r0")
    gate = tmp_path / "gate"
    counter = client.get(Counter, "c")
    await counter.add.tell(1, str(gate))
    async with busy(client, seed) as load:
        await load.go_on(200)
        redis.execute("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(MailboxFull) as full:
            await counter.add.tell()
        first.kill()
        await first.ended()
        gate.touch()
        await fleet.start("r1")
        await until(
            lambda: redis.execute("XLEN", KEYS.mailbox(shard_of("Counter", "c", SHARDS, "default").label)) == 0, what="a drained shard"
        )
        redis.execute("CONFIG", "SET", "maxmemory", "0")
        await load.go_on(200, within=40)
        await load.stop()
    audit = await load.audit()
    assert full.value.scope == "memory"
    assert audit.clean, audit
    assert {error.split(": ")[1] for error in load.errors} <= {"MailboxFull"}
    assert await counter.value() == 1


async def test_a_server_that_is_read_only_for_five_seconds_is_waited_out(
    fleet: Fleet, client: Client, redis: SyncConnection, seed: int
) -> None:
    """As one that was demoted is."""
    await fleet.start("r0", "r1")
    async with busy(client, seed) as load:
        await load.go_on(200)
        redis.execute("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(5)
        redis.execute("REPLICAOF", "NO", "ONE")
        await recovers(fleet, client, load)
    assert not load.errors


async def test_a_server_that_comes_back_empty_is_filled_again(
    fleet: Fleet, client: Client, own_server: EmbeddedServer, redis: SyncConnection
) -> None:
    """What it held is lost, since it did not keep it; what comes afterwards is taken, run and answered."""
    redis.execute("CONFIG", "SET", "appendonly", "no")
    await fleet.start("r0", "r1")
    await client.get(Counter, "c").add()
    for stored in Path(redis.execute("CONFIG", "GET", "dir")[1].decode()).glob("appendonlydir/*"):
        stored.unlink()
    await asyncio.to_thread(own_server.kill)
    await asyncio.to_thread(own_server.start)
    with contextlib.suppress(PersistenceFailed):  # the record of this sender is gone, too: it does not know what became of a send
        await client.get(Counter, "c").add()

    async with asyncio.timeout(10):
        assert [await client.get(Counter, f"c{number}").add() for number in range(50)] == [1] * 50
