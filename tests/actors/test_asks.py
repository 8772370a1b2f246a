"""Asks made inside turns: once, whatever becomes of the turn, and never ahead of what they rest on."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.context import current_client
from actors.errors import DomainError, MailboxFull, PartialSend, PayloadTooLarge, RemoteError
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from actors.testing.faults import Delays
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster, TestCluster

system = ActorSystem("asks")
ran: list[str] = []
broken: set[str] = set()
held: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    broken.clear()
    held.clear()


class Refused(DomainError):
    pass


class Total(msgspec.Struct):
    value: int = 0
    entries: list[str] = []


@system.actor(retry=Retry(max_attempts=4, initial=0.05))
class Account(Actor[Total]):
    @message
    async def add(self, amount: int) -> int:
        ran.append(f"add {self.key}")
        self.state.value += amount
        return self.state.value

    @message
    async def add_and_refuse(self, amount: int) -> int:
        ran.append(f"refuse {self.key}")
        raise Refused(f"not {amount}")

    @message
    async def stumble(self) -> int:
        ran.append(f"stumble {self.key}")
        raise ValueError("a defect")

    @message
    async def add_twice(self, key: str, amount: int) -> list[int]:
        """Two equal asks of one turn are two calls."""
        other = self.client.get(Account, key)
        return [await other.add(amount), await other.add(amount)]

    @message
    async def transfer(self, key: str, amount: int) -> int:
        """Ask, and then fail once."""
        self.state.value -= amount
        result = await self.client.get(Account, key).add(amount)
        ran.append(f"got {result}")
        if "transfer" in broken:
            broken.discard("transfer")
            raise ValueError("a defect")
        return result

    @message
    async def transfer_slowly(self, key: str, amount: int) -> int:
        result = await self.client.get(Account, key).add(amount)
        ran.append(f"got {result}")
        self.state.value -= amount
        await asyncio.sleep(5.0)
        return result

    @message
    async def fan_out_and_stumble(self, keys: list[str]) -> list[int]:
        """Asks at the same time, finishing in any order, and again in another attempt."""
        order = keys if self.context.attempt == 1 else keys[::-1]
        got = await asyncio.gather(*[self.client.get(Account, key).add(1) for key in order])
        results = dict(zip(order, got, strict=True))
        if self.context.attempt == 1:
            raise ValueError("a defect")
        return [results[key] for key in keys]

    @message
    async def fan_out(self, count: int) -> int:
        got = await asyncio.gather(*[self.client.get(Account, f"leaf {n}").add(n) for n in range(count)])
        self.state.value += sum(got)
        return self.state.value

    @message
    async def retold(self, key: str, how: str) -> str:
        """What it was told the first time, it is told again."""
        other = self.client.get(Account, key)
        error = await outcome(other.add_and_refuse(1) if how == "refuse" else other.stumble())
        ran.append(type(error).__name__)
        if self.context.attempt == 1:
            raise ValueError("a defect")
        return str(error)

    @message
    async def ask_and_refuse(self, key: str) -> None:
        await self.client.get(Account, key).add(1)
        await self.client.get(Account, key).add.tell(100)
        raise Refused

    @message
    async def spread(self, keys: list[str]) -> int:
        client = current_client()
        assert client is not None
        receipts = await client.send(*[client.get(Account, key).add.message(1) for key in keys])
        assert not any(receipt.duplicate for receipt in receipts)
        return len(receipts)

    @message
    async def spread_partly(self, keys: list[str], size: int) -> list[str]:
        try:
            await self.client.send(*[self.client.get(Account, key).note.message("x" * size if n else "x") for n, key in enumerate(keys)])
        except PartialSend as error:
            return [type(result).__name__ for result in error.results]
        return []

    @message
    async def note(self, text: str) -> None:
        self.state.entries.append(text)

    @message
    async def flood(self, count: int) -> str:
        try:
            for _ in range(count):
                await self.client.get(Account, "flooded").add.tell(1)
        except MailboxFull as error:
            return f"{error.scope} {error.limit}"
        return "sent"

    @message
    async def ids(self) -> list[str]:
        return [self.client.next_id() for _ in range(3)]

    @message
    async def keyed(self, key: str) -> int:
        return await self.client.get(Account, key).add.options(idempotency_key="once")(5)


def records(cluster: TestCluster) -> int:
    return len(cluster.execute("KEYS", f"{cluster.keys.tag}:k:*"))


async def test_500_asks_of_one_turn_all_complete_in_it(actor_cluster: ActorCluster) -> None:
    """At once, across all runners; nothing is left of them."""
    async with actor_cluster(system, runners=3) as cluster:
        assert await cluster.client.get(Account, "root").fan_out(500) == sum(range(500))
        await cluster.settled()

        assert Counter(ran) == {f"add leaf {n}": 1 for n in range(500)}
        assert records(cluster) == 0


async def test_a_turn_that_is_run_again_repeats_none_of_its_asks(actor_cluster: ActorCluster) -> None:
    """It gets the same replies; the effect of each stands once."""
    broken.add("transfer")
    async with actor_cluster(system) as cluster:
        account = cluster.client.get(Account, "a")
        assert await account.transfer("b", 7) == 7
        await cluster.settled()

        assert ran == ["add b", "got 7", "got 7"]
        assert (cluster.state(account).value, cluster.state(cluster.client.get(Account, "b")).value) == (-7, 7)
        assert records(cluster) == 0


async def test_a_turn_that_is_run_again_after_a_crash_repeats_none_of_its_asks(actor_cluster: ActorCluster) -> None:
    """On another runner, from what Redis remembers."""
    async with actor_cluster(system, runners=3) as cluster:
        account = cluster.client.get(Account, "a")
        asking = asyncio.create_task(account.transfer_slowly.options(timeout=60.0)("b", 7))
        await cluster.advance(1.0)
        assert ran == ["add b", "got 7"]
        await cluster.kill(cluster.owner_of(account))
        assert await asking == 7
        await cluster.settled()

        assert ran == ["add b", "got 7", "got 7"]
        assert (cluster.state(account).value, cluster.state(cluster.client.get(Account, "b")).value) == (-7, 7)
        assert records(cluster) == 0


async def test_a_turn_that_is_run_again_joins_an_ask_that_still_runs(actor_cluster: ActorCluster) -> None:
    """Its runner died while the callee was at work elsewhere."""
    other = ActorSystem("asks")

    @other.actor
    class Caller(Actor[Total]):
        @message
        async def call(self, key: str) -> int:
            ran.append("calls")
            self.state.value = await self.client.get(Callee, key).work()
            return self.state.value

    @other.actor
    class Callee(Actor[Total]):
        @message
        async def work(self) -> int:
            ran.append("works")
            await asyncio.sleep(20.0)
            self.state.value += 1
            return self.state.value

    async with actor_cluster(other, runners=2) as cluster:
        caller = cluster.client.get(Caller, "a")
        callees = [cluster.client.get(Callee, str(number)) for number in range(100)]
        callee = next(each for each in callees if cluster.owner_of(each) != cluster.owner_of(caller))
        asking = asyncio.create_task(caller.call.options(timeout=100.0)(callee.key))
        await cluster.advance(1.0)
        await cluster.kill(cluster.owner_of(caller))

        assert await asking == 1
        assert ran == ["calls", "works", "calls"]


async def test_equal_asks_of_one_turn_are_told_apart_by_their_occurrence(actor_cluster: ActorCluster) -> None:
    """Two deposits of the same amount are two deposits."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Account, "a").add_twice("b", 5) == [5, 10]


