"""The other actors of the tests' system."""

from __future__ import annotations

import asyncio
import time

import msgspec

from actors.actor import Actor
from actors.message import message
from tests.integration.system import system


def boottime() -> float:
    """The clock that all processes of this machine share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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


@system.actor
class Notes(Actor[NotesState]):
    """Writes down what it is told, as slowly as it is told to."""

    @message
    async def write(self, line: str, seconds: float = 0.0) -> int:
        """Add a line, having waited first."""
        if seconds:
            await asyncio.sleep(seconds)
        self.state.lines.append(line)
        return len(self.state.lines)

    @message(read_only=True)
    async def read(self) -> list[str]:
        """Return all lines."""
        return self.state.lines
