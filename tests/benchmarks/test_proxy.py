"""The proxy counts what a connection sends, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio

from benchmarks.proxy import counting

pytestmark = pytest.mark.server


async def test_a_script_is_one_command_however_much_it_does(redis_url: str) -> None:
    """A server's own counter would say six."""
    async with counting(redis_url) as proxy:
        client: Any = redis.asyncio.from_url(proxy.url)  # its stubs know the half of it
        assert await client.ping()
        proxy.reset()

        script = "for i = 1, 5 do redis.call('INCR', KEYS[1]) end return redis.call('GET', KEYS[1])"
        assert await client.eval(script, 1, "k") == b"5"
        traffic = proxy.traffic()
        await client.aclose()

    assert traffic.commands == {"EVAL": 1}
    assert traffic.sent > len(script)
    assert traffic.received == len(b"$1\r\n5\r\n")


async def test_pipelined_commands_are_counted_one_by_one(redis_url: str) -> None:
    """They share a packet, not their work."""
    async with counting(redis_url) as proxy:
        client: Any = redis.asyncio.from_url(proxy.url)  # its stubs know the half of it
        await client.ping()
        proxy.reset()
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(100):
                pipeline.set(f"k{number}", "x" * 1000)
            await pipeline.execute()
        traffic = proxy.traffic()
        await client.aclose()

    assert traffic.total == 100
    assert traffic.sent > 100_000
