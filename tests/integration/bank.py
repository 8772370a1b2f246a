"""Accounts that remember every transfer, a load of transfers, and the audit of both."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import msgspec

from actors.actor import Actor
from actors.client import Client
from actors.errors import ClusterError, MailboxFull
from actors.message import message
from actors.supervision import Retry
from tests.integration.fleet import until
from tests.integration.system import system

OPENING = 1_000_000
"""What every account begins with: nobody runs out of money in a test."""


class AccountState(msgspec.Struct):
    """An account, with all that an audit asks."""

    balance: int = OPENING
    sent: list[int] = []
    received: list[int] = []
    last: dict[str, int] = {}
    """The last number seen of each sender to this account."""
    next: dict[str, int] = {}
    """The next number for each account that this one tells."""
    disorder: list[str] = []


@system.actor
class Account(Actor[AccountState]):
    """Sends money to others and receives it."""

    @message
    async def transfer(self, to: str, amount: int, number: int, sender: str, order: int, way: str = "tell", defects: int = 0) -> None:
        """Take the amount off here and have it arrive there: both or neither.

        ``way``: it arrives by a ``tell``, an ``ask``, ``later``, or by a tell that is ``keyed``.
        ``defects``: so many runs fail at their end.
        """
        self._in_order(sender, order)
        self.state.balance -= amount
        self.state.sent.append(number)
        target = self.client.get(type(self), to)
        if way == "ask":
            await target.receive(amount, number, "", 0)
        elif way == "later":
            await target.receive.options(after=0.2).tell(amount, number, "", 0)
        elif way == "keyed":
            await target.receive.options(idempotency_key=str(number)).tell(amount, number, "", 0)
        else:
            following = self.state.next.get(to, 0) + 1
            self.state.next[to] = following
            await target.receive.tell(amount, number, self.key, following)
        if self.context.attempt <= defects:
            raise RuntimeError("a defect on purpose")

    @message
    def transfer_in_a_thread(self, to: str, amount: int, number: int, sender: str, order: int) -> None:
        """Do the same in a thread: half of it before a tell, half after it."""
        self._in_order(sender, order)
        self.state.sent.append(number)
        following = self.state.next.get(to, 0) + 1
        self.state.next[to] = following
        self.wait(self.client.get(type(self), to).receive.tell(amount, number, self.key, following))
        self.state.balance -= amount

    @message
    async def receive(self, amount: int, number: int, sender: str, order: int) -> None:
        """Add the amount of somebody's transfer. What was sent by an ask or with a delay has no place in an order."""
        if order:
            self._in_order(f"account {sender}", order)
        self.state.balance += amount
        self.state.received.append(number)

    @message(read_only=True)
    async def statement(self) -> AccountState:
        """Return all there is to audit."""
        return self.state

    def _in_order(self, sender: str, order: int) -> None:
        last = self.state.last.get(sender, 0)
        if order <= last:
            self.state.disorder.append(f"{sender}: {order} after {last}")
        self.state.last[sender] = max(order, last)


@system.actor(mailbox_capacity=3, retry=Retry(max_attempts=5, initial=0.02, maximum=0.1))
class NarrowAccount(Account):
    """The same with a queue so short that most of its messages go through its backlog."""


ALL_WAYS = ("tell", "ask", "later", "keyed", "thread")


@dataclass
class Audit:
    """What the accounts say of the transfers that were made."""

    acknowledged: int
    lost: list[int]
    doubled: list[int]
    halves: list[int]
    disorder: list[str]
    money: int

    @property
    def clean(self) -> bool:
        """Whether all is as it was promised."""
        return not (self.lost or self.doubled or self.halves or self.disorder or self.money)


