"""Streaming replies: all items and then the end, with flow control, beside the turns of their actor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from actors.actor import Actor
from actors.client import STREAM_WINDOW
from actors.context import current_context
from actors.errors import (
    AskTimeout,
    CallCycle,
    ClusterError,
    DomainError,
    MalformedMessage,
    RemoteError,
    SerializationFailed,
    StreamInterrupted,
)
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem
from actors.testing.faults import Delays
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster, TestCluster

system = ActorSystem("streaming")
produced: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    produced.clear()


class Refused(DomainError):
    pass


class Quotes(msgspec.Struct):
    prices: list[int] = []


@system.actor(idle_timeout=2.0)
class Market(Actor[Quotes]):
    async def on_deactivate(self, reason: str) -> None:
        produced.append(f"deactivated {reason}")

    @message
    async def count(self, upto: int, every: float = 0.0, fail_at: int | None = None) -> AsyncIterator[int]:
        """Yield 0 to upto - 1."""
        try:
            for number in range(upto):
                if number == fail_at:
                    raise Refused
                if every:
                    await asyncio.sleep(every)
                produced.append(str(number))
                yield number
        finally:
            produced.append("closed")

    @message
    async def crash(self) -> AsyncIterator[int]:
        yield 1
        raise ValueError("a defect")

    @message
    async def odd(self) -> AsyncIterator[int]:
        yield 1
        yield "two"  # type: ignore[misc] # pyright: ignore[reportReturnType]

    @message
    async def prices(self, wait: float) -> AsyncIterator[list[int]]:
        yield self.state.prices
        await asyncio.sleep(wait)
        yield self.state.prices

    @message
    async def set_price(self, price: int) -> None:
        self.state.prices.append(price)

    @message
    async def set_and_refuse(self, price: int) -> None:
        self.state.prices.append(price)
        raise Refused

    @message
    async def cheat(self) -> AsyncIterator[int]:
        await self.client.get(Market, "other").set_price.tell(1)
        yield 1

    @message
    async def ask_on(self, keys: list[str]) -> AsyncIterator[list[int]]:
        for key in keys:
            yield await self.client.get(Market, key).current()

    @message(read_only=True)
    async def current(self) -> list[int]:
        return self.state.prices

    @message
    async def where(self) -> AsyncIterator[str]:
        context = self.context
        yield context.message_id
        yield context.headers.get("tenant", "")
        found = current_context()
        yield "" if found is None else found.method

    @message
    async def leave(self) -> None:
        self.deactivate()

    @message
    async def relay(self, key: str, upto: int) -> AsyncIterator[int]:
        async for number in self.client.get(Market, key).count(upto):
            yield number * 10

    @message
    async def total(self, key: str, upto: int) -> int:
        """A turn that consumes a stream."""
        total = 0
        async for number in self.client.get(Market, key).count(upto):
            total += number
        return total

    @message
    async def total_of_prices(self, key: str) -> int:
        """A turn that reads a stream which asks back."""
        return sum([sum(prices) async for prices in self.client.get(Market, key).ask_on([self.key])])

    @message
    async def large(self, sizes: list[int]) -> AsyncIterator[str]:
        for size in sizes:
            yield "x" * size


async def consumed(stream: AsyncGenerator[Any, None]) -> tuple[list[Any], Exception | None]:
    """Return the items, and the error at their end."""
    items: list[Any] = []
    try:
        async for item in stream:
            items.append(item)
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        return items, error
    return items, None


def streams(cluster: TestCluster) -> int:
    running = sum(cluster.runner(name).statistics().streams for name in cluster.runners)
    stored = sum(cluster.execute("HLEN", key) for key in cluster.execute("KEYS", f"{cluster.keys.tag}:g:*"))
    assert running == stored
    return running


@pytest.mark.parametrize("upto", [0, 1, STREAM_WINDOW, STREAM_WINDOW + 1, 1000])
async def test_all_items_arrive_in_order_and_then_the_end(actor_cluster: ActorCluster, upto: int) -> None:
    """None at all, one, as many as the window holds, many windows."""
    async with actor_cluster(system) as cluster:
        items, error = await consumed(cluster.client.get(Market, "a").count(upto))

        assert items == list(range(upto))
        assert error is None
        await cluster.settled()
        assert streams(cluster) == 0
        assert cluster.client.calls.pending == 0


@pytest.mark.parametrize("fail_at", [0, 1, 100])
async def test_an_error_after_some_items_arrives_after_those_items(actor_cluster: ActorCluster, fail_at: int) -> None:
    """As the same class, and as the last thing."""
    async with actor_cluster(system) as cluster:
        items, error = await consumed(cluster.client.get(Market, "a").count(200, 0.0, fail_at))

        assert items == list(range(fail_at))
        assert isinstance(error, Refused)


async def test_a_defect_in_a_stream_is_told_and_never_tried_again(actor_cluster: ActorCluster) -> None:
    """Its reader has seen the first items already."""
    async with actor_cluster(system) as cluster:
        items, error = await consumed(cluster.client.get(Market, "a").crash())

        assert items == [1]
        assert isinstance(error, RemoteError)
        assert (error.type_name, error.message, error.attempts) == ("ValueError", "a defect", 1)
        assert await cluster.client.get(Market, "a").current() == []


async def test_an_item_that_does_not_fit_ends_the_stream_with_a_typed_error(actor_cluster: ActorCluster) -> None:
    """After those that do."""
    async with actor_cluster(system) as cluster:
        items, error = await consumed(cluster.client.get(Market, "a").odd())

        assert items == [1]
        assert isinstance(error, SerializationFailed)


async def test_an_item_that_is_too_large_ends_the_stream_with_a_typed_error(actor_cluster: ActorCluster) -> None:
    """The limit of a reply holds for each."""
    async with actor_cluster(system, settings=Settings(max_payload=10_000)) as cluster:
        items, error = await consumed(cluster.client.get(Market, "a").large([10, 9_000, 11_000]))

        assert [len(item) for item in items] == [10, 9_000]
        assert isinstance(error, ClusterError)
        assert error.reason == "payload_too_large"


async def test_arguments_that_do_not_fit_end_the_stream_with_a_typed_error(actor_cluster: ActorCluster) -> None:
    """Already at the caller, where they are checked."""
    async with actor_cluster(system) as cluster:
        with pytest.raises(MalformedMessage):
            cluster.client.get(Market, "a").count("x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def test_a_stream_closed_before_its_first_item_produces_nothing(actor_cluster: ActorCluster) -> None:
    """Nothing was sent, or what was sent is taken back."""
    async with actor_cluster(system) as cluster:
        stream = cluster.client.get(Market, "a").count(10)
        await stream.aclose()
        await cluster.settled()
        assert produced == []

        async def first(stream: AsyncGenerator[int, None]) -> int:
            return await anext(stream)

        waiting = asyncio.create_task(first(cluster.client.get(Market, "a").count(10, 60.0)))
        await cluster.advance(1.0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await cluster.settled()
        assert produced == ["closed"]
        assert streams(cluster) == 0


async def test_a_slow_reader_holds_the_producer_back(actor_cluster: ActorCluster) -> None:
    """It is never further ahead than the window."""
    async with actor_cluster(system) as cluster, aclosing(cluster.client.get(Market, "a").count(10_000)) as stream:
        for taken in range(1, 200):
            assert await anext(stream) == taken - 1
            await cluster.advance(0.1)
            assert len(produced) <= taken + STREAM_WINDOW + 1
        assert len(produced) > 150


@pytest.mark.parametrize("taken", [1, 10, STREAM_WINDOW + 5])
async def test_an_abandoned_stream_frees_its_producer(actor_cluster: ActorCluster, taken: int) -> None:
    """Its generator is closed, wherever it stands."""
    async with actor_cluster(system) as cluster:
        stream = cluster.client.get(Market, "a").count(100_000)
        for number in range(taken):
            assert await anext(stream) == number
        await cluster.advance(1.0)
        assert streams(cluster) == 1
        await stream.aclose()
        await cluster.settled()

        assert produced[-1] == "closed"
        assert streams(cluster) == 0


async def test_the_stream_of_a_reader_that_died_is_ended(actor_cluster: ActorCluster) -> None:
    """It cannot say so any more: its inbox expires, and no reply makes it anew."""
    async with actor_cluster(system) as cluster, cluster.connect("reader") as reader:
        stream = reader.get(Market, "a").count(100_000, 1.0)
        assert await anext(stream) == 0
        cluster.faults.partition("reader")
        await cluster.advance(150.0)
        assert produced[-2:] == ["closed", "deactivated idle"]
        assert streams(cluster) == 0
        cluster.faults.heal("reader")
        await stream.aclose()


async def test_each_item_has_the_deadline(actor_cluster: ActorCluster) -> None:
    """Not the stream as a whole, which may go on for ever."""
    async with actor_cluster(system) as cluster:
        count = cluster.client.get(Market, "a").count.options(timeout=2.0)
        items, error = await consumed(count(10, 1.5))
        assert (items, error) == (list(range(10)), None)

        began = cluster.time
        items, error = await consumed(count(10, 5.0))
        assert items == []
        assert isinstance(error, AskTimeout)
        assert cluster.time - began == pytest.approx(2.0, abs=0.2)
        await cluster.settled()
        assert produced[-1] == "closed"


async def test_turns_run_beside_a_stream_and_it_sees_what_they_leave(actor_cluster: ActorCluster) -> None:
    """A streaming reply is no turn: it holds nobody up."""
    async with actor_cluster(system) as cluster:
        market = cluster.client.get(Market, "a")
        async with aclosing(market.prices(5.0)) as stream:
            assert await anext(stream) == []
            await market.set_price(7)
            with pytest.raises(Refused):
                await market.set_and_refuse(8)

            assert await anext(stream) == [7]


async def test_an_item_leaves_after_the_commits_it_could_see(actor_cluster: ActorCluster) -> None:
    """What was shown to somebody must not be taken back."""
    async with actor_cluster(system, runners=1) as cluster:
        market = cluster.client.get(Market, "a")
        async with aclosing(market.prices(0.5)) as stream:
            assert await anext(stream) == []
            cluster.faults.inject(Delays(request=2.0), script="commit", times=None)
            await cluster.advance(0.3)
            setting = asyncio.create_task(market.set_price(7))
            item = await anext(stream)

            assert item == [7]
            assert cluster.state(market).prices == [7]
            await setting


async def test_a_stream_keeps_its_actor_resident(actor_cluster: ActorCluster) -> None:
    """It is deactivated when the stream has ended and the idle time is over."""
    async with actor_cluster(system) as cluster:
        async with aclosing(cluster.client.get(Market, "a").count(5, 10.0)) as stream:
            assert [number async for number in stream] == list(range(5))
        assert not [note for note in produced if note.startswith("deactivated")]
        await cluster.advance(5.0)
        assert produced[-1] == "deactivated idle"


async def test_a_stream_does_not_hold_up_an_actor_that_wants_to_leave(actor_cluster: ActorCluster) -> None:
    """Messages are served as before, and it leaves when the stream has ended."""
    async with actor_cluster(system) as cluster:
        market = cluster.client.get(Market, "a")
        async with aclosing(market.count(10, 1.0)) as stream:
            assert await anext(stream) == 0
            await market.leave()
            began = cluster.time
            await market.set_price(7)
            assert await market.current() == [7]
            assert cluster.time - began < 0.1
        await cluster.settled()

        assert produced[-1] == "deactivated requested"
        assert await market.current() == [7]


async def test_a_handoff_in_mid_stream_is_a_typed_error(actor_cluster: ActorCluster) -> None:
    """At once, and the shard is not held up by it; the reader may ask again."""
    async with actor_cluster(system) as cluster:
        market = cluster.client.get(Market, "a")
        async with aclosing(market.count(1000, 1.0)) as stream:
            assert await anext(stream) == 0
            began = cluster.time
            await cluster.handoff(market)
            assert cluster.time - began < 2.0
            items, error = await consumed(stream)

            assert len(items) <= 2
            assert isinstance(error, StreamInterrupted)
            assert error.retryable
        assert streams(cluster) == 0
        assert (await consumed(market.count(3)))[0] == [0, 1, 2]


async def test_the_death_of_a_producers_runner_is_a_typed_error(actor_cluster: ActorCluster) -> None:
    """Told by the shard's next owner; the request is never run again."""
    async with actor_cluster(system) as cluster:
        market = cluster.client.get(Market, "a")
        async with aclosing(market.count(1000, 1.0)) as stream:
            assert await anext(stream) == 0
            await cluster.kill(cluster.owner_of(market))
            ran = produced.count("0")
            began = cluster.time
            _, error = await consumed(stream)

            assert isinstance(error, StreamInterrupted)
            assert cluster.time - began < 13.0
        await cluster.settled()
        assert produced.count("0") == ran
        assert streams(cluster) == 0