async def test_asks_that_run_at_the_same_time_are_recognised_in_another_order(actor_cluster: ActorCluster) -> None:
    """They are known by what they ask, not by when."""
    async with actor_cluster(system) as cluster:
        keys = [f"leaf {n}" for n in range(20)]
        assert await cluster.client.get(Account, "a").fan_out_and_stumble(keys) == [1] * 20

        assert Counter(ran) == {f"add {key}": 1 for key in keys}


@pytest.mark.parametrize("how", ["refuse", "stumble"])
async def test_what_an_ask_failed_with_is_remembered_like_a_reply(actor_cluster: ActorCluster, how: str) -> None:
    """Also where it was dead-lettered: a re-run must not have it tried all over again."""
    async with actor_cluster(system) as cluster:
        told = await cluster.client.get(Account, "a").retold("b", how)

        if how == "refuse":
            assert ran == ["refuse b", "Refused", "Refused"]
            assert told == "not 1"
        else:
            assert ran == ["stumble b"] * 4 + ["RemoteError"] * 2
            assert "a defect" in told
            assert [letter.key for letter in cluster.dead_letters()] == ["b"]


async def test_an_ask_is_not_undone_by_an_error_of_its_turn_and_a_tell_is(actor_cluster: ActorCluster) -> None:
    """The tell leaves with the commit, and there is none."""
    async with actor_cluster(system) as cluster:
        with pytest.raises(Refused):
            await cluster.client.get(Account, "a").ask_and_refuse("b")
        await cluster.settled()

        assert cluster.state(cluster.client.get(Account, "b")).value == 1
        assert records(cluster) == 0


