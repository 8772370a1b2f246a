"""A channel brings the next connection, and says so when it cannot."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from actors._redis.channel import Channel
from actors._redis.faults import Refused
from actors.backoff import Backoff
from actors.clock import SystemClock
from actors.testing.fake import FakeServer


class Door:
    """A server that raises ``shut`` to whoever connects, if it is set, as often as it should."""

    virtual = True

    def __init__(self, server: FakeServer) -> None:
        self.shut: Exception | None = None
        self.refused = 0
        self.let_in_after = 1 << 30
        self.url = server.url
        self._server = server

    async def connect(self, purpose: str, *, timeout: float, on_lost: Any = None) -> Any:
        if self.shut is not None and self.refused < self.let_in_after:
            self.refused += 1
            raise self.shut
        return await self._server.connect(purpose, timeout=timeout, on_lost=on_lost)

    def connect_sync(self, purpose: str, *, timeout: float) -> Any:
        raise NotImplementedError


@pytest.fixture
def door() -> Door:
    return Door(FakeServer())


def channel_to(door: Door) -> Channel:
    return Channel(door, "test", clock=SystemClock(), backoff=Backoff(random=Random(0), initial=0.001, maximum=0.001), timeout=1)


async def test_opening_tells_what_the_first_attempt_raised(door: Door) -> None:
    """A wrong address is told at once."""
    door.shut = Refused("nobody there")

    with pytest.raises(Refused, match="nobody there"):
        await channel_to(door).open()


async def test_opening_soon_goes_on_until_somebody_is_there(door: Door) -> None:
    """For connections that a runner needs while it is running: it waits, and nothing else stops."""
    door.shut = Refused("nobody there")
    door.let_in_after = 3
    channel = channel_to(door)
    channel.open_soon()

    connection = await channel.until_up()
    assert await connection.execute("PING") == b"PONG"
    assert door.refused == 3
    await channel.close()


async def test_a_dropped_connection_is_followed_by_another(door: Door) -> None:
    """Its state is in doubt, the server's is not."""
    channel = channel_to(door)
    await channel.open()
    before = await channel.until_up()
    channel.drop()

    assert not channel.up
    assert await channel.until_up() is not before
    assert channel.reconnects == 1
    await channel.close()


async def test_a_channel_that_cannot_go_on_is_heard(door: Door) -> None:
    """Whoever waits for its next connection would wait for ever."""
    heard: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    channel = channel_to(door)
    channel.on_error = heard.set_result
    await channel.open()
    door.shut = ValueError("a mistake of ours")
    channel.drop()

    assert await heard is door.shut
    await channel.close()
