"""What a command says when it cannot do its work: what, where, what to do, and the exit code."""

from __future__ import annotations

from typing import Final, cast

import msgspec

from actors.errors import ClusterError

FAILED: Final = 1
USAGE: Final = 2


class Failure(Exception):
    """A command cannot do its work. ``hint`` says what to do about it."""

    def __init__(self, problem: str, hint: str = "", *, code: int = FAILED) -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return self.problem


class Usage(Failure):
    """The command was called with something that cannot be right."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint, code=USAGE)


class Told(msgspec.Struct, frozen=True):
    """What is printed, and the exit code."""

    text: str
    code: int


def explain(error: Exception) -> Told | None:
    """Return what to tell the user about ``error``; ``None`` for a bug of ours, which deserves its traceback."""
    from actors._redis.faults import RedisFault  # a Redis client is a heavy import

    match error:
        case Failure():
            text = f"error: {error.problem}"
            return Told(f"{text}\n  {error.hint}" if error.hint else text, error.code)
        case ClusterError():
            return Told(f"error: {error}", FAILED)
        case RedisFault():
            return Told(f"error: Redis: {error}\n  check --redis (ACTORS_REDIS_URL) and that the server is up", FAILED)
        case ExceptionGroup() if (only := _only(error)) is not error:
            return explain(only)
        case _:
            return None


def _only(error: Exception) -> Exception:
    """Return what is in a group of one, however deep; anything else as it is."""
    inside = _inside(error)
    return _only(inside[0]) if len(inside) == 1 else error


def _inside(error: Exception) -> tuple[Exception, ...]:
    return cast("ExceptionGroup[Exception]", error).exceptions if isinstance(error, ExceptionGroup) else ()
