"""What a handler's code knows of its message, wherever it runs, and what of it travels on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.client import Client
from actors.context import Context, current_client, current_context
from actors.ids import RunnerId, ShardId
from actors.message import message
from actors.system import ActorSystem
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("context")
contexts: list[Context] = []
broken: set[str] = set()
log = logging.getLogger("tests.actors.context")


@pytest.fixture(autouse=True)
def _forget() -> None:
    contexts.clear()
    broken.clear()


class Notes(msgspec.Struct):
    entries: list[str] = []


def found() -> str:
    context = current_context()
    return "" if context is None else f"{context.key}.{context.method}"


@system.actor
class Probe(Actor[Notes]):
    async def on_activate(self) -> None:
        self.state.entries.append(f"activated in {found() or 'nothing'}")

    @message
    async def look(self) -> None:
        contexts.append(self.context)

    @message
    async def headers(self) -> dict[str, str]:
        return dict(self.context.headers)

    @message
    async def pass_on(self, keys: list[str], headers: dict[str, str] | None = None) -> dict[str, str]:
        """Return the headers that the last of a chain of asks has seen."""
        if not keys:
            return dict(self.context.headers)
        ask = self.client.get(Probe, keys[0]).pass_on
        return await (ask.options(headers=headers) if headers else ask)(keys[1:])

    @message
    async def tell_on(self, key: str, delayed: bool = False) -> None:  # noqa: FBT001, FBT002 - a message's arguments are what they are
        note = self.client.get(Probe, key).note
        await (note.options(after=1.0) if delayed else note).tell()

    @message
    async def note(self) -> None:
        self.state.entries.append(str(sorted(self.context.headers.items())))

    @message
    async def entries(self) -> list[str]:
        return self.state.entries

    @message
    async def everywhere(self) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        results = {"here": found()}
        results["task"] = await asyncio.create_task(_later())
        results["gathered"] = (await asyncio.gather(_later(), _later()))[1]
        results["to_thread"] = await asyncio.to_thread(found)
        results["executor"] = await loop.run_in_executor(None, found)
        called: asyncio.Future[str] = loop.create_future()
        loop.call_soon(lambda: called.set_result(found()))
        results["callback"] = await called
        client = current_client()
        assert client is not None
        await client.get(Probe, "told").note.tell()
        return results

    @message
    def in_thread(self) -> str:
        return found()

    @message
    async def log(self, text: str) -> None:
        log.warning(text)
        await asyncio.to_thread(log.warning, f"{text} from a thread")

    @message
    async def linger(self, name: str) -> str:
        before = found()
        await asyncio.sleep(0.1)
        after = found()
        assert before == after
        return after

    @message
    async def leave_running(self) -> str:
        """Start something that outlives the turn."""
        self.context.message_id  # noqa: B018 - made while the turn runs
        left.append(asyncio.create_task(_tells_later()))
        return "started"

    @message
    async def attempt(self) -> tuple[int, str, str]:
        contexts.append(self.context)
        if self.context.attempt < 3:
            raise ValueError("a defect")
        return self.context.attempt, self.context.message_id, self.context.epoch

    @message
    async def stream(self) -> AsyncIterator[str]:
        yield found()
        yield await asyncio.to_thread(found)


left: list[asyncio.Task[object]] = []


async def _later() -> str:
    await asyncio.sleep(0.01)
    return found()


async def _tells_later() -> object:
    await asyncio.sleep(0.1)
    client = current_client()
    assert client is not None
    return await outcome(client.get(Probe, "other").note.tell())


async def test_a_handler_knows_its_message_and_its_place(actor_cluster: ActorCluster) -> None:
    """Everything that an effect outside of the system can be tied to."""
    async with actor_cluster(system) as cluster:
        probe = cluster.client.get(Probe, "a")
        await probe.look.options(timeout=10.0, headers={"tenant": "t"})()
        receipt = await probe.look.tell()
        await cluster.settled()
        asked, told = contexts

        assert (asked.actor_type, asked.key, asked.method, asked.attempt, asked.is_leader) == ("Probe", "a", "look", 1, False)
        assert asked.shard_id == cluster.shard_of(probe)
        assert isinstance(asked.shard_id, ShardId)
        runner = cluster.runner(cluster.owner_of(probe))
        assert asked.runner_id == runner.id
        assert isinstance(asked.runner_id, RunnerId)
        assert asked.epoch == runner.host.held_shards()[asked.shard_id]
        assert asked.deadline is not None
        assert asked.headers == {"tenant": "t"}
        assert told.message_id == receipt.message_id
        assert told.deadline is None
        assert asked.message_id < told.message_id


async def test_there_is_no_context_outside_of_a_handler(actor_cluster: ActorCluster) -> None:
    """Neither in a test, nor in a program, nor beside a runner's actors; and an actor says so."""
    async with actor_cluster(system) as cluster:
        await cluster.client.get(Probe, "a").look()

        assert current_context() is None
        assert current_client() is None
        await cluster.runner(cluster.runners[0]).client.get(Probe, "b").look()
        assert current_context() is None


async def test_headers_travel_on_with_every_message_sent_from_a_handler(actor_cluster: ActorCluster) -> None:
    """Along asks, tells and delayed tells; those given on the way are added."""
    async with actor_cluster(system) as cluster:
        get = cluster.client.get
        assert await get(Probe, "a").pass_on.options(headers={"tenant": "t"})(["b", "c"]) == {"tenant": "t"}
        added = await get(Probe, "a").pass_on.options(headers={"tenant": "t", "x": "1"})(["b"], {"x": "2", "y": "3"})
        assert added == {"tenant": "t", "x": "2", "y": "3"}

        await get(Probe, "a").tell_on.options(headers={"tenant": "t"})("told")
        await get(Probe, "a").tell_on.options(headers={"tenant": "t"})("told", True)
        await cluster.advance(2.0)
        await cluster.settled()
        assert (await get(Probe, "told").entries())[1:] == ["[('tenant', 't')]"] * 2


