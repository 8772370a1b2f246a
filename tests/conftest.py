"""Servers for the tests that need a real one.

Which server: ``ACTORS_TEST_SERVER=/path/to/redis-server``; without it the bundled Valkey,
else whatever is on PATH.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from actors._redis.embedded import EmbeddedServer, bundled_server


@pytest.fixture(scope="session")
def shared_server() -> Iterator[EmbeddedServer]:
    """One running server for all tests of this process. Do not stop, pause or reconfigure it: see ``own_server``."""
    with EmbeddedServer(executable=_executable(), persistent=False) as server:
        yield server


@pytest.fixture
def redis_url(shared_server: EmbeddedServer) -> str:
    """The URL of a real, empty server."""
    with socket.create_connection(("127.0.0.1", shared_server.port)) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64) == b"+OK\r\n"
    return shared_server.url


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A running server for this test alone, with persistence: to be killed, paused, filled."""
    with EmbeddedServer(executable=_executable()) as server:
        yield server


def _executable() -> str | None:
    return os.environ.get("ACTORS_TEST_SERVER") or bundled_server()
