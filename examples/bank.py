"""Transfers between accounts: typed errors, tells that leave with a turn's commit, an idempotency key.

python -m examples.bank
actor-runner run examples.bank:system      # the same actors in processes of their own
"""

import asyncio
from dataclasses import dataclass

import msgspec

from actors import Actor, ActorSystem, DomainError, message
from examples.server import redis_url

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
        await self.client.get(Account, to).deposit.tell(amount)  # both, or neither

    @message(read_only=True)
    async def balance(self) -> int:
        return self.state.balance


async def main() -> None:
    with redis_url() as url:
        async with system.runner(url), system.connect(url) as client:
            alice, bob = client.get(Account, "alice"), client.get(Account, "bob")
            before = await alice.balance() + await bob.balance()
            await alice.deposit(100)
            await alice.transfer("bob", 30)
            while await bob.balance() < 30:
                await asyncio.sleep(0.01)

            # A retry of the same order is the same deposit: the second call returns the first one's reply.
            order = alice.deposit.options(idempotency_key=f"order-{client.next_id()}")
            assert await order(5) == await order(5)

            try:
                await alice.withdraw(1_000_000)
            except InsufficientFunds as error:
                print(f"refused: {error.requested:,} asked for, {error.balance} there")
            after = await alice.balance() + await bob.balance()
            print(f"alice {await alice.balance()}, bob {await bob.balance()}; {after - before} more than before")


if __name__ == "__main__":
    asyncio.run(main())
