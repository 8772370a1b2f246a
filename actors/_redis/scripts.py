"""Lua scripts: loaded from this package, called by hash, loaded into a server that does not know them.

A script file may hold lines ``--@include name``; each is replaced by ``scripts/name.lua``
before the hash is taken, so that rules which several scripts keep are written once.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from actors._redis.connection import Argument, Connection, OnReply, settle
from actors._redis.faults import NoScript, RedisFault


class Script:
    """One script's name and text; ``sha`` is the name Redis gives it."""

    __slots__ = ("_call", "name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._call = (b"EVALSHA", self.sha.encode())

    def command(self, keys: Sequence[Argument], args: Sequence[Argument]) -> tuple[Argument, ...]:
        """Return the command that runs it."""
        return (*self._call, len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"Script({self.name})"


@functools.cache
def load(name: str) -> Script:
    """Return the script ``scripts/<name>.lua``, read once."""
    return Script(name, _text(name, ()))


def names() -> list[str]:
    """Return the names of all script files, those that are only included by others too."""
    files = resources.files("actors._redis").joinpath("scripts").iterdir()
    return sorted(file.name.removesuffix(".lua") for file in files if file.name.endswith(".lua"))


async def run(connection: Connection, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
    """Run ``script`` and return its reply; raise :class:`~actors._redis.faults.RedisFault`.

    Cancelling this does not stop the script: it was sent, or will be.
    """
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    submit(connection, script, keys, args, functools.partial(settle, future))
    return await future


def submit(connection: Connection, script: Script, keys: Sequence[Argument], args: Sequence[Argument], on_reply: OnReply) -> None:
    """Run ``script``; ``on_reply`` gets its reply or a fault, once.

    Where the server does not know the script, it is loaded and called once more. Commands
    submitted in between have then run before it: order between scripts on one connection
    holds only while the caller has one in flight, or checks order in the script.
    """
    command = script.command(keys, args)

    def first(reply: Any) -> None:
        if type(reply) is NoScript:
            connection.submit(("SCRIPT", "LOAD", script.text), loaded)
        else:
            on_reply(reply)

    def loaded(reply: Any) -> None:
        if isinstance(reply, RedisFault):
            on_reply(reply)
        else:
            connection.submit(command, on_reply)

    connection.submit(command, first)


def _text(name: str, within: tuple[str, ...]) -> str:
    if name in within:
        raise ValueError(f"script {within[0]} includes itself: {' -> '.join((*within, name))}")
    text = resources.files("actors._redis").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda line: _text(line["name"], (*within, name)).rstrip("\n"), text)


_INCLUDE = re.compile(r"^--@include (?P<name>[\w-]+)[ \t]*$", re.MULTILINE)
