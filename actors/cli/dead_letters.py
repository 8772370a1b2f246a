"""``actor-runner dead-letters``: what was set aside; look at it, replay it, purge it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from cyclopts import App, Group, Parameter

from actors.cli.console import age, confirmed, show, show_one
from actors.cli.failure import Failure, Usage
from actors.cli.where import Place, Where, ask, operands, place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from actors._mailbox.dead_letters import DeadLetter, DeadLetters
    from actors._redis.connection import Connection
    from actors._redis.keys import Keys

app = App(name="dead-letters", help="List, show, replay or purge the messages that were set aside.")

BATCH: Final = 200

T = TypeVar("T")

_WORDS = Parameter(show=False)
_WHICH = Group("Which dead letters", sort_key=2)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which dead letters, by what they are."""

    type: Annotated[str | None, Parameter(help="Only those of this actor type.", group=_WHICH)] = None
    key: Annotated[str | None, Parameter(help="Only those of the actor with this key.", group=_WHICH)] = None
    method: Annotated[str | None, Parameter(help="Only those of this message.", group=_WHICH)] = None
    reason: Annotated[str | None, Parameter(help="Only those set aside for this reason.", group=_WHICH)] = None

    @property
    def empty(self) -> bool:
        """Whether it lets everything through."""
        return self == Filter()

    def arguments(self) -> dict[str, str | None]:
        """Return it as the core takes it."""
        return {"actor_type": self.type, "key": self.key, "method": self.method, "reason": self.reason}


@app.default
@app.command(name="list")
def list_letters(
    *words: Annotated[str, _WORDS],
    where: Where = Where(),  # noqa: B008 - frozen
    only: Filter = Filter(),
    limit: Annotated[int, Parameter(help="How many at most.")] = 100,
) -> None:
    """List dead letters, the oldest first: ``dead-letters [list] module:system``."""
    found, rest = place(where, words, usage="dead-letters module:system")
    operands(rest, least=0, most=0, usage="actor-runner dead-letters module:system")

    async def read(letters: DeadLetters) -> tuple[list[DeadLetter], int, int]:
        rows = [letter async for letter in letters.list(**only.arguments(), limit=limit)]
        return rows, await letters.count(), await letters.dropped()

    letters, count, dropped = _ask(found, read)
    rows = [_row(letter) for letter in letters]
    if where.output == "table":
        for row in rows:
            row["age"] = age(row["age"])
            row["error"] = _short(row["error"])
    columns = ["id", "age", "actor", "method", "reason", "attempts", "error"]
    show(rows, where.output, empty="no dead letters" if only.empty else "no dead letter is like that", columns=columns)
    if where.output == "table":
        if len(rows) < count and only.empty:
            print(f"… {len(rows):,} of {count:,}; more with --limit")
        if dropped:
            print(f"{dropped:,} older ones were dropped for lack of room (dead_letter_capacity)")


@app.command(name="show")
def show_letter(*words: Annotated[str, _WORDS], where: Where = Where()) -> None:  # noqa: B008 - frozen
    """Show one dead letter with its arguments and its error: ``dead-letters show module:system ID``."""
    usage = "actor-runner dead-letters show module:system ID"
    found, rest = place(where, words, usage=usage)
    (name,) = operands(rest, least=1, most=1, usage=usage)
    (letter,) = _ask(found, lambda letters: _named(letters, [name]))
    show_one(
        {**_row(letter), "arguments": letter.arguments, "bytes": len(letter.raw), "shard": letter.shard, "entry": letter.entry},
        where.output,
    )


@app.command
def replay(
    *words: Annotated[str, _WORDS],
    where: Where = Where(),  # noqa: B008 - frozen
    only: Filter = Filter(),
    everything: Annotated[bool, Parameter(name="--all", help="All of them.", negative=(), group=_WHICH)] = False,
) -> int:
    """Put dead letters back into their mailboxes: ``dead-letters replay module:system ID…``.

    By their ids, by ``--type``, ``--key``, ``--method`` and ``--reason``, or ``--all``. Each
    runs again as a tell under its old message id, behind what waits for its actor now.
    """
    usage = "actor-runner dead-letters replay module:system ID… | --type … | --all"
    found, names = _chosen(words, where, only, everything=everything, usage=usage)
    done, left = _each(found, names, only, lambda letters, some: letters.replay(some), "replayed")
    print(f"{done:,} replayed" + (f", {left:,} left: they cannot be read as messages" if left else ""))
    return 1 if left else 0


