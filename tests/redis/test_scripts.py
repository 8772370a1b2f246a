"""Scripts are called by hash, and loaded where they are not known."""

from __future__ import annotations

from typing import Any

import pytest

from actors._redis import scripts
from actors._redis.connection import Server
from actors._redis.faults import ScriptFailed
from actors._redis.scripts import Script

ECHO = Script("echo", "redis.call('INCR', KEYS[1]) return {KEYS[1], ARGV[1], false, 7}")


async def test_an_unknown_script_is_loaded_and_run_once(server: Server) -> None:
    """A restarted server has an empty script cache; nobody but this module has to know."""
    connection = await server.connect("commit", timeout=5)

    assert await scripts.run(connection, ECHO, ["k"], [b"\xff"]) == [b"k", b"\xff", None, 7]
    assert await scripts.run(connection, ECHO, ["k"], [1.5]) == [b"k", b"1.5", None, 7]
    assert await connection.execute("GET", "k") == b"2"
    await connection.close()


async def test_a_submitted_script_gets_one_reply(server: Server) -> None:
    """Also when it had to be loaded in between."""
    connection = await server.connect("commit", timeout=5)
    replies: list[Any] = []
    scripts.submit(connection, ECHO, ["k"], ["x"], replies.append)
    while not replies:
        await connection.execute("PING")
    await connection.execute("PING")

    assert replies == [[b"k", b"x", None, 7]]
    await connection.close()


async def test_a_script_s_error_reaches_the_caller(server: Server) -> None:
    """As a fault that says it is the script's own."""
    connection = await server.connect("commit", timeout=5)
    with pytest.raises(ScriptFailed, match="boom"):
        await scripts.run(connection, Script("bad", "error('boom')"), [], [])

    with pytest.raises(ScriptFailed):
        await scripts.run(connection, Script("worse", "not lua at all"), [], [])
    await connection.close()


def test_every_script_of_the_package_can_be_read() -> None:
    """Its includes are there and its name is its file's."""
    for name in scripts.names():
        script = scripts.load(name)

        assert script.name == name
        assert "--@include" not in script.text
        assert not script.text.startswith("#!"), "Redis 6.2 does not compile a shebang"
        assert "cmsgpack" not in script.text, "payloads are opaque to Lua"


def test_a_script_is_read_once() -> None:
    """The hash is taken at load, not at each call."""
    name = scripts.names()[0]

    assert scripts.load(name) is scripts.load(name)
