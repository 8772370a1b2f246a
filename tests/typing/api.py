# pyright: strict
"""The public API as its users type it: all of this must be accepted.

``test_api.py`` has mypy and pyright read it, both strict. What must be refused is in
``refused.py``. Nothing here is run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, Self, TypeVar, assert_never, assert_type

import msgspec

from actors import (
    Actor,
    ActorSystem,
    Bound,
    BoundStream,
    Client,
    ClusterError,
    Context,
    DomainError,
    MailboxFull,
    Outgoing,
    PartialSend,
    Reason,
    Receipt,
    Retry,
    RunnerId,
    ShardId,
    current_client,
    current_context,
    message,
)

T = TypeVar("T")

system = ActorSystem("bank")


class AccountState(msgspec.Struct):
    balance: int = 0


@dataclass
class InsufficientFunds(DomainError):
    balance: int
    requested: int


@system.actor
class Account(Actor[AccountState]):
    @message
    async def deposit(self, amount: int) -> int:
        self.state.balance += amount
        return self.state.balance

    @message
    async def withdraw(self, amount: int) -> int:
        if self.state.balance < amount:
            raise InsufficientFunds(balance=self.state.balance, requested=amount)
        self.state.balance -= amount
        return self.state.balance

    @message
    async def transfer(self, to: str, amount: int) -> None:
        await self.withdraw(amount)
        assert_type(await self.client.get(Account, to).deposit.tell(amount), Receipt)

    @message(read_only=True)
    async def balance(self) -> int:
        return self.state.balance


class Price(msgspec.Struct):
    value: float


@system.actor(
    name="quotes", idle_timeout=60, concurrency=4, retry=Retry(3, initial=0.1), turn_timeout=timedelta(seconds=5), shard_group="fast"
)
class Quotes(Actor[None]):
    @message
    async def prices(self, symbol: str, limit: int = 10) -> AsyncIterator[Price]:
        for _ in range(limit):
            yield Price(1.0)

    @message(timeout=5)
    async def slow(self, symbol: str) -> AsyncIterator[int]:
        yield len(symbol)

    @message
    def compute(self, n: int, *, scale: float = 1.0) -> float:
        return n * scale

    @message(reentrant=True, retry=Retry(retryable=(OSError, KeyError)))
    def listed(self, n: int) -> list[int]:
        return [n]

    @message(read_only=True)
    async def last(self) -> Price | None:
        return None

    @message()
    async def called(self, a: Annotated[int, msgspec.Meta(ge=0)]) -> int:
        return a

    @message
    async def pay(self, to: Account, amount: int) -> int:
        assert_type(await to.deposit(amount), int)
        assert_type(await self.compute(3), float)  # a plain def on self: awaited
        async for price in self.prices("A"):
            assert_type(price, Price)
        assert_type(self.state, None)
        assert_type(self.key, str)
        assert_type(self.context, Context)
        assert_type(self.context.shard_id, ShardId)
        assert_type(self.context.runner_id, RunnerId)
        assert_type(self.context.is_leader, bool)
        assert_type(self.context.trace, str | None)
        assert_type(self.client, Client)
        self.keep_alive(True)
        self.deactivate()
        self.clear()
        return amount

    @message
    def from_a_thread(self, to: Account) -> int:
        return self.wait(to.deposit(1))

    async def on_activate(self) -> None: ...

    async def on_deactivate(self, reason: str) -> None: ...


@system.actor
class Bare(Actor):
    @message
    async def hi(self, other: Bare) -> str:
        assert_type(self.state, None)
        return await other.hi(other)


@system.actor(state_version=2, state_ttl=timedelta(days=30), mailbox_capacity=10)
class Migrating(Actor[AccountState]):
    @classmethod
    def migrate(cls, version: int, raw: object) -> AccountState:
        return AccountState(balance=version)


@system.actor
class Savings(Account):
    @message
    async def deposit(self, amount: int) -> int:
        n = await super().deposit(amount)
        assert_type(n, int)
        await self.withdraw(1)
        return n

    @message
    async def interest(self, rate: float) -> float:
        return rate


class BoxState(msgspec.Struct, Generic[T]):
    items: list[T] = []


class Box(Actor[BoxState[T]], Generic[T]):
    @message
    async def put(self, item: T) -> int:
        self.state.items.append(item)
        return len(self.state.items)

    @message
    async def first(self) -> T:
        return self.state.items[0]

    @message
    async def all(self) -> AsyncIterator[T]:
        for item in self.state.items:
            yield item


@system.actor
class IntBox(Box[int]):
    @message
    async def total(self) -> int:
        assert_type(await self.first(), int)
        return sum(self.state.items)


@system.actor
class Decorated(Actor[None]):
    @message
    async def optional(self, n: int | None = None, /, *, flag: bool = False) -> Self:
        return self


async def uses(client: Client) -> None:
    alice = client.get(Account, "alice")
    assert_type(alice, Account)
    assert_type(await alice.deposit(3), int)
    assert_type(await alice.deposit(amount=3), int)
    assert_type(await alice.deposit.tell(3), Receipt)
    assert_type(alice.deposit.message(3), Outgoing)
    assert_type(await alice.deposit.options(timeout=2.0, idempotency_key="order-17", headers={"a": "b"})(amount=3), int)
    assert_type(await alice.deposit.options(timeout=timedelta(seconds=2)).options(idempotency_key="k").tell(3), Receipt)
    assert_type(await alice.deposit.options(after=2.0).options(headers={"a": "b"}).tell(3), Receipt)
    assert_type(alice.deposit.options(at=datetime.now(UTC)).message(3), Outgoing)
    assert_type(await alice.balance(), int)
    assert_type(await alice.transfer("bob", 3), None)
    assert_type(await client.send(alice.deposit.message(1), alice.balance.message()), list[Receipt])
    assert_type(client.next_id(), str)
    assert_type(await asyncio.gather(alice.deposit(1), alice.transfer("bob", 1)), tuple[int, None])
    task = asyncio.create_task(alice.deposit(1))
    assert_type(await task, int)
    receipt = await alice.deposit.tell(5)
    assert_type(receipt.duplicate, bool)
    assert_type(receipt.message_id, str)

    quotes = client.get(Quotes, "q")
    async for price in quotes.prices("A", limit=3):
        assert_type(price, Price)
    async for number in quotes.slow.options(timeout=3)("x"):
        assert_type(number, int)
    async with aclosing(quotes.prices("A")) as prices:
        assert_type(await anext(prices), Price)
    assert_type([p.value async for p in quotes.prices("A")], list[float])
    assert_type(await quotes.compute(3, scale=2.0), float)
    assert_type(await quotes.listed(3), list[int])
    assert_type(await quotes.last(), Price | None)
    assert_type(await quotes.called(1), int)
    assert_type(await quotes.pay(alice, 1), int)
    assert_type(await quotes.from_a_thread(alice), int)
    await later(alice.deposit, quotes.slow)

    savings = client.get(Savings, "s")
    assert_type(await balance_of(savings), int)
    assert_type(await savings.deposit(1), int)
    assert_type(await savings.interest(0.5), float)
    box = client.get(IntBox, "b")
    assert_type(await box.put(1), int)
    assert_type(await box.first(), int)
    async for item in box.all():
        assert_type(item, int)
    assert_type(current_context(), Context | None)
    assert_type(current_client(), Client | None)


async def balance_of(account: Account) -> int:
    return await account.balance()


async def later(bound: Bound[..., int], stream: BoundStream[..., int]) -> None:
    assert_type(await bound(3), int)
    async for number in stream("x"):
        assert_type(number, int)


async def fails(client: Client) -> str:
    try:
        await client.get(Account, "alice").withdraw(1)
    except InsufficientFunds as error:
        assert_type(error.balance, int)
        return str(hash(error))
    except MailboxFull as error:
        assert_type(error.depth, int)
    except PartialSend as error:
        assert_type(error.results, list[Receipt | ClusterError])
    except ClusterError as error:
        assert_type(error.retryable, bool)
        return outcome_of(error) + reason_of(error.reason)
    return ""


def outcome_of(error: ClusterError) -> str:
    match error.outcome:
        case "not_delivered" | "failed":
            return "safe"
        case "unknown":
            return "look"


def reason_of(reason: Reason) -> str:
    match reason:
        case Reason.MAILBOX_FULL | Reason.ASK_TIMEOUT | Reason.RUNNER_UNAVAILABLE | Reason.PERSISTENCE_FAILED | Reason.STREAM_INTERRUPTED:
            return "later"
        case Reason.PAYLOAD_TOO_LARGE | Reason.SERIALIZATION_FAILED | Reason.MALFORMED_MESSAGE | Reason.IDEMPOTENCY_CONFLICT:
            return "never"
        case Reason.UNKNOWN_ACTOR_TYPE | Reason.UNKNOWN_MESSAGE | Reason.ACTIVATION_FAILED | Reason.CONFIGURATION:
            return "deploy"
        case Reason.REMOTE_ERROR | Reason.DEAD_LETTERED | Reason.CALL_CYCLE | Reason.CALL_TOO_DEEP:
            return "mend"
        case Reason.FENCED | Reason.SUSPENDED | Reason.PARTIAL_SEND:
            return "pass on"
        case _:
            assert_never(reason)


async def connects() -> None:
    async with system.connect("redis://localhost") as client:
        assert_type(client, Client)
    async with system.runner(name="embedded"):
        pass
