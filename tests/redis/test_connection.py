"""Connections: order, faults, losses. One suite for real servers and the fake."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from actors._redis import faults
from actors._redis.connection import Command, Server, TcpServer, masked_url
from actors._redis.embedded import EmbeddedServer, bundled_server
from actors._redis.faults import RedisFault
from actors.errors import ConfigurationError
from tests.redis.conftest import Lab

# ---------------------------------------------------------------------------------------
# Replies


async def test_replies_come_in_the_order_of_the_commands(server: Server) -> None:
    """Whoever pipelines commits counts on it."""
    connection = await server.connect("commit", timeout=5)
    replies: list[Any] = []
    for _ in range(100):
        connection.submit(("INCR", "n"), replies.append)
    await connection.execute("PING")

    assert replies == list(range(1, 101))
    assert connection.statistics().answered >= 101
    await connection.close()


SHAPES: list[tuple[Command, Any]] = [
    (("SET", "k", b"\x00\xff"), b"OK"),
    (("GET", "k"), b"\x00\xff"),
    (("GET", "missing"), None),
    (("SET", "k", "v", "NX"), None),
    (("INCRBY", "n", 5), 5),
    (("EXISTS", "k", "n"), 2),
    (("DEL", "k"), 1),
    (("PTTL", "n"), -1),
    (("PTTL", "missing"), -2),
    (("HSET", "h", "a", 1, "b", 2.5), 2),
    (("HGETALL", "h"), [b"a", b"1", b"b", b"2.5"]),
    (("HGETALL", "missing"), []),
    (("HMGET", "h", "a", "x"), [b"1", None]),
    (("HDEL", "h", "b"), 1),
    (("ZADD", "z", 1.5, "m", 2, "n"), 2),
    (("ZRANGE", "z", 0, -1, "WITHSCORES"), [b"m", b"1.5", b"n", b"2"]),
    (("ZRANGEBYSCORE", "z", "-inf", 1.7), [b"m"]),
    (("ZSCORE", "z", "missing"), None),
    (("RPUSH", "l", "a", "b"), 2),
    (("LRANGE", "l", 0, -1), [b"a", b"b"]),
    (("TYPE", "l"), b"list"),
    (("XADD", "s", "5-1", "d", "x"), b"5-1"),
    (("XADD", "missing", "NOMKSTREAM", "*", "d", "x"), None),
    (("XADD", "s", "5-2", "d", "y", "e", "z"), b"5-2"),
    (("XLEN", "s"), 2),
    (("XRANGE", "s", "-", "+", "COUNT", 1), [[b"5-1", [b"d", b"x"]]]),
    (("XRANGE", "missing", "-", "+"), []),
    (("XREAD", "COUNT", 1, "STREAMS", "s", "0"), [[b"s", [[b"5-1", [b"d", b"x"]]]]]),
    (("XREAD", "STREAMS", "s", "5-2"), None),
    (("XREAD", "BLOCK", 20, "STREAMS", "s", "$"), None),
    (("XGROUP", "CREATE", "s", "g", "0"), b"OK"),
    (("XGROUP", "CREATE", "t", "g", "0", "MKSTREAM"), b"OK"),
    (
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", 5, "BLOCK", 50, "STREAMS", "t", "s", ">", ">"),
        [[b"s", [[b"5-1", [b"d", b"x"]], [b"5-2", [b"d", b"y", b"e", b"z"]]]]],
    ),
    (("XREADGROUP", "GROUP", "g", "c", "BLOCK", 20, "STREAMS", "s", ">"), None),
    (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"), None),
    (("XPENDING", "s", "g"), [2, b"5-1", b"5-2", [[b"c", b"2"]]]),
    (("XACK", "s", "g", "5-1"), 1),
    (("XDEL", "s", "5-1", "5-2"), 2),
    (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "0"), [[b"s", [[b"5-2", None]]]]),
    (("XLEN", "s"), 0),
    (("XGROUP", "DESTROY", "s", "g"), 1),
    (("XGROUP", "DESTROY", "s", "g"), 0),
    (("EXISTS", "s"), 1),
    (("EVAL", "return {1, 2.9, 'x', false, true, {}, {1, {2}}, {'a', nil, 'b'}}", 0), [1, 2, b"x", None, 1, [], [1, [2]], [b"a"]]),
    (("EVAL", "return redis.status_reply('FINE')", 0), b"FINE"),
    (("EVAL", "return redis.call('GET', 'missing')", 0), None),
    (("EVAL", "return redis.call('HGETALL', 'h')", 0), [b"a", b"1"]),
    (("EVAL", "return redis.call('XRANGE', 't', '-', '+')", 0), []),
    (("EVAL", "return redis.pcall('LPUSH', 'h', 1)['err'] and 1", 0), 1),
    (("EVAL", "return tostring(redis.call('TIME')[1] ~= nil)", 0), b"true"),
    (("EVAL", "return ARGV[1] .. #ARGV[2]", 0, 1.5, b"\xff\x00"), b"1.52"),
    (("EVAL", "return {KEYS[1], #KEYS, #ARGV}", 2, "a", "b", "c"), [b"a", 2, 1]),
    (("EVAL", "redis.call('SET', 'f', 12345678901234567) return redis.call('GET', 'f')", 0), b"12345678901234568"),
    (("EVAL", "return string.format('%.0f', 1e15 + 1)", 0), b"1000000000000001"),
    (("ROLE",), [b"master", 0, []]),
    (("CONFIG", "GET", "maxmemory-policy"), [b"maxmemory-policy", b"noeviction"]),
    (("CLIENT", "SETNAME", "x"), b"OK"),
    (("WAIT", 0, 10), 0),
]


async def test_replies_have_resp2_s_shape(server: Server) -> None:
    """What a real server answers is what the fake answers, down to None and nesting."""
    connection = await server.connect("read", timeout=5)
    answers = [(command, await connection.execute(*command)) for command, _ in SHAPES]

    assert answers == SHAPES
    await connection.close()


async def test_time_and_info_can_be_read(server: Server) -> None:
    """Start-up checks read them."""
    connection = await server.connect("control", timeout=5)
    seconds, micros = await connection.execute("TIME")
    info = await connection.execute("INFO")

    assert int(seconds) > 1_700_000_000
    assert 0 <= int(micros) < 1_000_000
    assert b"redis_version:" in info
    assert b"\r\nrole:master\r\n" in info
    await connection.close()


ERRORS: list[tuple[Command, type[RedisFault]]] = [
    (("LPUSH", "s", 1), faults.WrongType),
    (("EVAL", "return redis.call('LPUSH', 's', 1)", 0), faults.ScriptFailed),
    (("EVAL", "error('boom')", 0), faults.ScriptFailed),
    (("EVAL", "forgotten_local = 1", 0), faults.ScriptFailed),
    (("EVAL", "return forgotten_local", 0), faults.ScriptFailed),
    (("EVAL", "this is not lua", 0), faults.ScriptFailed),
    (("EVAL", "return redis.call('NOSUCH')", 0), faults.ScriptFailed),
    (("EVAL", "return redis.error_reply('MINE own')", 0), faults.CommandFailed),
    (("EVALSHA", "0" * 40, 0), faults.NoScript),
    (("NOSUCH",), faults.CommandFailed),
    (("GET",), faults.CommandFailed),
    (("XREADGROUP", "GROUP", "no", "c", "STREAMS", "t", ">"), faults.NoGroup),
    (("XREADGROUP", "GROUP", "no", "c", "BLOCK", 50, "STREAMS", "t", ">"), faults.NoGroup),
    (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "missing", ">"), faults.NoGroup),
    (("XGROUP", "CREATE", "t", "g", "0"), faults.GroupExists),
    (("EXEC",), faults.CommandFailed),
]


async def test_error_replies_are_faults_of_their_kind(server: Server) -> None:
    """They are raised by futures, passed to callbacks, and cost no other command its reply."""
    connection = await server.connect("read", timeout=5)
    await connection.execute("SET", "s", "text")
    await connection.execute("XGROUP", "CREATE", "t", "g", "0", "MKSTREAM")
    for command, kind in ERRORS:
        with pytest.raises(RedisFault) as caught:
            await connection.execute(*command)
        assert type(caught.value) is kind, (command, caught.value)

    replies: list[Any] = []
    connection.submit(("LPUSH", "s", 1), replies.append)
    connection.submit(("GET", "s"), replies.append)
    await connection.execute("PING")
    assert type(replies[0]) is faults.WrongType
    assert replies[1] == b"text"
    await connection.close()


async def test_a_callback_that_raises_disturbs_no_other(server: Server) -> None:
    """One caller's bug must not leave the others waiting; it is reported to the loop."""
    connection = await server.connect("commit", timeout=5)
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    replies: list[Any] = []

    def broken(_reply: Any) -> None:
        raise LookupError("a bug")

    connection.submit(("SET", "k", 1), broken)
    connection.submit(("GET", "k"), replies.append)
    await connection.execute("PING")

    assert replies == [b"1"]
    assert [type(context["exception"]) for context in reported] == [LookupError]
    await connection.close()


