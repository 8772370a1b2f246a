"""A server, a fleet on it and a client of it, for each test; what the runners logged is shown when a test fails."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from actors._mailbox.dead_letters import DeadLetters
from actors._redis.connection import Connection, SyncConnection, TcpServer
from actors.client import Client
from tests.integration.fleet import Fleet
from tests.integration.proxy import Proxy
from tests.integration.system import KEYS, system

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether the test's own part has failed."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest_asyncio.fixture
async def fleet(redis_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    """Runner processes on an empty server."""
    fleet = Fleet(redis_url, tmp_path)
    yield fleet
    await fleet.close()
    show_logs(fleet, request)


def show_logs(fleet: Fleet, request: pytest.FixtureRequest) -> None:
    """Print what the runners of a failed test have logged."""
    if request.node.stash.get(FAILED, True):
        print(fleet.logs())


@pytest_asyncio.fixture
async def client(fleet: Fleet) -> AsyncIterator[Client]:
    """A client on the same server."""
    async with system.connect(fleet.url) as client:
        yield client


@pytest.fixture
def redis(fleet: Fleet) -> Iterator[SyncConnection]:
    """A plain connection to the same server."""
    connection = TcpServer.from_url(fleet.url).connect_sync("test", timeout=10)
    yield connection
    connection.close()


@pytest_asyncio.fixture
async def dead_letters(fleet: Fleet) -> AsyncIterator[DeadLetters]:
    """The dead letters of the system."""
    connection = await TcpServer.from_url(fleet.url).connect("test", timeout=10)

    async def same() -> Connection:
        return connection

    yield DeadLetters(same, KEYS)
    await connection.close()


@pytest_asyncio.fixture
async def proxy(fleet: Fleet) -> AsyncIterator[Proxy]:
    """A network to the server that can be made to misbehave; nothing uses it that does not take its URL."""
    async with Proxy(fleet.url) as proxy:
        yield proxy


@pytest.fixture
def seed() -> int:
    """The seed of whatever is random in a test; ``ACTORS_TEST_SEED`` replays one."""
    chosen = int(os.environ.get("ACTORS_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"seed {chosen}: replay with ACTORS_TEST_SEED={chosen}")
    return chosen
