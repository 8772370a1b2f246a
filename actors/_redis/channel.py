"""A connection that is made anew whenever it is lost.

One channel is one purpose: commits, reads, sends. Who owns it decides what a lost
connection means for the command that was under way; the channel only brings the next
connection, with backoff, and says when it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from actors._redis.connection import Command, Connection, Server
from actors._redis.faults import RedisFault, Refused
from actors.backoff import Backoff
from actors.clock import Clock


class Channel:
    """Keeps one connection to ``server`` open for as long as it runs."""

    def __init__(self, server: Server, purpose: str, *, clock: Clock, backoff: Backoff, timeout: float) -> None:
        self.purpose = purpose
        self.connection: Connection | None = None
        self.reconnects = 0
        self.last_fault: Exception | None = None
        self.on_error: Callable[[Exception], None] | None = None
        """Told when a callback for a reply raised, or when there will be no next connection. Set it before :meth:`open`."""
        self._server = server
        self._clock = clock
        self._backoff = backoff
        self._timeout = timeout
        self._waiting: list[Callable[[], object]] = []
        self._sent_before = 0
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._dropped: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Connect, and keep connected until :meth:`close`.

        Raises what the first attempt raised: a wrong address or password is told at
        once, while later losses are waited out.
        """
        await self._connect()
        self._begin()

    def open_soon(self) -> None:
        """Connect in the background, however long it takes, and keep connected until :meth:`close`."""
        self._lost.set()
        self._begin()

    async def close(self) -> None:
        """Close the connection; commands still unanswered get their faults."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.close()

    @property
    def up(self) -> bool:
        """Whether there is a connection right now."""
        return self.connection is not None

    @property
    def commands_sent(self) -> int:
        """Commands sent so far, over all its connections."""
        return self._sent_before + (self.connection.statistics().sent if self.connection is not None else 0)

    def submit(self, command: Command, on_reply: Callable[[Any], None]) -> None:
        """Send ``command``; without a connection it is answered :class:`Refused`, soon."""
        if self.connection is None:
            fault = Refused(f"no connection for {self.purpose} to {self._server.url}")
            asyncio.get_running_loop().call_soon(on_reply, fault)
        else:
            self.connection.submit(command, on_reply)

    def when_up(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, soon if connected, else after the next connect."""
        if self.connection is not None:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._waiting.append(callback)

    async def until_up(self) -> Connection:
        """Wait for a connection and return it."""
        while (connection := self.connection) is None:
            up = asyncio.Event()
            self.when_up(up.set)
            await up.wait()
        return connection

    def drop(self) -> None:
        """Give up the present connection, whose state is in doubt, for a new one."""
        connection = self.connection
        if connection is not None:
            self._gone()
            self._lost.set()
            closing = asyncio.get_running_loop().create_task(connection.close(), name=f"close {self.purpose}")
            self._dropped.add(closing)
            closing.add_done_callback(self._dropped.discard)

    def forget(self) -> None:
        """In a forked child: let go of the parent's connection without a word on its socket."""
        self.connection = None
        self._closed = True

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"channel {self.purpose}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody waits for the task, and everybody for the connections it makes: its failure must be heard."""
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception) and self.on_error is not None:
            self.on_error(error)
        elif error is not None:
            task.get_loop().call_exception_handler({"message": f"{task.get_name()} has failed", "exception": error, "task": task})

    async def _connect(self) -> None:
        self._lost.clear()
        connection = await self._server.connect(self.purpose, timeout=self._timeout, on_lost=self._on_lost)
        connection.on_error = self.on_error
        self.connection = connection
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()

    def _on_lost(self, fault: Exception) -> None:
        self.last_fault = fault
        self._gone()
        self._lost.set()

    def _gone(self) -> None:
        if self.connection is not None:
            self._sent_before += self.connection.statistics().sent
            self.connection = None

    async def _keep(self) -> None:
        while not self._closed:
            await self._lost.wait()
            attempt = 0
            while not self._closed:
                attempt += 1
                try:
                    await self._connect()
                except (RedisFault, OSError) as fault:
                    self.last_fault = fault
                    await self._clock.sleep(self._backoff.delay(attempt))
                else:
                    self.reconnects += 1
                    break