@dataclass
class Transfers:
    """A load of transfers: asks from several concurrent callers of one client."""

    client: Client
    seed: int
    accounts: int = 60
    callers: int = 12
    pause: float = 0.01
    timeout: float = 30.0
    prefix: str = "a"
    kind: type[Account] = Account
    ways: Sequence[str] = ("tell",)
    burst: int = 1
    """Most transfers a caller makes at once."""
    defects: float = 0.0
    """Share of the transfers whose first runs fail."""
    twins: float = 0.0
    """Share of the transfers that are asked for twice at once, under one idempotency key."""
    acknowledged: list[int] = field(default_factory=list[int])
    unknown: list[int] = field(default_factory=list[int])
    refused: list[int] = field(default_factory=list[int])
    errors: list[str] = field(default_factory=list[str])
    slowest: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._name = f"client {self._random.getrandbits(32):08x}"
        self._orders: Counter[str] = Counter()
        self._number = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._call(), name=f"caller {number}") for number in range(self.callers)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    @property
    def keys(self) -> Sequence[str]:
        """The accounts."""
        return [f"{self.prefix}{index}" for index in range(self.accounts)]

    async def until(self, count: int, *, within: float = 30.0) -> None:
        """Wait until ``count`` transfers have been acknowledged."""
        await until(lambda: len(self.acknowledged) >= count, within=within, what=f"{count} acknowledged transfers")

    async def go_on(self, more: int = 200, *, within: float = 30.0) -> None:
        """Wait until ``more`` transfers have been acknowledged from now on."""
        await self.until(len(self.acknowledged) + more, within=within)

    async def one(self) -> None:
        """Make one transfer and note what became of it."""
        chance = self._random
        source, target = chance.sample(self.keys, 2)
        way = chance.choice(self.ways)
        if way == "ask" and source > target:
            source, target = target, source  # no circle of accounts that ask each other
        self._number += 1
        number = self._number
        self._orders[source] += 1
        defects = chance.randint(1, 2) if chance.random() < self.defects else 0
        account = self.client.get(self.kind, source)
        arguments = (target, chance.randint(1, 100), number, self._name, self._orders[source])
        began = time.monotonic()
        try:
            if way == "thread":
                await account.transfer_in_a_thread.options(timeout=self.timeout)(*arguments)
            elif chance.random() < self.twins:
                transfer = account.transfer.options(timeout=self.timeout, idempotency_key=str(number))
                twin = asyncio.create_task(transfer(*arguments, way, defects))
                try:
                    await transfer(*arguments, way, defects)  # sent in this very step, in the order of its number
                except MailboxFull:  # one of the two may have been refused and not the other
                    await twin
                await twin
            else:
                await account.transfer.options(timeout=self.timeout)(*arguments, way, defects)
        except ClusterError as error:
            self.errors.append(f"{number}: {type(error).__name__}: {error}")
            (self.refused if error.outcome == "not_delivered" else self.unknown).append(number)
        else:
            self.acknowledged.append(number)
            self.slowest = max(self.slowest, time.monotonic() - began)

    async def _call(self) -> None:
        while not self._stopping:
            await asyncio.gather(*[self.one() for _ in range(self._random.randint(1, self.burst))])
            await asyncio.sleep(self.pause)

    async def audit(self, *, within: float = 30.0) -> Audit:
        """Compare what was acknowledged with what the accounts have seen, once nothing is on its way any more."""
        deadline = time.monotonic() + within
        while True:
            found = await self._audit()
            # A transfer of unknown outcome may still arrive; nothing else may still change.
            if found.clean or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.1)

    async def _audit(self) -> Audit:
        accounts = [self.client.get(self.kind, key) for key in self.keys]
        statements = await asyncio.gather(*[account.statement() for account in accounts])
        sent = Counter(number for statement in statements for number in statement.sent)
        received = Counter(number for statement in statements for number in statement.received)
        seen = sent.keys() | received.keys()
        return Audit(
            acknowledged=len(self.acknowledged),
            lost=[number for number in self.acknowledged if not (sent[number] and received[number])],
            doubled=sorted({number for counts in (sent, received) for number, times in counts.items() if times > 1}),
            halves=sorted(number for number in seen if bool(sent[number]) != bool(received[number]))
            + [number for number in self.refused if number in seen],
            disorder=[text for statement in statements for text in statement.disorder],
            money=sum(statement.balance - OPENING for statement in statements),
        )
