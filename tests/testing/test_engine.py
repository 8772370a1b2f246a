"""fakeredis under our clock. These fail when a new fakeredis takes its time from elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import fakeredis
import pytest

from actors._redis.faults import CommandFailed, ScriptFailed
from actors.testing.clock import EPOCH
from actors.testing.fake import FakeServer
from tests.testing.virtual import in_virtual_time


@in_virtual_time
async def test_time_and_ids_follow_the_clock() -> None:
    """TIME, inside a script too, and the ids of streams."""
    server = FakeServer()
    for elapsed in (0.0, 0.3, 1234.567):
        await asyncio.sleep(elapsed - asyncio.get_running_loop().time())
        seconds, micros = server.execute("TIME")
        inside = server.execute("EVAL", "return redis.call('TIME')", 0)
        id_ = server.execute("XADD", "s", "*", "d", "x")

        assert int(seconds) + int(micros) / 1e6 == pytest.approx(EPOCH + elapsed, abs=2e-6)
        assert inside == [seconds, micros]
        assert id_ == b"%d-0" % round((EPOCH + elapsed) * 1000)


@in_virtual_time
async def test_keys_expire_in_virtual_time() -> None:
    """However their time to live was given."""
    server = FakeServer()
    server.execute("SET", "a", 1, "PX", 500)
    server.execute("SET", "b", 1)
    server.execute("PEXPIRE", "b", 500)
    server.execute("EVAL", "redis.call('SET', KEYS[1], 1, 'EX', 1)", 1, "c")
    server.execute("SET", "d", 1)
    server.execute("PEXPIREAT", "d", int((EPOCH + 0.5) * 1000))
    await asyncio.sleep(0.499)
    assert server.execute("EXISTS", "a", "b", "c", "d") == 4
    assert server.execute("PTTL", "a") in {0, 1}
    assert server.execute("PTTL", "c") == 501

    await asyncio.sleep(0.002)
    assert server.execute("EXISTS", "a", "b", "c", "d") == 1
    assert server.execute("GET", "a") is None
    await asyncio.sleep(1)
    assert server.execute("EVAL", "return redis.call('EXISTS', KEYS[1])", 1, "c") == 0


@in_virtual_time
async def test_idle_times_of_consumers_follow_the_clock() -> None:
    """XPENDING and XAUTOCLAIM know how long an entry has been out."""
    server = FakeServer()
    server.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    id_ = server.execute("XADD", "s", "*", "d", "x")
    server.execute("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    await asyncio.sleep(60)

    assert server.execute("XPENDING", "s", "g", "-", "+", 10)[0][2] == pytest.approx(60_000, abs=1)
    assert server.execute("XAUTOCLAIM", "s", "g", "c2", 61_000, "0")[1] == []
    assert server.execute("XAUTOCLAIM", "s", "g", "c2", 59_000, "0")[1] == [[id_, [b"d", b"x"]]]


@in_virtual_time
async def test_nobody_else_s_fakeredis_is_touched() -> None:
    """A user's own stays in real time, beside ours and after it."""
    server = FakeServer()
    server.execute("SET", "k", 1, "EX", 10)
    theirs = fakeredis.FakeStrictRedis(server=fakeredis.FakeServer())
    id_ = bytes(cast(bytes, theirs.xadd("s", {"d": "x"})))

    assert abs(int(id_.split(b"-")[0]) / 1000 - time.time()) < 60
    assert abs(int(server.execute("TIME")[0]) - EPOCH) < 60


@in_virtual_time
async def test_a_server_s_clock_can_be_stepped() -> None:
    """Leases must survive a step of the server's wall clock; here it can be made."""
    server, other = FakeServer(), FakeServer()
    server.execute("SET", "k", 1, "EX", 10)
    server.skew = 3600

    assert server.execute("EXISTS", "k") == 0
    assert int(server.execute("TIME")[0]) == EPOCH + 3600
    assert int(other.execute("TIME")[0]) == EPOCH


@in_virtual_time
async def test_scripts_cannot_reach_what_a_real_server_hides() -> None:
    """A script that works here has to work there."""
    server = FakeServer()
    for forbidden in ("io.open('x')", "os.getenv('HOME')", "python.eval('1')", "require('os')", "cmsgpack.pack(1)"):
        with pytest.raises(ScriptFailed):
            server.execute("EVAL", f"return {forbidden}", 0)

    with pytest.raises(ScriptFailed, match="create global variable 'leak'"):
        server.execute("EVAL", "leak = 1 return leak", 0)
    assert server.execute("EVAL", "local kept = 1 return kept", 0) == 1


@in_virtual_time
async def test_a_command_that_would_block_the_process_is_refused() -> None:
    """There is no other thread that could ever end it."""
    with pytest.raises(CommandFailed, match="cannot block"):
        FakeServer().execute("BLPOP", "l", 0)


@in_virtual_time
async def test_what_a_script_wrote_before_its_error_stands() -> None:
    """Atomic is not transactional, here as there."""
    server = FakeServer()
    with pytest.raises(ScriptFailed):
        server.execute("EVAL", "redis.call('SET', 'a', 1) redis.call('LPUSH', 'a', 1)", 0)

    assert server.execute("GET", "a") == b"1"