async def test_headers_do_not_flow_back_or_leak_into_the_next_message(actor_cluster: ActorCluster) -> None:
    """What a callee was given is not the caller's, and a message has only what it came with."""
    async with actor_cluster(system) as cluster:
        probe = cluster.client.get(Probe, "a")
        assert await probe.pass_on(["b"], {"only": "there"}) == {"only": "there"}
        assert await probe.headers() == {}
        assert await cluster.client.get(Probe, "b").headers() == {}
        results = await asyncio.gather(*[(probe.headers.options(headers={"n": str(n)}) if n % 2 else probe.headers)() for n in range(50)])

        assert list(results) == [{"n": str(n)} if n % 2 else {} for n in range(50)]


async def test_the_context_follows_tasks_threads_executors_and_callbacks(actor_cluster: ActorCluster) -> None:
    """So does the client bound to the turn."""
    async with actor_cluster(system) as cluster:
        results = await cluster.client.get(Probe, "a").everywhere.options(headers={"h": "1"})()

        assert set(results.values()) == {"a.everywhere"}
        assert await cluster.client.get(Probe, "a").in_thread() == "a.in_thread"
        assert [each async for each in cluster.client.get(Probe, "a").stream()] == ["a.stream"] * 2
        await cluster.settled()
        assert cluster.state(cluster.client.get(Probe, "told")).entries[1:] == ["[('h', '1')]"]


async def test_contexts_of_turns_that_overlap_are_their_own(actor_cluster: ActorCluster) -> None:
    """Hundreds of actors wait in the middle of their turns on one loop."""
    async with actor_cluster(system, runners=1) as cluster:
        results = await asyncio.gather(*[cluster.client.get(Probe, str(n)).linger("x") for n in range(200)])

        assert list(results) == [f"{n}.linger" for n in range(200)]


async def test_a_context_does_not_leak_into_the_next_activation(actor_cluster: ActorCluster) -> None:
    """A hook runs in none of the messages' contexts."""
    async with actor_cluster(system, runners=1) as cluster:
        await asyncio.gather(*[cluster.client.get(Probe, str(n)).look() for n in range(50)])
        await cluster.settled()

        for number in range(50):
            assert cluster.state(cluster.client.get(Probe, str(number))).entries == [f"activated in {number}."]


async def test_every_log_record_of_a_handler_is_marked(actor_cluster: ActorCluster, caplog: pytest.LogCaptureFixture) -> None:
    """With what it takes to find all of one message's lines; and no others are."""
    async with actor_cluster(system) as cluster:
        with caplog.at_level(logging.WARNING, log.name):
            log.warning("before")
            await cluster.client.get(Probe, "a").log("inside")
            log.warning("after")
        records = {record.getMessage(): record for record in caplog.records if record.name == log.name}

        for text in ("inside", "inside from a thread"):
            record = vars(records[text])
            assert (record["actor"], record["actor_method"], record["actor_attempt"]) == ("Probe/a", "log", 1)
            assert record["actor_shard"] == cluster.shard_of(cluster.client.get(Probe, "a")).label
            assert len(record["actor_message"]) == 26
        for text in ("before", "after"):
            assert "actor" not in vars(records[text])


async def test_what_a_turn_left_running_sees_its_context_and_cannot_send_as_part_of_it(actor_cluster: ActorCluster) -> None:
    """The turn is committed: there is nothing left that its message could leave with."""
    left.clear()
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Probe, "a").leave_running() == "started"
        (error,) = await asyncio.gather(*left)

        assert isinstance(error, RuntimeError)
        assert "Probe/a.leave_running has ended" in str(error)
        assert not cluster.is_stored(cluster.client.get(Probe, "other"))


async def test_an_attempt_is_counted_and_keeps_the_messages_id(actor_cluster: ActorCluster) -> None:
    """A good key for effects outside of the system."""
    async with actor_cluster(system) as cluster:
        attempt, message_id, _ = await cluster.client.get(Probe, "a").attempt()

        assert attempt == 3
        assert [(context.attempt, context.message_id) for context in contexts] == [(n, message_id) for n in (1, 2, 3)]


async def test_a_client_of_its_own_used_inside_a_handler_passes_the_headers_on(actor_cluster: ActorCluster) -> None:
    """It sends at once, outside of the turn; but what caused it is the same."""
    other = ActorSystem("context")
    clients: list[Client] = []

    @other.actor
    class Outside(Actor[None]):
        @message
        async def ask_outside(self) -> dict[str, str]:
            return await clients[0].get(Outside, "other").headers()

        @message
        async def headers(self) -> dict[str, str]:
            return dict(self.context.headers)

    async with actor_cluster(other) as cluster:
        clients.append(cluster.client)

        assert await cluster.client.get(Outside, "a").ask_outside.options(headers={"h": "1"})() == {"h": "1"}


async def test_a_pool_of_threads_of_the_applications_own_has_no_context(actor_cluster: ActorCluster) -> None:
    """Known and documented: plain pools carry none; the loop's executor does."""
    other = ActorSystem("context")

    @other.actor
    class Pooled(Actor[None]):
        @message
        async def submit(self) -> str:
            with ThreadPoolExecutor(1) as pool:
                return await asyncio.wrap_future(pool.submit(found))

    async with actor_cluster(other) as cluster:
        assert await cluster.client.get(Pooled, "a").submit() == ""
