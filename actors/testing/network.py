"""What lies between the processes of a test cluster and their Redis, and can be cut.

Two kinds with one face. On the fake server everything is a matter of values. Before a real
one stands a proxy for each process, since a network that loses packets can be had in no
other way from inside one process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from actors._redis.connection import Argument, Server, Target, TcpServer
from actors.errors import ConfigurationError
from actors.testing.faults import Faults


class Network(Protocol):
    """The ways from processes to their server, by the processes' names."""

    def execute(self, *command: Argument) -> Any:
        """Run a command past everything that can go wrong on the way, and return its reply."""
        ...

    @property
    def faults(self) -> Faults:
        """What else can go wrong. ``RuntimeError`` on a real server."""
        ...

    async def open(self, name: str) -> Server:
        """Return the server as a new process of that name sees it."""
        ...

    def cut(self, name: str) -> None:
        """Let nothing through, in either direction; nobody is told."""
        ...

    def heal(self, name: str) -> None:
        """Let everything through again."""
        ...

    def kill(self, name: str) -> None:
        """Break all connections of a process for good."""
        ...

    def connections(self, name: str) -> int:
        """Return how many connections a process has."""
        ...

    async def close(self) -> None:
        """Tear everything down."""
        ...


class FakeNetwork:
    """The ways to a fake server in this process."""

    def __init__(self) -> None:
        from actors.testing.fake import FakeServer  # noqa: PLC0415 - needs fakeredis, and a real server does not

        self.server = FakeServer()

    def execute(self, *command: Argument) -> Any:
        """See :meth:`Network.execute`."""
        return self.server.execute(*command)

    @property
    def faults(self) -> Faults:
        """See :attr:`Network.faults`."""
        return self.server.faults

    async def open(self, name: str) -> Server:
        """See :meth:`Network.open`."""
        self.faults.revive(name)
        return self.server.for_owner(name)

    def cut(self, name: str) -> None:
        """See :meth:`Network.cut`."""
        self.faults.partition(name)

    def heal(self, name: str) -> None:
        """See :meth:`Network.heal`."""
        self.faults.heal(name)

    def kill(self, name: str) -> None:
        """See :meth:`Network.kill`."""
        self.faults.kill(name)

    def connections(self, name: str) -> int:
        """See :meth:`Network.connections`."""
        return sum(connection.owner == name for connection in self.server.connections)

    async def close(self) -> None:
        """See :meth:`Network.close`."""


class RealNetwork:
    """The ways to a real server."""

    def __init__(self, url: str) -> None:
        self._target = Target.from_url(url)
        if self._target.encrypted:
            raise ConfigurationError(
                setting="url",
                problem="is encrypted, and the test kit stands between runners and Redis",
                hint="use a redis:// or unix:// URL",
            )
        self._aside = TcpServer(self._target).connect_sync("cluster", timeout=10.0)
        self._proxies: dict[str, Proxy] = {}
        self._cut: set[str] = set()

    def execute(self, *command: Argument) -> Any:
        """See :meth:`Network.execute`."""
        return self._aside.execute(*command)

    @property
    def faults(self) -> Faults:
        """See :attr:`Network.faults`."""
        raise RuntimeError("faults are injected into the fake server; on a real one use kill, pause and partition")

    async def open(self, name: str) -> Server:
        """See :meth:`Network.open`."""
        old = self._proxies.pop(name, None)
        if old is not None:
            await old.close()
        proxy = self._proxies[name] = Proxy(self._target)
        await proxy.open()
        if name in self._cut:
            proxy.hold()
        return TcpServer(self._target._replace(host="127.0.0.1", port=proxy.port, path=None))

    def cut(self, name: str) -> None:
        """See :meth:`Network.cut`."""
        self._cut.add(name)
        if name in self._proxies:
            self._proxies[name].hold()

    def heal(self, name: str) -> None:
        """See :meth:`Network.heal`. What was sent meanwhile and is not given up arrives now, as it does with TCP."""
        self._cut.discard(name)
        if name in self._proxies:
            self._proxies[name].go_on()

    def kill(self, name: str) -> None:
        """See :meth:`Network.kill`."""
        self._cut.discard(name)
        if name in self._proxies:
            self._proxies[name].abort()

    def connections(self, name: str) -> int:
        """See :meth:`Network.connections`."""
        return self._proxies[name].connections if name in self._proxies else 0

    async def close(self) -> None:
        """See :meth:`Network.close`."""
        for proxy in self._proxies.values():
            await proxy.close()
        self._aside.close()


class Proxy:
    """Passes the connections of one process on to a server."""

    def __init__(self, upstream: Target) -> None:
        self.port = 0
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._held = False
        self._dead = False

    @property
    def connections(self) -> int:
        """Connections that are open on the process' side."""
        return sum(end.outer for end in self._ends)

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def hold(self) -> None:
        """Pass nothing on, and say nothing."""
        self._held = True
        for end in self._ends:
            end.hold()

    def go_on(self) -> None:
        """Pass on again."""
        self._held = False
        for end in self._ends:
            end.go_on()

    def abort(self) -> None:
        """Break every connection and take no more."""
        self._dead = True
        if self._server is not None:
            self._server.close()
        for end in list(self._ends):
            end.abort()

    async def close(self) -> None:
        """Break everything and wait until it is gone."""
        self.abort()
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        await asyncio.sleep(0)

    def _accepted(self) -> asyncio.Protocol:
        inner = _End(self, outer=False)
        outer = _End(self, outer=True)
        inner.peer, outer.peer = outer, inner
        task = asyncio.get_running_loop().create_task(self._dial(inner, outer))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return outer

    async def _dial(self, inner: _End, outer: _End) -> None:
        loop, upstream = asyncio.get_running_loop(), self._upstream
        try:
            if upstream.path is not None:
                await loop.create_unix_connection(lambda: inner, upstream.path)
            else:
                await loop.create_connection(lambda: inner, upstream.host, upstream.port)
        except OSError:
            outer.abort()

    def joined(self, end: _End) -> None:
        """An end has come up."""
        self._ends.add(end)
        if self._dead:
            end.abort()
        elif self._held:
            end.hold()

    def left(self, end: _End) -> None:
        """An end is gone."""
        self._ends.discard(end)


class _End(asyncio.Protocol):
    """One side of a proxied connection: what it receives, the other side sends."""

    peer: _End

    def __init__(self, proxy: Proxy, *, outer: bool) -> None:
        self.outer = outer
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._over = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._proxy.joined(self)
        if self._over:
            transport.abort()
        for data in self._early:
            transport.write(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        self.peer.send(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it was
        self._transport = None
        self._over = True
        self._proxy.left(self)
        self.peer.abort()

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
        elif not self._over:
            self._early.append(data)

    def hold(self) -> None:
        self._reading(asyncio.Transport.pause_reading)

    def go_on(self) -> None:
        self._reading(asyncio.Transport.resume_reading)

    def abort(self) -> None:
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    def _reading(self, change: Callable[[asyncio.Transport], None]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            getattr(self._transport, change.__name__)()
