"""The renewal thread, against a real server and a real clock, with short leases."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest

from actors._placement.lease import Lease, terms
from actors._placement.membership import Holder, Member
from actors._placement.renewal import RenewalThread
from actors._placement.store import Found, PlacementStore, Renewed, renewal
from actors._redis.connection import TcpServer
from actors._redis.embedded import EmbeddedServer
from actors._redis.keys import Keys
from actors.clock import Clock, SystemClock
from actors.telemetry.events import HandlerBlockedLoop, LeaseAtRisk
from tests.placement.world import Told

A, B = "a" * 16, "b" * 16
LEASE = 0.8
KEYS = Keys("bank")


def the_clock() -> Clock:
    return SystemClock()


class Renewing:
    """A registered runner and its renewal thread."""

    def __init__(self, url: str, running: Callable[[], str] | None = None) -> None:
        self.server = TcpServer.from_url(url)
        self.told = Told()
        self.answers: list[Renewed] = []
        self.clock = the_clock()
        self.lease = Lease(self.clock.boottime, terms(LEASE))
        self.thread = RenewalThread(
            running=running,
            server=self.server,
            command=renewal(KEYS, "a", A, LEASE),
            lease=self.lease,
            terms=terms(LEASE),
            clock=self.clock,
            on_change=self.answers.append,
            telemetry=self.told,
        )

    async def begin(self) -> None:
        self.connection = await self.server.connect("test", timeout=5.0)
        self.store = PlacementStore(self.connection, KEYS)
        await self.connection.execute("FLUSHALL")
        asked = self.clock.boottime()
        await self.store.register(Member(name="a", incarnation=A), lease=LEASE)
        self.lease.granted(asked=asked, unbroken=False)
        self.lease.resume()
        self.thread.start()

    async def end(self) -> None:
        await self.thread.stop()
        await self.connection.close()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await self.clock.sleep(0.005)


@pytest.fixture
async def renewing(servers: Callable[[str], EmbeddedServer]) -> AsyncIterator[Renewing]:
    it = Renewing(servers("valkey").url, running=lambda: "Account.deposit")
    await it.begin()
    yield it
    await it.end()


async def test_the_lease_is_kept_alive_and_trusted(renewing: Renewing) -> None:
    until = renewing.lease.until
    await renewing.until(lambda: renewing.thread.statistics().answered >= 5)

    assert renewing.lease.trusted()
    assert renewing.lease.until > until
    assert renewing.answers == []
    assert await renewing.store.leases([A]) == {A: True}
    assert renewing.thread.statistics().revived == 0


async def test_a_blocked_loop_is_not_renewed_for_and_is_told_what_blocks_it(renewing: Renewing) -> None:
    def a_handler_that_blocks() -> None:
        time.sleep(LEASE * 2)

    await renewing.until(lambda: renewing.thread.statistics().answered >= 1)
    a_handler_that_blocks()

    assert not renewing.lease.trusted()
    assert await renewing.store.leases([A]) == {A: False}
    assert renewing.thread.statistics().withheld > 0
    (blocked,) = renewing.told.of(HandlerBlockedLoop)
    assert blocked.handler == "Account.deposit"
    assert "a_handler_that_blocks" in blocked.stack
    await renewing.until(lambda: renewing.answers)
    assert renewing.answers == [Renewed(Found.REVIVED)]
    assert not renewing.lease.trusted(), "until what was held has been dropped"
    assert renewing.lease.resume()


async def test_a_short_block_costs_nothing(renewing: Renewing) -> None:
    await renewing.until(lambda: renewing.thread.statistics().answered >= 1)
    time.sleep(LEASE * 0.3)
    await renewing.until(lambda: renewing.thread.statistics().answered >= 4)

    assert renewing.answers == []
    assert renewing.lease.trusted()


async def test_a_superseded_incarnation_trusts_nothing_and_renews_no_more(renewing: Renewing) -> None:
    seen = await renewing.store.holder("a")
    assert seen is not None
    await renewing.store.register(Member(name="a", incarnation=B), lease=10, holder=Holder(A, 10.0))
    await renewing.until(lambda: renewing.answers)

    assert renewing.answers == [Renewed(Found.SUPERSEDED)]
    assert not renewing.lease.trusted()
    answered = renewing.thread.statistics().answered
    await renewing.until(lambda: not renewing.lease.offered)
    assert renewing.thread.statistics().answered == answered


async def test_a_lost_list_is_told_while_trust_goes_on(renewing: Renewing) -> None:
    await renewing.connection.execute("DEL", KEYS.members)
    renewing.thread.now()
    await renewing.until(lambda: renewing.answers)

    assert renewing.answers[0] == Renewed(Found.RENEWED, listed=False)
    assert renewing.lease.trusted()


async def test_it_can_be_hurried(renewing: Renewing) -> None:
    await renewing.connection.execute("DEL", KEYS.lease(A))
    renewing.thread.now()
    await renewing.until(lambda: renewing.answers)

    assert renewing.answers == [Renewed(Found.REVIVED)]
    assert not renewing.lease.trusted()


async def test_stopped_it_leaves_no_thread(renewing: Renewing) -> None:
    assert any(thread.name == "actors-lease" for thread in threading.enumerate())
    await renewing.thread.stop()
    await renewing.until(lambda: not any(thread.name == "actors-lease" for thread in threading.enumerate()))


async def test_a_server_that_hangs_ends_trust_in_time_and_is_renewed_with_when_it_is_back(own_server: EmbeddedServer) -> None:
    renewing = Renewing(own_server.url)
    await renewing.begin()
    try:
        await renewing.until(lambda: renewing.thread.statistics().answered >= 1)
        own_server.pause()
        await renewing.until(lambda: not renewing.lease.trusted())
        assert renewing.told.of(LeaseAtRisk)
        assert renewing.thread.statistics().failed > 0
        own_server.resume()
        await renewing.until(lambda: renewing.lease.offered)
        assert renewing.lease.resume()
        await renewing.until(lambda: renewing.thread.statistics().answered >= 4)

        assert renewing.lease.trusted()
    finally:
        own_server.resume()
        await renewing.end()


async def test_a_server_that_restarts_without_scripts_answers_the_next_renewal(own_server: EmbeddedServer) -> None:
    renewing = Renewing(own_server.url)
    await renewing.begin()
    await renewing.until(lambda: renewing.thread.statistics().answered >= 1)
    own_server.kill()
    own_server.start()
    answered = renewing.thread.statistics().answered
    await renewing.until(lambda: renewing.thread.statistics().answered > answered)

    assert all(answer.found is not Found.SUPERSEDED for answer in renewing.answers)
    await renewing.end()