async def test_a_stream_sends_nothing(actor_cluster: ActorCluster) -> None:
    """It has no commit that could make a tell real."""
    async with actor_cluster(system) as cluster:
        _, error = await consumed(cluster.client.get(Market, "a").cheat())
        await cluster.settled()

        assert isinstance(error, RemoteError)
        assert "a streaming reply" in error.message
        assert not cluster.is_stored(cluster.client.get(Market, "other"))


async def test_a_stream_may_ask_others_and_itself(actor_cluster: ActorCluster) -> None:
    """Its questions leave no record behind, since it is never run again."""
    async with actor_cluster(system) as cluster:
        for number, key in enumerate("abc"):
            await cluster.client.get(Market, key).set_price(number)
        items, error = await consumed(cluster.client.get(Market, "a").ask_on(["a", "b", "c"]))

        assert (items, error) == ([[0], [1], [2]], None)
        assert cluster.execute("KEYS", f"{cluster.keys.tag}:k:*") == []


async def test_a_stream_may_pass_another_one_on(actor_cluster: ActorCluster) -> None:
    """And when it is abandoned, so is the one it reads."""
    async with actor_cluster(system) as cluster:
        items, error = await consumed(cluster.client.get(Market, "a").relay("b", 200))
        assert (items, error) == ([10 * number for number in range(200)], None)

        async with aclosing(cluster.client.get(Market, "a").relay("b", 100_000)) as stream:
            assert await anext(stream) == 0
        await cluster.settled()
        await cluster.advance(1.0)
        assert streams(cluster) == 0


