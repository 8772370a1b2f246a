"""Which system a command is about, and the way to its Redis."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeVar

from cyclopts import Group, Parameter

from actors.cli.console import Output
from actors.cli.failure import Usage
from actors.cli.flags import REDIS_URL

if TYPE_CHECKING:
    from actors._redis.connection import Connection
    from actors._redis.keys import Keys
    from actors.system import ActorSystem

TIMEOUT: Final = 10.0
"""How long a command waits for an answer of Redis, in seconds."""

T = TypeVar("T")

TARGET = Group(
    "Which system", help="module:system as the first argument, or --system and --redis without the application's code.", sort_key=1
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Where:
    """How the user names a system, and how the answer is to look."""

    system: Annotated[str | None, Parameter(help="The system's name, instead of module:system.", group=TARGET)] = None
    redis: Annotated[str | None, Parameter(help=f"URL of its Redis, instead of the system's own or {REDIS_URL}.", group=TARGET)] = None
    output: Annotated[Output, Parameter(name=("--output", "-o"), help="A table for people or JSON for programs.")] = "table"


class Place(NamedTuple):
    """A system found. ``code`` is the application's, where it was named by module:system."""

    name: str
    url: str
    code: ActorSystem | None


def place(where: Where, words: Sequence[str], *, usage: str = "") -> tuple[Place, list[str]]:
    """Return the system that was named, and the words behind it.

    Raises :class:`Usage` when neither way was used, or the URL is nowhere.
    """
    rest = list(words)
    code: ActorSystem | None = None
    if where.system is not None:
        name = where.system
    elif rest:
        from actors.cli.load import load_system

        code = load_system(rest.pop(0))
        name = code.name
    else:
        raise Usage("which system?", f"{usage or 'give module:system'}, or --system NAME --redis URL")
    url = where.redis or (code.redis if code is not None else None) or os.environ.get(REDIS_URL)
    if not url:
        raise Usage("which Redis?", f"give --redis URL or set {REDIS_URL}, such as redis://localhost:6379")
    return Place(name, url, code), rest


def operands(words: Sequence[str], *, least: int, most: int | None, usage: str) -> list[str]:
    """Return ``words`` if there are as many as the command takes; raise :class:`Usage` otherwise."""
    if len(words) < least or (most is not None and len(words) > most):
        raise Usage(f"{len(words)} arguments are not what this takes", f"usage: {usage}")
    return list(words)


@contextlib.asynccontextmanager
async def connected(found: Place) -> AsyncGenerator[tuple[Connection, Keys]]:
    """Open a connection to the system's Redis, and name its keys."""
    from actors._redis.connection import TcpServer
    from actors._redis.keys import Keys

    connection = await TcpServer.from_url(found.url).connect("control", timeout=TIMEOUT)
    try:
        yield connection, Keys(found.name)
    finally:
        await connection.close()


def ask(found: Place, question: Callable[[Connection, Keys], Awaitable[T]]) -> T:
    """Run one command's question on a connection of its own and return the answer."""

    async def main() -> T:
        async with connected(found) as (connection, keys):
            return await question(connection, keys)

    return run(main())


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop, where there is one."""
    import asyncio

    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
