"""Where two rules meet: a full queue and a cycle, one key and thousands of waiters, a parked ask and its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from actors._redis.connection import TcpServer
from actors.actor import Actor
from actors.client import Client
from actors.errors import CallCycle, MailboxFull, PartialSend, RunnerUnavailable, StreamInterrupted, UnknownMessage
from actors.message import message
from actors.system import ActorSystem

pytestmark = pytest.mark.server

system = ActorSystem("corners")
release_before = ActorSystem("corners")


class Count(msgspec.Struct):
    """How often something took effect."""

    n: int = 0


@system.actor(mailbox_capacity=2)
class Caller(Actor[Count]):
    """Asks somebody who asks it back."""

    @message
    async def go(self, fillers: int) -> list[str]:
        """Ask, once ``fillers`` messages wait here."""
        started.set()
        await filled.wait()
        for _ in range(fillers):  # each takes a round trip, in which what waits here is read
            await self.client.get(Callee, "callee").nothing()
        try:
            await self.client.get(Callee, "callee").ask_back(self.key)
        except CallCycle as error:
            return error.chain
        return []

    @message
    async def add(self) -> int:
        """Count."""
        self.state.n += 1
        return self.state.n


@system.actor
class Callee(Actor[None]):
    """Asks its caller."""

    @message
    async def nothing(self) -> None:
        """Take a round trip."""

    @message
    async def ask_back(self, key: str) -> int:
        """Ask the one who asks."""
        return await self.client.get(Caller, key).add()


@system.actor
class Slow(Actor[Count]):
    """Runs for as long as it is held."""

    @message
    async def once(self) -> int:
        """Count here and at another, when the gate opens."""
        started.set()
        await filled.wait()
        self.state.n += 1
        await self.client.get(Slow, "other").count.tell()
        return self.state.n

    @message
    async def count(self) -> int:
        """Count."""
        self.state.n += 1
        return self.state.n

    @message(read_only=True)
    async def counted(self) -> int:
        """Return the count."""
        return self.state.n


@system.actor
class Numbers(Actor[None]):
    """Has a streaming reply."""

    @message
    async def count_up(self) -> AsyncIterator[int]:
        """Yield three numbers, and wait."""
        for number in range(3):
            yield number
        await asyncio.Event().wait()


@release_before.actor(name="Slow")
class SlowBefore(Actor[Count]):
    """The same type in a release that has not all messages yet."""

    @message(read_only=True)
    async def counted(self) -> int:
        """Return the count."""
        return self.state.n


started = asyncio.Event()
filled = asyncio.Event()


@pytest.fixture(autouse=True)
def gates() -> None:
    """Close the gates."""
    global started, filled
    started, filled = asyncio.Event(), asyncio.Event()


async def test_a_cycle_is_found_also_when_the_actors_queue_is_full(redis_url: str) -> None:
    """The ask that waits on itself is then on its way to the backlog; it is answered there, and the reader reads on."""
    async with system.runner(redis_url), system.connect(redis_url) as client:
        caller = client.get(Caller, "caller")
        asked = asyncio.ensure_future(caller.go(5))
        await started.wait()
        await client.send(*[caller.add.message() for _ in range(6)])
        filled.set()

        assert await asked == ["Caller/caller", "Callee/callee", "Caller/caller"]
        assert await caller.add() == 7


@pytest.mark.slow
async def test_every_waiter_of_one_idempotency_key_is_answered(redis_url: str) -> None:
    """However many there are: Lua passes at most 8,000 values at once."""
    async with system.runner(redis_url), system.connect(redis_url) as client:
        slow = client.get(Slow, "one")
        once = slow.once.options(idempotency_key="k", timeout=40)
        asks = [asyncio.ensure_future(once())]
        await started.wait()
        asks += [asyncio.ensure_future(once()) for _ in range(5000)]
        await _stored(client)
        filled.set()

        assert set(await asyncio.gather(*asks)) == {1}
        assert await client.get(Slow, "other").counted() == 2  # by the turn, and by `_stored`


async def test_a_parked_ask_is_not_run_once_its_deadline_has_passed(redis_url: str) -> None:
    """Its caller was told that it was not delivered."""
    async with release_before.runner(redis_url, name="before"), system.connect(redis_url) as client:
        with pytest.raises(UnknownMessage):
            await client.get(Slow, "parked").count.options(timeout=0.3)()
    async with system.runner(redis_url, name="after"), system.connect(redis_url) as client:
        await client.get(Slow, "parked").count.tell()  # goes behind what was parked, if that comes back at all

        assert await client.get(Slow, "parked").counted() == 1


async def test_an_ask_that_is_sent_on_to_its_shard_is_not_run_once_its_deadline_has_passed(redis_url: str) -> None:
    """Its sender still counts shards as they were before a reshard, and was told that it was not delivered."""
    async with system.runner(redis_url):
        pass  # records how many shards there are
    async with system.connect(redis_url) as client:
        slow = client.get(Slow, "sent on")
        client.shards.learn({"default": 2})  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        with pytest.raises(RunnerUnavailable):
            await slow.count.options(timeout=0.3)()
    async with system.runner(redis_url), system.connect(redis_url) as client:
        while await _waiting(redis_url):  # noqa: ASYNC110 - in Redis, which tells nobody
            await asyncio.sleep(0.01)

        assert await client.get(Slow, "sent on").counted() == 0


async def test_what_is_full_is_named_redis_memory_or_this_process(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    """Each with the numbers that are known of it."""
    assert "of 0" not in str(MailboxFull(scope="memory"))

    monkeypatch.setattr("actors._mailbox.sender.QUEUE_LIMIT", 3)
    async with system.runner(redis_url), system.connect(redis_url) as client:
        slow = client.get(Slow, "full")
        with pytest.raises(PartialSend) as refused:
            await client.send(*[slow.count.message() for _ in range(5)])

    errors = [result for result in refused.value.results if isinstance(result, MailboxFull)]
    assert [error.scope for error in errors] == ["process", "process"]
    assert "3 messages" in str(errors[0])


async def test_a_stream_that_breaks_off_says_after_how_many_items(redis_url: str) -> None:
    """So that its reader knows where to go on."""
    async with system.connect(redis_url) as client:
        async with system.runner(redis_url):
            numbers = client.get(Numbers, "n").count_up()
            assert [await anext(numbers) for _ in range(3)] == [0, 1, 2]

        with pytest.raises(StreamInterrupted, match="after 3 items") as broken:
            await anext(numbers)
    assert broken.value.items == 3


async def _waiting(url: str) -> int:
    """Return how many messages are in mailboxes."""
    connection = await TcpServer.from_url(url).connect("test", timeout=5.0)
    names = await connection.execute("KEYS", "{corners:0}:m:*")
    lengths = [await connection.execute("XLEN", name) for name in names]
    await connection.close()
    return sum(lengths)


async def _stored(client: Client) -> None:
    """Return when everything asked so far has reached Redis: sends keep their order."""
    await asyncio.sleep(0)
    await client.get(Slow, "other").count.tell()
