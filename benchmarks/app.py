"""The application that is measured."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec

from actors import Actor, ActorSystem, current_context, message

system = ActorSystem("benchmarks")


class AccountState(msgspec.Struct):
    """What the bare loop keeps of an actor."""

    balance: int = 0
    turns: int = 0


class Beat(msgspec.Struct):
    """Where and when a turn ran."""

    runner: str
    at: float
    """CLOCK_MONOTONIC, which all processes of one machine share."""


@system.actor
class Account(Actor[AccountState]):
    """A turn as small as durable turns get."""

    @message
    async def deposit(self, amount: int) -> int:
        self.state.balance += amount
        self.state.turns += 1
        return self.state.balance

    @message
    async def count_to(self, end: int) -> AsyncIterator[int]:
        for number in range(end):
            yield number


@system.actor
class Beacon(Actor[AccountState]):
    """Says who runs it."""

    @message
    async def beat(self) -> Beat:
        at = time.monotonic()
        self.state.turns += 1
        context = current_context()
        assert context is not None
        return Beat(runner=context.runner_id.name, at=at)