async def test_a_callback_never_runs_inside_submit(server: Server) -> None:
    """A caller may hold its state half-changed while it submits."""
    connection = await server.connect("commit", timeout=5)
    replies: list[Any] = []
    connection.submit(("PING",), replies.append)
    assert replies == []
    await connection.execute("PING")
    await connection.close()

    connection.submit(("PING",), replies.append)
    assert len(replies) == 1
    await asyncio.sleep(0)
    assert type(replies[1]) is faults.Refused


async def test_a_cancelled_caller_never_touches_the_connection(server: Server) -> None:
    """The next caller gets its own reply on the same connection."""
    connection = await server.connect("commit", timeout=5)
    for n in range(50):
        abandoned = connection.execute("SET", "k", n)
        abandoned.cancel()

    assert await connection.execute("GET", "k") == b"49"
    assert not connection.closed
    await connection.close()


async def test_what_cannot_be_encoded_is_refused_before_anything_is_sent(server: Server) -> None:
    """The pipeline stays in step."""
    connection = await server.connect("commit", timeout=5)
    with pytest.raises(TypeError):
        connection.submit(("SET", "k", None), lambda _reply: None)  # type: ignore[arg-type]

    assert await connection.execute("ECHO", "still in step") == b"still in step"
    await connection.close()