async def test_a_turn_may_read_a_stream(actor_cluster: ActorCluster) -> None:
    """Of another actor."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Market, "a").total("b", 300) == sum(range(300))


async def test_a_streams_context_is_that_of_its_message(actor_cluster: ActorCluster) -> None:
    """Its headers and its id."""
    async with actor_cluster(system) as cluster:
        where = cluster.client.get(Market, "a").where.options(headers={"tenant": "t1"})
        items, _ = await consumed(where())

        assert items[1:] == ["t1", "where"]
        assert len(items[0]) == 26


async def test_many_streams_of_one_actor_run_beside_each_other(actor_cluster: ActorCluster) -> None:
    """Each with its own items and its own window."""
    async with actor_cluster(system) as cluster:
        market = cluster.client.get(Market, "a")
        results = await asyncio.gather(*[consumed(market.count(100, 0.01)) for _ in range(30)])

        assert [items for items, _ in results] == [list(range(100))] * 30


async def test_a_streaming_reply_cannot_be_told(actor_cluster: ActorCluster) -> None:
    """Nobody would get it."""
    async with actor_cluster(system) as cluster:
        with pytest.raises(AttributeError):
            await cluster.client.get(Market, "a").count.tell(3)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]


async def test_a_stream_asked_for_while_the_actor_is_busy_begins_when_it_may(actor_cluster: ActorCluster) -> None:
    """In its order among the messages; its deadline while it waits is that of an item."""
    async with actor_cluster(system) as cluster:
        market = cluster.client.get(Market, "a")
        for price in range(50):
            await market.set_price.tell(price)
        async with aclosing(market.prices(0.0)) as stream:
            assert await anext(stream) == list(range(50))

        cluster.server.stop()
        assert isinstance(await outcome(anext(market.count.options(timeout=2.0)(3))), ClusterError)
        cluster.server.start()
        assert (await consumed(market.count(3)))[0] == [0, 1, 2]


async def test_a_stream_that_would_wait_on_itself_fails_at_once(actor_cluster: ActorCluster) -> None:
    """A turn that reads its own actor's stream, or one that asks back."""
    async with actor_cluster(system) as cluster:
        market = cluster.client.get(Market, "a")
        began = cluster.time
        assert isinstance(await outcome(market.total("a", 3)), CallCycle)
        assert isinstance(await outcome(market.total_of_prices("b")), CallCycle)

        assert cluster.time - began < 0.5
        assert await market.current() == []
