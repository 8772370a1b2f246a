"""A proxy before Redis that counts what passes: commands by name, and bytes.

The server's own counters would also count the commands inside scripts. What a connection
sends is what costs a round trip and a system call, and that is counted here, the same way
for the framework and for the bare loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import hiredis
import msgspec


class Traffic(msgspec.Struct, frozen=True):
    """What passed between two moments."""

    commands: dict[str, int]
    sent: int
    """Bytes to the server."""
    received: int
    """Bytes from it."""

    @property
    def total(self) -> int:
        """All commands."""
        return sum(self.commands.values())


class CountingProxy:
    """Forwards every connection to one server."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._commands: Counter[str] = Counter()
        self._sent = 0
        self._received = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self.url = ""

    def reset(self) -> None:
        """Begin to count anew."""
        self._commands.clear()
        self._sent = self._received = 0

    def traffic(self) -> Traffic:
        """Return what has passed since the last :meth:`reset`."""
        return Traffic(commands=dict(self._commands), sent=self._sent, received=self._received)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._upstream)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._forward_commands(reader, server_writer))
                pumps.create_task(self._forward_replies(server_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pumps.discard(task)
            writer.close()

    async def close(self) -> None:
        """Cut every connection."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _forward_commands(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while chunk := await source.read(1 << 18):
            sink.write(chunk)
            self._sent += len(chunk)
            parser.feed(chunk)
            while (command := parser.gets()) is not False:
                assert isinstance(command, list)
                self._commands[command[0].decode().upper()] += 1
        sink.close()

    async def _forward_replies(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(1 << 18):
            sink.write(chunk)
            self._received += len(chunk)
        sink.close()


@contextlib.asynccontextmanager
async def counting(url: str) -> AsyncGenerator[CountingProxy]:
    """Stand before the server at ``url`` until the block ends; ``.url`` is where to connect."""
    parts = urlsplit(url)
    proxy = CountingProxy((parts.hostname or "127.0.0.1", parts.port or 6379))
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    userinfo = parts.netloc.rpartition("@")[0]
    port = server.sockets[0].getsockname()[1]
    proxy.url = parts._replace(netloc=f"{userinfo}@127.0.0.1:{port}" if userinfo else f"127.0.0.1:{port}").geturl()
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
