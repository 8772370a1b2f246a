"""The actors of the randomised worlds: whatever they do leaves a line in their state.

Each line names the operation that left it, so that a state tells which operations took
effect, how often, and in which order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import msgspec

from actors.actor import Actor
from actors.errors import DomainError
from actors.message import message
from actors.supervision import Retry
from actors.system import ActorSystem

system = ActorSystem("worlds")

runs: Counter[str] = Counter()
"""Runs of each operation's handler, those that came to nothing included."""

deaths: list[Callable[[str], None]] = []
"""How a handler kills the process it runs in; set by the world."""


class Lines(msgspec.Struct):
    lines: list[str] = []
    stamp: int = 0
    """Another after each run of a note: a state that never was committed can be told by it."""


@dataclass
class Refused(DomainError):
    op: str


@system.actor(retry=Retry(max_attempts=4, initial=0.05, maximum=0.4))
class Book(Actor[Lines]):
    """Notes what is done to it."""

    @message
    async def note(self, op: str, stamp: int = 0) -> int:
        self.state.lines.append(op)
        runs["notes"] += 1
        self.state.stamp = runs["notes"]
        return len(self.state.lines)

    @message
    async def slowly(self, op: str, seconds: float) -> int:
        self.state.lines.append(op)
        await asyncio.sleep(seconds)
        return len(self.state.lines)

    @message
    def threaded(self, op: str) -> int:
        self.state.lines.append(op)
        return len(self.state.lines)

    @message
    async def pass_on(self, op: str, to: str, *, keyed: bool = False, after: float = 0.0) -> int:
        self.state.lines.append(op)
        other = self.client.get(Book, to)
        if after:
            await other.note.options(after=after).tell(f"{op}>")
        elif keyed:
            await other.note.options(idempotency_key=op).tell(f"{op}>")
        else:
            await other.note.tell(f"{op}>")
        return len(self.state.lines)

    @message
    async def ask_on(self, op: str, to: list[str], seconds: float = 0.0) -> int:
        """Ask others at once, equal asks of one actor included, with what this one's state says now."""
        runs[op] += 1
        self.state.lines.append(f"{op}({runs[op]}")  # gone again if this run comes to nothing
        answers = await asyncio.gather(*[self.client.get(Book, key).note(f"{op}?", self.state.stamp) for key in to])
        if seconds:
            await asyncio.sleep(seconds)
        self.state.lines.pop()
        self.state.lines.append(op)
        assert len(answers) == len(to)
        return len(self.state.lines)

    @message
    async def look_on(self, op: str, to: str) -> int:
        """Ask what another looks like after this; that other asks back nothing."""
        self.state.lines.append(op)
        await self.client.get(Book, to).count()
        return len(self.state.lines)

    @message
    async def flaky(self, op: str, fails: int) -> int:
        self.state.lines.append(op)
        runs[op] += 1
        await self.client.get(Book, "b0").note.tell(f"{op}>")
        if runs[op] <= fails:
            raise RuntimeError(f"{op} fails on purpose")
        return len(self.state.lines)

    @message
    async def refuse(self, op: str) -> None:
        self.state.lines.append(op)
        await self.client.get(Book, "b0").note.tell(f"{op}>")
        raise Refused(op)

    @message
    async def poison(self, op: str, times: int) -> int:
        """Kill the process, the first ``times`` times it runs."""
        self.state.lines.append(op)
        runs[op] += 1
        if runs[op] <= times:
            deaths[0](self.context.runner_id.name)
            await asyncio.Event().wait()
        return len(self.state.lines)

    @message(read_only=True)
    async def count(self) -> int:
        return len(self.state.lines)

    @message
    async def numbers(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            await asyncio.sleep(0.01)
            yield number


@system.actor(state_ttl=3600.0)
class Slate(Actor[Lines]):
    """What is noted here is wiped now and then."""

    @message
    async def note(self, op: str) -> int:
        self.state.lines.append(op)
        return len(self.state.lines)

    @message
    async def wipe(self, op: str) -> int:
        had = len(self.state.lines)
        self.clear()
        return had

    async def on_deactivate(self, reason: str) -> None:
        await self.client.get(Book, "closings").note.tell(f"{self.key}/{reason}")
