"""The bank of ``actor-runner demo``: accounts that remember every transfer, so that an audit can be exact."""

from __future__ import annotations

import msgspec

from actors.actor import Actor
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem

OPENING = 1_000_000
"""What every account starts with; nobody runs out of money in a demo."""

system = ActorSystem("demo", settings=Settings(shards=64))


class AccountState(msgspec.Struct):
    """An account: its balance, and the numbers of the transfers it has seen."""

    balance: int = OPENING
    sent: list[int] = []
    received: list[int] = []


@system.actor
class Account(Actor[AccountState]):
    """Sends money to others and receives it."""

    @message
    async def transfer(self, to: str, amount: int, number: int) -> None:
        """Take the amount off here and have it arrive there: both or neither."""
        self.state.balance -= amount
        self.state.sent.append(number)
        await self.client.get(Account, to).receive.tell(amount, number)

    @message
    async def receive(self, amount: int, number: int) -> None:
        """Add the amount of somebody's transfer."""
        self.state.balance += amount
        self.state.received.append(number)

    @message(read_only=True)
    async def balance(self) -> int:
        """Return what is there."""
        return self.state.balance

    @message(read_only=True)
    async def statement(self) -> AccountState:
        """Return all there is to audit."""
        return self.state
