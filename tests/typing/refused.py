# type: ignore  # noqa: PGH003 - taken away by the test
# pyright: strict
"""What must be refused: each line marked ``E`` by both type checkers, ``E:mypy`` or ``E:pyright`` by that one.

Every other line must be accepted. Nothing here is run.
"""

from __future__ import annotations

from datetime import UTC, datetime

from actors import Actor, ActorSystem, Client, message
from tests.typing.api import Account, Decorated, InsufficientFunds, IntBox, Quotes, Savings

system = ActorSystem("refused")


def text(_value: str) -> None: ...


async def misuses(client: Client) -> None:
    alice = client.get(Account, "alice")
    quotes = client.get(Quotes, "q")
    await alice.deposit("no")  # E
    await alice.deposit()  # E
    await alice.deposit(1, 2)  # E
    await alice.deposit(amont=1)  # E
    await alice.deposit.tell("no")  # E
    alice.deposit.message("no")  # E
    await alice.deposit.options(timout=1)(1)  # E
    await alice.deposit.options(timeout=1)("no")  # E
    await alice.deposit.options(after=1)(1)  # E (it can only be told)
    await alice.deposit.options(after=1).tell("no")  # E
    await alice.deposit.options(after=1, at=datetime.now(UTC)).tell(1)  # E (one or the other)
    await alice.deposit.options(at=1.5).tell(1)  # E
    await alice.nope()  # E
    alice.deposit(1)  # E (not awaited)
    alice.deposit.tell(1)  # E (not awaited)
    await quotes.prices("A")  # E (a stream is not awaited)
    async for _ in alice.deposit(1):  # E
        pass
    async for _price in quotes.prices(3):  # E
        pass
    await quotes.prices.tell("A")  # E (a stream is not told)
    quotes.prices.options(idempotency_key="k")  # E
    await quotes.compute("a")  # E
    await quotes.compute(1, 2.0)  # E (by keyword only)
    await quotes.pay(quotes, 1)  # E (another actor type)
    await client.send(alice.deposit)  # E
    await client.send(alice.deposit(1))  # E
    client.get(int, "x")  # E
    client.get(Account, 3)  # E
    text(await alice.deposit(1))  # E
    await client.get(Savings, "s").interest("x")  # E
    await client.get(IntBox, "b").put("x")  # E
    Account.deposit(1)  # E (it has no target)
    raise InsufficientFunds(balance="x", requested=1)  # E


async def misuses_self(client: Client) -> None:
    await client.get(Decorated, "d").optional(n=1)  # E (by position only)


@message(readonly=True)  # E
async def misspelt(self: Account) -> None: ...


@system.actor(nme="x")  # E
class Wrong(Actor[None]):
    @message
    async def m(self, x: int) -> int:
        text(self.state.foo)  # E
        await self.m("x")  # E
        await self.client.get(Account, "x").deposit.tell("no")  # E
        return "x"  # E


@system.actor  # E:pyright
class NotAnActor: ...  # E:mypy


class Collides(Actor[dict[str, str]]):
    @message
    async def key(self) -> str:  # E
        return ""

    @message
    async def context(self) -> str:  # E
        return ""

    @message
    async def deactivate(self, n: int) -> int:  # E
        return n

    @message
    async def get(self, name: str) -> str:
        return self.state[name]


class Overrides(Account):
    @message
    async def deposit(self, amount: str) -> int:  # E
        return len(amount)
