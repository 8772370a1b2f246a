"""Where the examples find Redis: ``ACTORS_REDIS_URL``, or a server of their own for as long as they run."""

import contextlib
import os
from collections.abc import Generator

from actors._redis.embedded import EmbeddedServer


@contextlib.contextmanager
def redis_url() -> Generator[str]:
    if (url := os.environ.get("ACTORS_REDIS_URL")) is not None:
        yield url
        return
    with EmbeddedServer() as server:
        yield server.url
