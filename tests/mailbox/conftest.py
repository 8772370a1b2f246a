"""Each kind of Redis in turn, for what the scripts promise."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest

from actors._redis.connection import Connection, Server, TcpServer
from actors._redis.embedded import EmbeddedServer, bundled_server
from actors.testing.fake import FakeServer

REAL = [pytest.param("valkey", marks=pytest.mark.server), pytest.param("redis", marks=pytest.mark.server)]

Servers = Callable[[str], Server]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Servers by kind: the fake, the bundled Valkey, the redis-server on PATH. Real ones are started once."""
    running: dict[str, EmbeddedServer] = {}
    with ExitStack() as stack:

        def get(kind: str) -> Server:
            if kind == "fake":
                return FakeServer()
            if kind not in running:
                executable = bundled_server() if kind == "valkey" else shutil.which("redis-server")
                if executable is None:
                    pytest.skip(f"no {kind} here")
                running[kind] = stack.enter_context(EmbeddedServer(executable=executable, persistent=False))
            return TcpServer.from_url(running[kind].url)

        yield get


@pytest.fixture(params=["fake", *REAL])
async def redis(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Connection]:
    """A connection to an empty server of each kind."""
    connection = await servers(request.param).connect("test", timeout=10.0)
    await connection.execute("FLUSHALL")
    yield connection
    await connection.close()


@pytest.fixture(params=REAL)
async def real_redis(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Connection]:
    """A connection to an empty real server, whose memory may be limited."""
    connection = await servers(request.param).connect("test", timeout=10.0)
    await connection.execute("FLUSHALL")
    yield connection
    await connection.execute("CONFIG", "SET", "maxmemory", 0)
    await connection.close()
