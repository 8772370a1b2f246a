"""A network that misbehaves on purpose, between a runner or a client and Redis.

It forwards bytes and understands just enough of what passes (the name a connection gives
itself, commands, the number of replies) to do harm at a chosen place: lose the answer of a
command that was carried out, cut a connection in the middle of a reply, hold everything in
one direction. Each fault counts how often it has happened, so that a test can assert it did.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Self, cast
from urllib.parse import urlsplit

import hiredis

from actors._redis import scripts

Command = Sequence[bytes]
Matches = Callable[["Link", Command], bool]
_CHUNK = 1 << 16


class Fault:
    """Something that goes wrong whenever a command fits, at most ``times`` times; awaited, until it has happened."""

    def __init__(self, matches: Matches, times: int) -> None:
        self.matches = matches
        self.left = times
        self.happened = 0
        self._news = asyncio.Event()

    def happens(self) -> None:
        """It has happened once more."""
        self.happened += 1
        self._news.set()

    def stop(self) -> None:
        """Let it happen no more."""
        self.left = 0

    async def once(self, *, within: float = 20.0) -> None:
        """Wait until it has happened at least once."""
        async with asyncio.timeout(within):
            await self._news.wait()


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self.name = ""
        """What the connection calls itself, without ``actors-``: ``send``, ``read-0``, ``lease`` …"""
        self.commands = 0
        self.replies = 0
        self.was_held = False
        self._proxy = proxy
        self._lose_after: int | None = None
        self._fault: Fault | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward until either side closes, or the connection is cut."""
        self._writers = [writer]
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._proxy.upstream)
            self._writers.append(server_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._up(reader, server_writer))
                both.create_task(self._down(server_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self.cut()

    def cut(self) -> None:
        """End it at once, on both sides; what is on its way is gone."""
        for writer in self._writers:
            with contextlib.suppress(OSError, RuntimeError):
                writer.transport.abort()

    async def _up(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while chunk := await _received(source):
            parser.feed(chunk)
            while (command := parser.gets()) is not False:
                self._see(cast("list[bytes]", command))
            await self._proxy.passage(self, up=True)
            sink.write(chunk)
            await sink.drain()
        if self.was_held:
            # What was held was sent before its sender gave up, so that the server gets it, and answers nobody.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while self.replies < self.commands:  # noqa: ASYNC110 - for a second at most
                        await asyncio.sleep(0.01)
        sink.close()

    def _see(self, command: list[bytes]) -> None:
        self.commands += 1
        if command[:2] == [b"CLIENT", b"SETNAME"]:
            self.name = command[2].decode().removeprefix("actors-")
        for fault in self._proxy.losses:
            if fault.left and self._fault is None and fault.matches(self, command):
                fault.left -= 1
                self._fault = fault
                self._lose_after = self.commands

    async def _down(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while chunk := await source.read(_CHUNK):
            parser.feed(chunk)
            while parser.gets() is not False:
                self.replies += 1
            if self._lose_after is not None:
                # Carried out, and nobody will know: swallow all up to its answer, then cut.
                if self.replies >= self._lose_after:
                    assert self._fault is not None
                    self._fault.happens()
                    self.cut()
                    return
                continue
            await self._proxy.passage(self, up=False)
            sink.write(chunk[: self._proxy.allowance(self, len(chunk))])
            await sink.drain()
            if self._proxy.spent(self):
                self.cut()
                return
        sink.close()


class Proxy:
    """Stands before the server at ``url``; connect to :attr:`url` instead."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.upstream = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self.links: list[Link] = []
        self.losses: list[Fault] = []
        self.url = ""
        self._delays = {True: 0.0, False: 0.0}
        self._holds: set[tuple[str | Link, bool]] = set()
        self._released = asyncio.Event()
        self._allowances: dict[Link, int] = {}
        self._held = {True: 0, False: 0}
        self._serving: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.release()
        tasks = list(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # what can go wrong

    def lose_answers(self, matches: Matches, *, times: int = 1) -> Fault:
        """Have commands that match carried out, and their answers lost with the connection."""
        fault = Fault(matches, times)
        self.losses.append(fault)
        return fault

    def cut(self, name: str = "") -> int:
        """Cut the connections whose name begins with ``name``; return how many there were."""
        links = [link for link in self.links if link.name.startswith(name)]
        for link in links:
            link.cut()
        return len(links)

    def cut_within_a_reply(self, name: str, after: int) -> int:
        """Cut such connections once ``after`` more bytes of replies have come through; return how many there are."""
        links = [link for link in self.links if link.name.startswith(name)]
        self._allowances |= dict.fromkeys(links, after)
        return len(links)

    def hold(self, name: str = "", *, up: bool = True, down: bool = True) -> None:
        """Let nothing through on connections whose name begins with ``name``, as if packets were dropped: nobody is told."""
        self._holds |= {(name, direction) for direction, held in ((True, up), (False, down)) if held}

    def hold_link(self, link: Link) -> None:
        """Let nothing through to the server on this one connection; one made after it is not held."""
        self._holds.add((link, True))

    def release(self, held: str | Link | None = None) -> None:
        """Let everything through again, or what was held by this name or link; what was held first, as retransmission would."""
        self._holds = {hold for hold in self._holds if held is not None and hold[0] != held}
        self._released.set()
        self._released = asyncio.Event()

    def calm(self) -> None:
        """Let everything through from now on, at once and with its answer."""
        self.delay()
        self.release()
        self._allowances.clear()
        for fault in self.losses:
            fault.stop()

    async def link(self, name: str, *, beside: Link | None = None, within: float = 20.0) -> Link:
        """Wait for a connection whose name begins with ``name``, other than ``beside``, and return it."""
        async with asyncio.timeout(within):
            while True:
                for link in self.links:
                    if link is not beside and link.name.startswith(name):
                        return link
                await asyncio.sleep(0.01)

    def delay(self, *, up: float = 0.0, down: float = 0.0) -> None:
        """Let each chunk wait so many seconds."""
        self._delays = {True: up, False: down}

    def held(self, *, up: bool) -> int:
        """Return how many chunks had to wait at a closed gate."""
        return self._held[up]

    # what links ask

    async def passage(self, link: Link, *, up: bool) -> None:
        """Wait until a chunk may go on."""
        if self._delays[up]:
            await asyncio.sleep(self._delays[up])
        if self._holding(link, up=up):
            self._held[up] += 1
            link.was_held = True
            while self._holding(link, up=up):
                await self._released.wait()

    def _holding(self, link: Link, *, up: bool) -> bool:
        return any(way is up and (link is held if isinstance(held, Link) else link.name.startswith(held)) for held, way in self._holds)

    def allowance(self, link: Link, wanted: int) -> int:
        """Return how many bytes of a reply may go through before the cut that was ordered."""
        left = self._allowances.get(link)
        if left is None:
            return wanted
        self._allowances[link] = max(left - wanted, 0)
        return min(left, wanted)

    def spent(self, link: Link) -> bool:
        """Whether a link has used up its allowance, and is cut now."""
        return self._allowances.get(link) == 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self)
        task = asyncio.current_task()
        assert task is not None
        self._serving.append(task)
        self.links.append(link)
        try:
            await link.serve(reader, writer)
        finally:
            self._serving.remove(task)
            self.links.remove(link)
            self._allowances.pop(link, None)


async def _received(source: asyncio.StreamReader) -> bytes:
    """Return the next bytes; none where the connection is gone."""
    try:
        return await source.read(_CHUNK)
    except OSError:
        return b""


def runs(script: str) -> Matches:
    """Match the calls of one script of ours."""
    sha = scripts.load(script).sha.encode()
    return lambda link, command: command[0].upper() == b"EVALSHA" and command[1] == sha


def reads(link: Link, command: Command) -> bool:
    """Match the reads of mailboxes."""
    return command[0].upper() == b"XREADGROUP"
