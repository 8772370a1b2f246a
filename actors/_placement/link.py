"""The connection that placement's calls go over, and how to go on when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from actors._placement.store import PlacementStore
from actors._redis.channel import Channel
from actors._redis.connection import Server
from actors._redis.faults import NotApplied, ReadOnly, RedisFault, Refused, Unblocked, Unknown
from actors._redis.keys import Keys
from actors.backoff import Backoff
from actors.clock import Clock

T = TypeVar("T")

PATIENCE = 1.0  # for a connection, before a call counts as failed


class Link:
    """A connection that comes back, with a :class:`PlacementStore` on it.

    Calls of several loops share it. A call that fails in passing (not applied, or of unknown
    effect) may be made again, all of placement's calls being repeatable; any other fault is a
    mistake of somebody's and ends the service.
    """

    def __init__(self, server: Server, purpose: str, keys: Keys, *, clock: Clock, random: Random, timeout: float) -> None:
        self.url = server.url
        self._keys = keys
        self._clock = clock
        self._random = random
        self._channel = Channel(server, purpose, clock=clock, backoff=self.backoff(), timeout=timeout)

    async def open(self) -> None:
        """Connect; raises what the first attempt raised."""
        await self._channel.open()

    async def close(self) -> None:
        """Close."""
        await self._channel.close()

    async def store(self) -> PlacementStore:
        """Return the store, waiting a little for a connection. Raises :class:`~actors._redis.faults.Refused`."""
        connection = self._channel.connection
        if connection is None:
            try:
                async with asyncio.timeout(PATIENCE):
                    connection = await self._channel.until_up()
            except TimeoutError:
                raise Refused(f"no connection to Redis at {self.url}: {self._channel.last_fault}") from None
        return PlacementStore(connection, self._keys)

    async def insist(self, call: Callable[[PlacementStore], Awaitable[T]]) -> T:
        """Make a call until it is answered."""
        backoff, failures = self.backoff(), 0
        while True:
            try:
                return await call(await self.store())
            except (NotApplied, Unknown) as fault:
                failures += 1
                self.judge(fault)
                await self._clock.sleep(backoff.delay(failures))

    def judge(self, fault: RedisFault) -> None:
        """Let go of a connection to a server that is no master any more."""
        if isinstance(fault, (ReadOnly, Unblocked)):
            self._channel.drop()

    def backoff(self) -> Backoff:
        """Return the pauses between attempts."""
        return Backoff(random=self._random, initial=0.05, maximum=1.0)