@app.command
def purge(
    *words: Annotated[str, _WORDS],
    where: Where = Where(),  # noqa: B008 - frozen
    only: Filter = Filter(),
    everything: Annotated[bool, Parameter(name="--all", help="All of them.", negative=(), group=_WHICH)] = False,
    yes: Annotated[bool, Parameter(help="Do not ask.", negative=())] = False,
) -> int:
    """Delete dead letters for good: ``dead-letters purge module:system ID…``.

    By their ids, by ``--type``, ``--key``, ``--method`` and ``--reason``, or ``--all``.
    """
    usage = "actor-runner dead-letters purge module:system ID… | --type … | --all"
    found, names = _chosen(words, where, only, everything=everything, usage=usage)
    what = f"{len(names)} dead letters" if names else "all dead letters" if only.empty else "all dead letters that match"
    if not confirmed(f"delete {what} of {found.name} for good?", yes=yes):
        raise Failure("nothing was deleted", "say --yes to delete without being asked")
    done, _ = _each(found, names, only, lambda letters, some: letters.purge(some), "purged")
    print(f"{done:,} purged")
    return 0


def _chosen(words: Sequence[str], where: Where, only: Filter, *, everything: bool, usage: str) -> tuple[Place, list[str]]:
    found, names = place(where, words, usage=usage)
    ways = bool(names) + (not only.empty) + everything
    if ways != 1:
        problem = "which dead letters?" if not ways else "ids, a filter and --all do not go together"
        raise Usage(problem, f"usage: {usage}")
    return found, names


def _each(
    found: Place, names: Sequence[str], only: Filter, act: Callable[[DeadLetters, Sequence[DeadLetter]], Awaitable[int]], verb: str
) -> tuple[int, int]:
    """Act on all that were chosen, batch by batch; return how many it worked for, and for how many not."""

    async def work(letters: DeadLetters) -> tuple[int, int]:
        done = looked_at = 0
        batch: list[DeadLetter] = []

        async def flush() -> None:
            nonlocal done
            done += await act(letters, batch)
            batch.clear()
            if sys.stderr.isatty():
                print(f"\r\x1b[K{done:,} {verb}", end="", file=sys.stderr, flush=True)

        if names:
            batch = await _named(letters, names)
            looked_at = len(batch)
        else:
            until = await letters.count()  # one that dies again meanwhile is not taken up twice
            async for letter in letters.list(**only.arguments(), limit=until):
                batch.append(letter)
                looked_at += 1
                if len(batch) >= BATCH:
                    await flush()
        await flush()
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        return done, looked_at - done

    return _ask(found, work)


async def _named(letters: DeadLetters, names: Sequence[str]) -> list[DeadLetter]:
    chosen: list[DeadLetter] = []
    for name in names:
        head, dash, tail = name.partition("-")
        if not (head.isdigit() and dash and tail.isdigit()):
            raise Usage(f"{name!r} is no id of a dead letter", "ids look like 1700000000000-0; see: actor-runner dead-letters")
        letter = await letters.show(name)
        if letter is None:
            raise Failure(
                f"there is no dead letter {name}", "it was replayed or purged, or there never was one; see: actor-runner dead-letters"
            )
        chosen.append(letter)
    return chosen


def _ask(found: Place, question: Callable[[DeadLetters], Awaitable[T]]) -> T:
    from actors._mailbox.dead_letters import DeadLetters

    async def main(connection: Connection, keys: Keys) -> T:
        async def open_already() -> Connection:
            return connection

        return await question(DeadLetters(open_already, keys))

    return ask(found, main)


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "age": max(0.0, time.time() - letter.at),
        "actor": f"{letter.actor_type}/{letter.key}" if letter.replayable else None,
        "method": letter.method or None,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "error": letter.error,
        "message_id": letter.message_id or None,
    }


def _short(text: str) -> str:
    line = text.strip().splitlines()[-1] if text.strip() else ""
    return line if len(line) <= 100 else f"{line[:99]}…"
