"""Three servers under one conformance suite; scenarios in virtual time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from actors._placement.store import PlacementStore
from actors._redis.connection import Connection, Server, TcpServer
from actors._redis.embedded import EmbeddedServer, bundled_server
from actors._redis.keys import Keys
from actors.settings import Settings
from actors.testing.clock import VirtualClock, VirtualLoop
from actors.testing.fake import FakeServer
from tests.placement.world import FakeWorld, run_virtual

REDIS = shutil.which("redis-server")


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], EmbeddedServer]]:
    """Running servers by kind, each started once."""
    running: dict[str, EmbeddedServer] = {}

    def get(kind: str) -> EmbeddedServer:
        if kind not in running:
            executable = bundled_server() if kind == "valkey" else REDIS
            if executable is None:
                pytest.skip(f"no {kind} here")
            running[kind] = EmbeddedServer(executable=executable, persistent=False).start()
        return running[kind]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture(params=["fake", "valkey", "redis"])
async def connection(request: pytest.FixtureRequest, servers: Callable[[str], EmbeddedServer]) -> AsyncIterator[Connection]:
    """A connection to an empty server of each kind."""
    server: Server
    server = FakeServer() if request.param == "fake" else TcpServer.from_url(servers(request.param).url)
    opened = await server.connect("test", timeout=5.0)
    await opened.execute("FLUSHALL")
    yield opened
    await opened.close()


@pytest.fixture
def keys() -> Keys:
    return Keys("bank")


@pytest.fixture
def store(connection: Connection, keys: Keys) -> PlacementStore:
    return PlacementStore(connection, keys)


Scenario = Callable[[FakeWorld], Awaitable[None]]


@pytest.fixture
def virtually() -> Callable[..., None]:
    """Run a scenario in virtual time: 64 shards and the default lease, where nothing else is said."""

    def run(scenario: Scenario, settings: Settings | None = None, *, own_server_clock: bool = False) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            world = FakeWorld(loop.clock, settings or Settings(shards=64), VirtualClock(loop) if own_server_clock else None)
            try:
                await scenario(world)
            finally:
                await world.end()

        run_virtual(main())

    return run
