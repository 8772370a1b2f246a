"""fakeredis under our clock. These fail when a new fakeredis takes its time from elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import fakeredis
import pytest

from actors._redis.connection import Command, Server, TcpServer
from actors._redis.faults import CommandFailed, RedisFault, ScriptFailed
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


ALIKE: list[Command] = [
    ("XADD", "a", "1-1", "d", "x"),
    ("XADD", "a", "1-2", "d", "y"),
    ("XADD", "a", "2-1", "d", "z"),
    ("XGROUP", "CREATE", "a", "g", "1-1"),
    ("EVAL", "local g = redis.call('XINFO', 'GROUPS', KEYS[1])[1] return {g[1], g[2], g[7], g[8]}", 1, "a"),
    (
        "EVAL",
        "local r=redis.call('XINFO','STREAM',KEYS[1]) for i=1,#r,2 do if r[i]=='last-generated-id' then return r[i+1] end end",
        1,
        "a",
    ),
    ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "a", ">"),
    ("XREADGROUP", "GROUP", "g", "c", "NOACK", "COUNT", 10, "STREAMS", "a", ">"),
    ("XPENDING", "a", "g"),
    ("XPENDING", "a", "g", "-", "+", 10, "nobody"),
    ("XDEL", "a", "1-2"),
    ("XGROUP", "CREATE", "a", "h", "0"),
    ("XREADGROUP", "GROUP", "h", "c", "STREAMS", "a", ">"),
    ("XTRIM", "a", "MAXLEN", 1),
    ("XLEN", "a"),
    ("XTRIM", "a", "MAXLEN", "~", 1),
    ("XADD", "a", "MAXLEN", 1, "3-1", "d", "x"),
    ("XLEN", "a"),
    ("XADD", "a", "MAXLEN", "~", 1000, "3-2", "d", "x"),
    ("XADD", "a", "2-9", "d", "x"),
    ("XADD", "a", "0-0", "d", "x"),
    ("XGROUP", "SETID", "a", "g", "0"),
    ("XGROUP", "DELCONSUMER", "a", "g", "c"),
    ("XGROUP", "DESTROY", "missing", "g"),
    ("XINFO", "STREAM", "missing"),
    ("XINFO", "GROUPS", "missing"),
    ("EVAL", "return redis.pcall('XINFO','STREAM',KEYS[1])", 1, "missing"),
    ("EVAL", "return redis.pcall('XINFO','GROUPS',KEYS[1]).err", 1, "missing"),
    ("EVAL", "return redis.pcall('XGROUP','DESTROY',KEYS[1],'g').err", 1, "missing"),
    ("XREVRANGE", "a", "+", "-", "COUNT", 1),
    ("XRANGE", "a", "(3-1", "+"),
    ("XRANGE", "a", "3", "3"),
    ("RENAME", "a", "b"),
    ("EXISTS", "a"),
    ("XLEN", "b"),
    ("RENAME", "a", "b"),
    ("XREADGROUP", "GROUP", "h", "c", "STREAMS", "b", ">"),
    ("MSET", "m1", 1, "m2", 2),
    ("MGET", "m1", "mx"),
    ("HSET", "h", "a", 1),
    ("HGETALL", "h"),
    ("HINCRBY", "h", "a", 5),
    ("HLEN", "h"),
    ("HEXISTS", "h", "a"),
    ("HVALS", "h"),
    ("HKEYS", "h"),
    ("HSETNX", "h", "a", 1),
    ("HDEL", "h", "a"),
    ("EXISTS", "h"),
    ("HGETALL", "m1"),
    ("HSET", "m1", "a", 1),
    ("ZADD", "z", 1, "a", 2, "b"),
    ("ZRANGE", "z", 0, 0, "WITHSCORES"),
    ("ZRANGE", "z", "-inf", "(2", "BYSCORE"),
    ("ZRANGE", "z", "(1", "+inf", "BYSCORE", "LIMIT", 0, 1),
    ("ZRANGEBYSCORE", "z", "-inf", "+inf", "WITHSCORES", "LIMIT", 0, 1),
    ("ZREM", "z", "a", "q"),
    ("ZCARD", "z"),
    ("ZSCORE", "z", "b"),
    ("ZREM", "z", "b"),
    ("EXISTS", "z"),
    ("ZADD", "z", 1767225600123, "a"),
    ("ZSCORE", "z", "a"),
    ("ZADD", "z", "NX", 5, "a"),
    ("ZADD", "z", "GT", "CH", 1767225600999, "a"),
    ("ZSCORE", "z", "a"),
    ("EVAL", "return redis.call('ZSCORE',KEYS[1],'a')", 1, "z"),
    ("EVAL", "return redis.call('ZRANGE',KEYS[1],0,-1,'WITHSCORES')", 1, "z"),
    ("SET", "s", 1, "PX", 100000, "NX"),
    ("SET", "s", 1, "XX", "GET"),
    ("SET", "s", 1, "XX", "KEEPTTL"),
    ("GETSET", "s", 2),
    ("GETDEL", "s"),
    ("SET", "s", "v", "PXAT", 4102444800000),
    ("PEXPIRE", "s", 0),
    ("EXISTS", "s"),
    ("PEXPIRE", "nokey", 10),
    ("PERSIST", "m1"),
    ("EXPIRE", "m1", 100),
    ("TTL", "m1"),
    ("PERSIST", "m1"),
    ("INCR", "m1"),
    ("INCRBYFLOAT", "m1", "0.5"),
    ("INCR", "m1"),
    ("APPEND", "ap", "x"),
    ("STRLEN", "ap"),
    ("SADD", "st", "a", "b"),
    ("SISMEMBER", "st", "a"),
    ("SREM", "st", "a"),
    ("SCARD", "st"),
    ("SMEMBERS", "st"),
    ("TYPE", "nokey"),
    ("TYPE", "a"),
    ("TYPE", "b"),
    ("DEL", "a", "b", "nokey"),
    ("UNLINK", "b"),
    ("DBSIZE",),
    ("SCAN", "0", "COUNT", 1000, "MATCH", "nomatch*"),
    ("MULTI",),
    ("SET", "q", 1),
    ("INCR", "q"),
    ("EXEC",),
    ("MULTI",),
    ("DISCARD",),
    ("EVAL", "redis.call('SET',KEYS[1],1) redis.call('PEXPIRE',KEYS[1],100) return redis.call('PTTL',KEYS[1]) > 0", 1, "x"),
    ("EVAL", "return tostring(1e15)..tostring(2^53)..tostring(0.1)..tostring(100)", 0),
    ("EVAL", "return {tonumber('12'), tonumber('0x10'), tonumber('abc'), #'abc'}", 0),
    ("EVAL", "return redis.call('SET', KEYS[1], 3.0)", 1, "num"),
    ("GET", "num"),
    ("EVAL", "redis.call('SET', KEYS[1], 1e14+1)", 1, "num"),
    ("GET", "num"),
    ("EVAL", "return cjson.decode('[1,2]')[2]", 0),
    ("EVAL", "return cjson.encode({a=1})", 0),
    ("EVAL", "local t={} for i=1,7000 do t[i]=i end return #{unpack(t)}", 0),
    ("EVAL", "return string.find('a b c',' ',1,true)", 0),
    ("EVAL", "return {string.match('inc 5 6','(%S+) (%S+)')}", 0),
    ("EVAL", "return redis.call('HMGET',KEYS[1],'x','y')", 1, "nohash"),
    ("EVAL", "local r=redis.call('HMGET',KEYS[1],'x','y') return {r[1]==false, #r}", 1, "nohash"),
    ("EVAL", "local r=redis.call('GET',KEYS[1]) return {r==false, r==nil}", 1, "nohash"),
    ("EVAL", "local r=redis.call('XRANGE',KEYS[1],'-','+') return #r", 1, "nostream"),
    ("EVAL", "local r=redis.call('SET',KEYS[1],'1') return r.ok", 1, "k1"),
    ("EVAL", "local r=redis.call('SET',KEYS[1],'1','NX') return r==false", 1, "k1"),
    ("EVAL", "return redis.call('DEL',KEYS[1],unpack({}))", 1, "k1"),
    ("EVAL", "return redis.call('HSET',KEYS[1],'f',5,'g',5.5)", 1, "hh"),
    ("HGETALL", "hh"),
    ("EVAL", "return math.floor(7/2)", 0),
    ("EVAL", "local a,b=redis.call('TIME'),1 return type(a[1])", 0),
    ("EVAL", "return redis.call('XADD',KEYS[1],'*','d',ARGV[1])~=nil", 1, "xs", "v"),
    ("EVAL", "return redis.call('XADD',KEYS[1],'NOMKSTREAM','*','d','x')", 1, "xnone"),
    ("EVAL", "return {redis.call('XADD',KEYS[1],'NOMKSTREAM','*','d','x')==false}", 1, "xnone"),
    ("EVAL", "return redis.call('XREADGROUP','GROUP','g','c','STREAMS',KEYS[1],'>')", 1, "xnone"),
    ("EVAL", "return 'a'==nil", 0),
    ("EVAL", "return nil", 0),
    ("EVAL", "return {1,nil,3}", 0),
    ("EVAL", "return {nil,3}", 0),
    ("EVAL", "return -1.5", 0),
    ("EVAL", "return 2^53", 0),
    ("EVAL", "return {ok='FINE'}", 0),
    ("EVAL", "return {'x',{ok='FINE'}}", 0),
    ("EVAL", "return table.concat({1,2.5,'x'},',')", 0),
    ("EVAL", "return string.rep('x',3)..string.char(0,255)", 0),
    ("EVAL", "return ARGV", 0, "a", "b"),
    ("SCRIPT", "EXISTS", "0000000000000000000000000000000000000000"),
    ("ECHO", "x"),
    ("SELECT", 1),
    ("GET", "m1"),
    ("SELECT", 0),
    ("FLUSHALL",),
    ("DBSIZE",),
    ("XREAD", "STREAMS", "nostream", "0"),
    ("XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS"),
]


@pytest.mark.server
async def test_the_fake_answers_as_a_server_does(redis_url: str) -> None:
    """Command by command, errors by kind. What differs is not used: MEMORY, OBJECT, sha1hex, bit."""
    real = await _answers(TcpServer.from_url(redis_url))
    fake = await _answers(FakeServer())

    assert fake == real


async def _answers(server: Server) -> list[tuple[Command, Any]]:
    connection = await server.connect("read", timeout=5)
    answers: list[tuple[Command, Any]] = []
    for command in ALIKE:
        try:
            answers.append((command, await connection.execute(*command)))
        except RedisFault as fault:
            answers.append((command, type(fault)))
    await connection.close()
    return answers