# ---------------------------------------------------------------------------------------
# Blocking reads


async def test_a_blocking_read_without_its_group_is_refused_at_once(server: Server) -> None:
    """One stream of many is enough, and nothing is taken from the others."""
    connection = await server.connect("read", timeout=10)
    await connection.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    await connection.execute("XADD", "s", "1-1", "d", "x")
    with pytest.raises(faults.NoGroup):
        await connection.execute("XREADGROUP", "GROUP", "g", "c", "BLOCK", 8000, "STREAMS", "s", "other", ">", ">")

    assert (await connection.execute("XPENDING", "s", "g"))[0] == 0
    await connection.close()


async def test_a_blocked_read_is_answered_when_an_entry_comes(server: Server) -> None:
    """At once, not at the end of its BLOCK."""
    reader = await server.connect("read", timeout=10)
    writer = await server.connect("send", timeout=5)
    await writer.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    read = reader.execute("XREADGROUP", "GROUP", "g", "c", "BLOCK", 8000, "STREAMS", "s", ">")
    await writer.execute("XADD", "s", "1-1", "d", "x")

    async with asyncio.timeout(5):
        assert await read == [[b"s", [[b"1-1", [b"d", b"x"]]]]]
    await reader.close()
    await writer.close()


async def test_a_blocked_read_of_the_end_sees_what_comes_while_it_blocks(server: Server) -> None:
    """``$`` means the end when the read began."""
    reader = await server.connect("inbox", timeout=10)
    writer = await server.connect("send", timeout=5)
    await writer.execute("XADD", "s", "1-1", "d", "before")
    read = reader.execute("XREAD", "BLOCK", 8000, "STREAMS", "s", "$")
    behind = reader.execute("ECHO", "waits its turn")
    await asyncio.sleep(0)
    assert not read.done()
    await writer.execute("XADD", "s", "1-2", "d", "after")

    async with asyncio.timeout(5):
        assert await read == [[b"s", [[b"1-2", [b"d", b"after"]]]]]
        assert await behind == b"waits its turn"
    await reader.close()
    await writer.close()