async def test_an_ask_waits_for_the_acknowledgement_of_its_actors_earlier_commits(actor_cluster: ActorCluster) -> None:
    """Its effect must not rest on a state that may never have been."""
    async with actor_cluster(system, runners=1) as cluster:
        account = cluster.client.get(Account, "a")
        await account.add(1)
        commits = cluster.faults.inject(Delays(request=1.0), script="commit")
        began = cluster.time
        telling = asyncio.create_task(account.add(10))
        asking = asyncio.create_task(account.transfer("b", 5))
        await cluster.advance(0.9)
        assert commits.hits == 1
        assert "add b" not in ran
        await asking
        await telling

        assert cluster.time - began >= 1.0
        assert cluster.state(account).value == 6


async def test_an_ask_does_not_leave_when_its_actors_earlier_commit_is_refused(actor_cluster: ActorCluster) -> None:
    """The shard was taken away in between: nothing of what it saw was ever true."""
    async with actor_cluster(system, runners=2, settings=Settings(lease=10.0)) as cluster:
        account = cluster.client.get(Account, "a")
        await account.add(1)
        owner = cluster.owner_of(account)
        await cluster.pause(owner)
        await cluster.client.send(account.add.message(10), account.transfer.message("b", 5))
        await cluster.advance(15.0)
        await cluster.resume(owner)
        await cluster.settled()

        assert cluster.state(account).value == 6
        assert cluster.state(cluster.client.get(Account, "b")).value == 5
        assert ran.count("add b") == 1


async def test_tells_of_a_turn_leave_together_and_in_order(actor_cluster: ActorCluster) -> None:
    """With its commit, or not at all."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Account, "a").spread(["x"] * 20 + ["y"] * 20) == 40
        await cluster.settled()

        assert cluster.state(cluster.client.get(Account, "x")).value == 20
        assert cluster.state(cluster.client.get(Account, "y")).value == 20


async def test_a_turns_send_says_which_of_its_messages_were_refused(actor_cluster: ActorCluster) -> None:
    """As a client's does; the others leave with the commit."""
    async with actor_cluster(system, settings=Settings(max_payload=1000)) as cluster:
        assert await cluster.client.get(Account, "a").spread_partly(["x", "y", "z"], 2000) == [
            "Receipt",
            "PayloadTooLarge",
            "PayloadTooLarge",
        ]
        await cluster.settled()
        assert cluster.state(cluster.client.get(Account, "x")).entries == ["x"]

        error = await outcome(cluster.client.get(Account, "a").spread_partly(["x"], 10))
        assert error == []
        refused = await outcome(cluster.client.get(Account, "a").note("x" * 2000))
        assert isinstance(refused, PayloadTooLarge)


async def test_what_one_turn_may_send_is_bounded(actor_cluster: ActorCluster) -> None:
    """It is held in memory until the commit, and written by one script."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Account, "a").flood(6000) == "turn 5000"


async def test_a_key_given_by_hand_goes_before_the_derived_one(actor_cluster: ActorCluster) -> None:
    """It holds for all callers of that actor."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Account, "a").keyed("t") == 5
        assert await cluster.client.get(Account, "b").keyed("t") == 5
        assert await cluster.client.get(Account, "t").add.options(idempotency_key="once")(5) == 5

        assert cluster.state(cluster.client.get(Account, "t")).value == 5


async def test_ids_of_a_turn_are_unique_and_sorted_by_time(actor_cluster: ActorCluster) -> None:
    """As a client's are."""
    async with actor_cluster(system) as cluster:
        ids = await cluster.client.get(Account, "a").ids() + [cluster.client.next_id() for _ in range(3)]

        assert len(set(ids)) == 6
        assert ids[:3] == sorted(ids[:3])


async def test_a_defect_at_a_callee_is_told_to_the_turn_that_asked(actor_cluster: ActorCluster) -> None:
    """As a RemoteError, which is final: the turn that lets it through fails with it."""
    other = ActorSystem("asks")

    @other.actor(retry=Retry(max_attempts=2, initial=0.01))
    class Chain(Actor[None]):
        @message
        async def down(self, levels: int) -> None:
            ran.append(str(levels))
            if not levels:
                raise ValueError("at the bottom")
            await self.client.get(Chain, str(levels - 1)).down(levels - 1)

    async with actor_cluster(other) as cluster:
        with pytest.raises(RemoteError, match="at the bottom") as failed:
            await cluster.client.get(Chain, "3").down(3)

        assert failed.value.key == "0"
        assert ran == ["3", "2", "1", "0", "0"]
