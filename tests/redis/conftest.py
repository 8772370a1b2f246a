"""One set of rules for every Redis: the fake, the bundled Valkey, and the redis-server on PATH where there is one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from actors._redis.connection import Server, TcpServer
from actors._redis.embedded import EmbeddedServer, bundled_server
from actors.testing.fake import FakeServer


class Lab(Protocol):
    """A server under test, and what a test may do to it."""

    @property
    def server(self) -> Server: ...

    async def sever(self) -> None:
        """Break all connections made for tests."""
        ...

    async def stall(self) -> None:
        """Let no command be answered for half a second."""
        ...


@dataclass
class FakeLab:
    """The in-process server, here in real time."""

    server: FakeServer

    async def sever(self) -> None:
        self.server.faults.disconnect()

    async def stall(self) -> None:
        self.server.faults.partition()


@dataclass
class RealLab:
    """A real server, reached from aside by a connection of its own."""

    server: TcpServer

    async def sever(self) -> None:
        await self._aside("CLIENT", "KILL", "TYPE", "normal")

    async def stall(self) -> None:
        await self._aside("CLIENT", "PAUSE", 500, "ALL")

    async def _aside(self, *command: str | int) -> None:
        connection = self.server.connect_sync("aside", timeout=5)
        connection.execute(*command)
        connection.close()


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedServer]:
    """The bundled Valkey."""
    yield from _running(bundled_server())


@pytest.fixture(scope="session")
def redis() -> Iterator[EmbeddedServer]:
    """The redis-server on PATH."""
    yield from _running(shutil.which("redis-server"))


@pytest.fixture(params=["fake", pytest.param("valkey", marks=pytest.mark.server), pytest.param("redis", marks=pytest.mark.server)])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """Each kind of server in turn, empty."""
    if request.param == "fake":
        yield FakeLab(FakeServer())
        return
    running: EmbeddedServer = request.getfixturevalue(request.param)
    lab = RealLab(TcpServer.from_url(running.url))
    connection = lab.server.connect_sync("aside", timeout=5)
    connection.execute("CLIENT", "UNPAUSE")
    connection.execute("FLUSHALL")
    connection.execute("SCRIPT", "FLUSH")
    connection.close()
    yield lab


@pytest.fixture
def server(lab: Lab) -> Server:
    """Each kind of server in turn, empty, for tests that only speak to it."""
    return lab.server


def _running(executable: str | None) -> Iterator[EmbeddedServer]:
    if executable is None:
        pytest.skip("no such server here")
    with EmbeddedServer(executable=executable, persistent=False) as server:
        yield server