async def test_a_destroyed_group_ends_the_blocked_read(server: Server) -> None:
    """This is how a former owner learns that its stream was taken over."""
    reader = await server.connect("read", timeout=10)
    writer = await server.connect("control", timeout=5)
    await writer.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    await writer.execute("XGROUP", "CREATE", "t", "g", "0", "MKSTREAM")
    read = reader.execute("XREADGROUP", "GROUP", "g", "c", "BLOCK", 8000, "STREAMS", "s", "t", ">", ">")
    await asyncio.sleep(0)
    await writer.execute("EVAL", "return redis.call('XGROUP', 'DESTROY', KEYS[1], 'g')", 1, "t")
    await writer.execute("XADD", "s", "1-1", "d", "x")

    async with asyncio.timeout(5):
        with pytest.raises(faults.NoGroup):
            await read
    assert await writer.execute("XPENDING", "s", "g") == [0, None, None, None]
    await reader.close()
    await writer.close()


# ---------------------------------------------------------------------------------------
# Losses


async def test_a_lost_connection_answers_everything_and_then_says_so(lab: Lab) -> None:
    """Sent and unanswered is unknown; nobody waits for ever; the owner hears of it last, once."""
    told: list[Any] = []
    lost = asyncio.Event()

    def on_lost(fault: RedisFault) -> None:
        told.append(("lost", type(fault)))
        lost.set()

    connection = await lab.server.connect("read", timeout=10, on_lost=on_lost)
    await connection.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    connection.submit(("XREADGROUP", "GROUP", "g", "c", "BLOCK", 8000, "STREAMS", "s", ">"), lambda reply: told.append(type(reply)))
    connection.submit(("PING",), lambda reply: told.append(type(reply)))
    await asyncio.sleep(0)
    await lab.sever()
    async with asyncio.timeout(5):
        await lost.wait()

    assert told == [faults.Disconnected, faults.Disconnected, ("lost", faults.Disconnected)]
    assert connection.closed
    with pytest.raises(faults.Refused):
        await connection.execute("PING")
    await connection.close()
    assert len(told) == 3


async def test_the_oldest_unanswered_command_decides_about_time(lab: Lab) -> None:
    """Replies come in order: if one is late, those behind it are, and none will ever be matched again."""
    told: list[Any] = []
    lost = asyncio.Event()

    def on_lost(fault: RedisFault) -> None:
        told.append(("lost", type(fault)))
        lost.set()

    connection = await lab.server.connect("commit", timeout=0.2, on_lost=on_lost)
    await lab.stall()
    connection.submit(("SET", "k", 1), lambda reply: told.append(type(reply)))
    connection.submit(("SET", "k", 2), lambda reply: told.append(type(reply)))
    async with asyncio.timeout(5):
        await lost.wait()

    assert told == [faults.TimedOut, faults.TimedOut, ("lost", faults.TimedOut)]
    assert issubclass(faults.TimedOut, faults.Unknown)


async def test_a_quiet_connection_is_never_late(server: Server) -> None:
    """Only commands have a time-out."""
    connection = await server.connect("commit", timeout=0.05)
    await connection.execute("PING")
    await asyncio.sleep(0.2)

    assert await connection.execute("PING") == b"PONG"
    await connection.close()


async def test_a_loop_that_was_held_up_does_not_take_it_out_on_the_server(server: Server) -> None:
    """The reply has come in time, it was only not looked at."""
    connection = await server.connect("commit", timeout=0.1)
    reply = connection.execute("ECHO", "in time")
    await asyncio.sleep(0)
    threading.Event().wait(0.3)  # a handler that blocks the loop

    assert await reply == b"in time"
    await connection.close()


