"""The other actors of the tests' system, each for one kind of trouble."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from actors.actor import Actor
from actors.message import message
from actors.supervision import Retry
from tests.integration.system import system

QUICK = Retry(max_attempts=5, initial=0.02, maximum=0.1)


def boottime() -> float:
    """The clock that all processes of this machine share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def opened(gate: str) -> None:
    """Wait until the file ``gate`` is there; an empty name is no gate."""
    while gate and not Path(gate).exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)


class Change(msgspec.Struct):
    """An actor went from one owner to the next."""

    before: str
    after: str
    last: float
    """When the last turn at the former owner ran."""
    first: float
    """When the first turn at the next owner ran."""


class PulseState(msgspec.Struct):
    """Where and when an actor has run."""

    beats: int = 0
    owner: str = ""
    at: float = 0.0
    changes: list[Change] = []


@system.actor
class Pulse(Actor[PulseState]):
    """Notes which runner it runs on, and when that changes."""

    @message
    async def beat(self) -> int:
        """Run once."""
        now, owner, state = boottime(), self.context.runner_id.incarnation, self.state
        if state.owner and state.owner != owner:
            state.changes.append(Change(state.owner, owner, state.at, now))
        state.owner, state.at = owner, now
        state.beats += 1
        return state.beats

    @message(read_only=True)
    async def read(self) -> PulseState:
        """Return what was noted."""
        return self.state


class NotesState(msgspec.Struct):
    """What was written, in order."""

    lines: list[str] = []


@system.actor(retry=QUICK)
class Notes(Actor[NotesState]):
    """Writes down what it is told, when it is let."""

    @message
    async def write(self, line: str, gate: str = "") -> int:
        """Add a line once ``gate`` is open; return how many there are."""
        await opened(gate)
        self.state.lines.append(line)
        return len(self.state.lines)

    @message
    async def stumble(self, line: str, gate: str) -> int:
        """Fail, attempt after attempt, for as long as ``gate`` is closed; then add a line."""
        if not Path(gate).exists():
            raise RuntimeError(f"{line}: not yet")
        self.state.lines.append(line)
        return len(self.state.lines)

    @message
    async def perish(self, line: str, gate: str = "") -> int:
        """Kill the process for as long as ``gate`` is closed; then add a line."""
        if not gate or not Path(gate).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        self.state.lines.append(line)
        return len(self.state.lines)

    @message
    async def ask_and_perish(self, other: str, gate: str) -> int:
        """Write to another, then kill the process unless ``gate`` is open; return what the other said."""
        said = await self.client.get(Notes, other).write(f"asked by {self.key}")
        if not Path(gate).exists():
            Path(gate).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.state.lines.append(f"{other} said {said}")
        return said

    @message
    async def block(self, line: str, seconds: float, gate: str) -> int:
        """Block the event loop, as no handler should, unless ``gate`` is open already."""
        if not Path(gate).exists():
            Path(gate).touch()
            time.sleep(seconds)
        self.state.lines.append(line)
        return len(self.state.lines)

    @message
    async def pass_on(self, other: str, line: str) -> None:
        """Write, and tell another to write the same."""
        self.state.lines.append(line)
        await self.client.get(Notes, other).write.tell(line)

    @message
    async def ask_through(self, others: Sequence[str], line: str, gate: str = "") -> int:
        """Ask the first of ``others`` to ask the next, and so on; the last one only writes."""
        await opened(gate)
        said = await self.client.get(Notes, others[0]).ask_through(others[1:], line) if others else 0
        self.state.lines.append(line)
        return said + 1

    @message(read_only=True)
    async def read(self) -> list[str]:
        """Return all lines."""
        return self.state.lines


class CounterState(msgspec.Struct):
    """A count."""

    value: int = 0


@system.actor
class Counter(Actor[CounterState]):
    """Counts."""

    @message
    async def add(self, amount: int = 1, gate: str = "") -> int:
        """Add once ``gate`` is open; return the sum."""
        await opened(gate)
        self.state.value += amount
        return self.state.value

    @message(read_only=True)
    async def value(self) -> int:
        """Return the sum."""
        return self.state.value