async def test_closing_answers_what_waits_and_tells_nobody_else(server: Server) -> None:
    """Whoever closes knows; those who wait must still be let go."""
    lost: list[Any] = []
    connection = await server.connect("read", timeout=10, on_lost=lost.append)
    await connection.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    read = connection.execute("XREADGROUP", "GROUP", "g", "c", "BLOCK", 8000, "STREAMS", "s", ">")
    await connection.close()

    with pytest.raises(faults.Unknown):
        await read
    assert lost == []
    await connection.close()


async def test_statistics_count_what_this_connection_sent(server: Server) -> None:
    """A server's own counter also counts the commands inside scripts."""
    connection = await server.connect("commit", timeout=5)
    before = connection.statistics()
    for _ in range(3):
        connection.submit(("PING",), lambda _reply: None)
    assert connection.statistics().sent - before.sent == 3
    await connection.execute("EVAL", "for i = 1, 10 do redis.call('PING') end", 0)

    assert connection.statistics().answered - before.answered == 4
    await connection.close()


@pytest.mark.server
async def test_a_stopped_server_is_told_by_time_and_a_dead_one_at_once(own_server: EmbeddedServer) -> None:
    """A stopped process still accepts connections; it must not be taken for a slow one for ever."""
    server = TcpServer.from_url(own_server.url)
    connection = await server.connect("commit", timeout=0.3)
    own_server.pause()
    with pytest.raises(faults.TimedOut):
        await connection.execute("SET", "k", "late")
    with pytest.raises(faults.Refused, match="did not answer"):
        await server.connect("commit", timeout=0.1)
    with pytest.raises(faults.Refused, match="did not answer"):
        server.connect_sync("lease", timeout=0.1)
    own_server.resume()
    connection = await server.connect("commit", timeout=5)
    assert await connection.execute("GET", "k") == b"late", "what was given up on was applied all the same"

    sync = server.connect_sync("lease", timeout=5)
    own_server.kill()
    with pytest.raises(faults.Disconnected):
        await connection.execute("PING")
    with pytest.raises(faults.Disconnected):
        sync.execute("PING")
    with pytest.raises(faults.Refused, match="Nothing listens"):
        await server.connect("commit", timeout=5)


# ---------------------------------------------------------------------------------------
# From a thread


async def test_a_sync_connection_speaks_the_same(server: Server) -> None:
    """The lease's thread has the same replies and faults."""
    connection = server.connect_sync("lease", timeout=5)
    assert connection.execute("SET", "k", b"\xff") == b"OK"
    assert connection.execute("EVAL", "return {1, false, 'x'}", 0) == [1, None, b"x"]
    with pytest.raises(faults.WrongType):
        connection.execute("LPUSH", "k", 1)
    assert connection.execute("GET", "k") == b"\xff"
    assert not connection.closed

    connection.close()
    with pytest.raises(faults.Refused):
        connection.execute("PING")


async def test_a_late_answer_closes_a_sync_connection(lab: Lab) -> None:
    """A reply that is still to come must not be taken for the next command's."""
    connection = lab.server.connect_sync("lease", timeout=0.1)
    await lab.stall()
    with pytest.raises(faults.TimedOut):
        connection.execute("PING")

    assert connection.closed


# ---------------------------------------------------------------------------------------
# Connecting, on real servers


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.server
def test_every_loop_will_do(valkey: EmbeddedServer, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """uvloop in our own processes, anything else where we are embedded."""

    async def talk() -> list[Any]:
        lost: asyncio.Future[RedisFault] = asyncio.get_running_loop().create_future()
        server = TcpServer.from_url(valkey.url)
        connection = await server.connect("commit", timeout=2, on_lost=lost.set_result)
        replies = [await connection.execute("PING")]
        large = b"x" * 3_000_000
        replies.append(len(await connection.execute("ECHO", large)))
        aside = server.connect_sync("aside", timeout=2)
        aside.execute("CLIENT", "KILL", "TYPE", "normal")
        replies.append(type(await lost))
        aside.close()
        await connection.close()
        return replies

    with asyncio.Runner(loop_factory=loop_factory, debug=True) as runner:
        assert runner.run(talk()) == [b"PONG", 3_000_000, faults.Disconnected]


@pytest.mark.server
async def test_what_never_went_out_is_not_unknown(valkey: EmbeddedServer) -> None:
    """It may be sent again as it is; what did go out may not."""
    connection = await TcpServer.from_url(valkey.url).connect("commit", timeout=5)
    replies: list[Any] = []
    for _ in range(3):
        connection.submit(("INCR", "unsent"), replies.append)
    await connection.close()

    assert [type(reply) for reply in replies] == [faults.Disconnected, faults.Refused, faults.Refused]


@pytest.mark.server
async def test_connections_carry_their_purpose(valkey: EmbeddedServer) -> None:
    """CLIENT LIST tells an operator who is who."""
    connection = await TcpServer.from_url(valkey.url).connect("commit", timeout=5)

    assert await connection.execute("CLIENT", "GETNAME") == b"actors-commit"
    await connection.close()


async def test_a_refused_connection_names_the_server() -> None:
    """And keeps the password to itself, in both kinds of connection."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = TcpServer.from_url(f"redis://u:secret@127.0.0.1:{unused.getsockname()[1]}")

        with pytest.raises(faults.Refused, match=r"Nothing listens at redis://u:\*\*\*@127\.0\.0\.1"):
            await server.connect("commit", timeout=1)
        with pytest.raises(faults.Refused, match=r"Nothing listens at redis://u:\*\*\*@127\.0\.0\.1"):
            server.connect_sync("lease", timeout=1)
    assert "secret" not in repr(server)


async def test_a_server_that_says_nothing_is_refused_in_time() -> None:
    """A port that accepts and never answers is not a Redis."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        server = TcpServer.from_url(f"redis://127.0.0.1:{mute.getsockname()[1]}")

        with pytest.raises(faults.Refused, match=r"did not answer within 0\.1 s"):
            await server.connect("commit", timeout=0.1)
        with pytest.raises(faults.Refused, match=r"did not answer within 0\.1 s"):
            server.connect_sync("lease", timeout=0.1)


async def test_something_that_is_no_redis_is_refused() -> None:
    """It must not be taken for a slow one."""

    async def web(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()
        answered.set()

    answered = asyncio.Event()
    async with await asyncio.start_server(web, "127.0.0.1", 0) as listener:
        server = TcpServer.from_url(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        with pytest.raises(faults.Refused):
            await server.connect("commit", timeout=1)
        await answered.wait()


@pytest.mark.server
async def test_credentials_are_used_and_their_failure_is_told() -> None:
    """Wrong, missing and right ones, by password alone and by user."""
    with EmbeddedServer(executable=bundled_server(), persistent=False) as running:
        admin = TcpServer.from_url(running.url).connect_sync("aside", timeout=5)
        admin.execute("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-client")
        admin.execute("CONFIG", "SET", "requirepass", "p@ss/word")
        admin.close()
        port = running.port

        for right in (f"redis://:p%40ss%2Fword@127.0.0.1:{port}", f"redis://app:pw@127.0.0.1:{port}/3"):
            connection = await TcpServer.from_url(right).connect("commit", timeout=5)
            assert await connection.execute("SET", "k", 1) == b"OK"
            await connection.close()
        for wrong in (f"redis://127.0.0.1:{port}", f"redis://:no@127.0.0.1:{port}", f"redis://who:pw@127.0.0.1:{port}"):
            with pytest.raises(faults.AuthenticationFailed, match="refused the credentials"):
                await TcpServer.from_url(wrong).connect("commit", timeout=5)
            with pytest.raises(faults.AuthenticationFailed, match="refused the credentials"):
                TcpServer.from_url(wrong).connect_sync("lease", timeout=5)
        with pytest.raises(faults.CommandFailed, match="out of range"):
            await TcpServer.from_url(f"redis://app:pw@127.0.0.1:{port}/9999").connect("commit", timeout=5)


@pytest.mark.server
async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    """Where the server shares the machine."""
    path = tmp_path / "redis.sock"
    with EmbeddedServer(executable=bundled_server(), persistent=False, options={"unixsocket": str(path)}):
        server = TcpServer.from_url(f"unix://{path}?db=2")
        connection = await server.connect("commit", timeout=5)
        assert await connection.execute("PING") == b"PONG"
        await connection.close()

        sync = server.connect_sync("lease", timeout=5)
        assert sync.execute("PING") == b"PONG"
        sync.close()


@pytest.mark.server
async def test_tls_is_checked_against_the_given_authority(tmp_path: Path) -> None:
    """rediss:// talks to the server it means, and to no other."""
    redis_server, openssl = shutil.which("redis-server"), shutil.which("openssl")
    if redis_server is None or openssl is None:
        pytest.skip("no redis-server or no openssl here")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "tls-port": str(port), "tls-cert-file": str(certificate), "tls-key-file": str(key),
        "tls-ca-cert-file": str(certificate), "tls-auth-clients": "optional",
    }  # fmt: skip
    with _started_with_tls(redis_server, options):
        good = TcpServer.from_url(f"rediss://localhost:{port}?ssl_ca_certs={certificate}&ssl_certfile={certificate}&ssl_keyfile={key}")
        connection = await good.connect("commit", timeout=5)
        assert await connection.execute("PING") == b"PONG"
        await connection.close()
        sync = good.connect_sync("lease", timeout=5)
        assert sync.execute("PING") == b"PONG"
        sync.close()

        unchecked = await TcpServer.from_url(f"rediss://localhost:{port}?ssl_cert_reqs=none").connect("commit", timeout=5)
        assert await unchecked.execute("PING") == b"PONG"
        await unchecked.close()

        for wrong in (f"rediss://localhost:{port}", f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/missing.pem"):
            with pytest.raises(faults.Refused):
                await TcpServer.from_url(wrong).connect("commit", timeout=5)
            with pytest.raises(faults.Refused):
                TcpServer.from_url(wrong).connect_sync("lease", timeout=5)


# ---------------------------------------------------------------------------------------
# URLs


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://user:secret@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://user@host", "redis://user@host"),
        ("redis://u:a%40b@host", "redis://u:***@host"),
        ("redis://u:a@b@host", "redis://u:***@host"),
        ("unix:///run/redis.sock?username=u&password=secret&db=1", "unix:///run/redis.sock?username=u&password=***&db=1"),
        ("rediss://h?ssl_keyfile=k&ssl_password=secret", "rediss://h?ssl_keyfile=k&ssl_password=***"),
    ],
)
def test_a_url_is_printed_without_its_secrets(url: str, masked: str) -> None:
    """It ends up in logs, errors and probes."""
    assert masked_url(url) == masked
    assert TcpServer.from_url(url).url == masked


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost", "one of the following schemes"),
        ("localhost:6379", "one of the following schemes"),
        ("unix://", "names no socket"),
        ("redis://h?protocol=3", "option 'protocol', which is not known"),
        ("redis://h?db=x", "Invalid value for 'db'"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("redis://h:port", "cannot be read"),
        ("redis://u:se/cret@h", r"'redis://u:\*\*\*@h': cannot be read.*percent-encoded"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url: str, says: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigurationError, match=says):
        TcpServer.from_url(url)


@contextlib.contextmanager
def _started_with_tls(executable: str, options: dict[str, str]) -> Generator[EmbeddedServer, None, None]:
    try:
        with EmbeddedServer(executable=executable, persistent=False, options=options) as server:
            yield server
    except ConfigurationError as error:
        if "TLS support" in str(error) or "Bad directive" in str(error):
            pytest.skip("this server was built without TLS")
        raise
