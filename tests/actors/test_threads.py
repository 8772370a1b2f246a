"""Handlers that are plain functions: they run in threads, as turns like any other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.context import current_context
from actors.errors import AskTimeout, DomainError, RemoteError
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("threads")
gates: dict[str, threading.Event] = {}
entered: dict[str, threading.Event] = {}
noted: list[str] = []


@pytest.fixture(autouse=True)
def _gates() -> Iterator[None]:
    noted.clear()
    for name in ("a", "b", "s"):
        gates[name], entered[name] = threading.Event(), threading.Event()
    yield
    for gate in gates.values():
        gate.set()


class Refused(DomainError):
    pass


class Notes(msgspec.Struct):
    entries: list[str] = []


@system.actor
class Crunch(Actor[Notes]):
    @message
    def add(self, text: str) -> list[str]:
        self.state.entries.append(text)
        return self.state.entries

    @message
    def where(self) -> tuple[bool, str]:
        context = current_context()
        return threading.current_thread() is threading.main_thread(), "" if context is None else context.method

    @message
    def refuse(self, text: str) -> None:
        self.state.entries.append(text)
        raise Refused

    @message(retry=Retry(max_attempts=2, initial=0.01))
    def fail(self) -> None:
        noted.append(f"attempt {self.context.attempt}")
        raise ValueError("a defect")

    @message
    def hold(self, gate: str) -> str:
        """Change the state, wait for the gate, and change it again."""
        self.state.entries.append(f"before {gate}")
        entered[gate].set()
        gates[gate].wait(30)
        self.state.entries.append(f"after {gate}")
        noted.append(f"returned {gate}")
        return gate

    @message(read_only=True)
    def read(self, gate: str) -> list[str]:
        entered[gate].set()
        gates[gate].wait(30)
        return self.state.entries

    @message
    async def mixed(self, text: str) -> list[str]:
        """A coroutine that calls a plain message on self."""
        self.state.entries.append("first")
        await self.add(text)
        return self.state.entries

    @message
    def ask_from_thread(self, key: str, text: str) -> list[str]:
        self.state.entries.append("asked")
        return self.wait(self.client.get(Crunch, key).add(text))

    @message
    def tell_from_thread(self, key: str, text: str) -> None:
        self.wait(self.client.get(Crunch, key).add.tell(text))
        self.wait(self.client.send(self.client.get(Crunch, key).add.message(text + " too")))

    @message
    def catch_from_thread(self, key: str) -> str:
        try:
            self.wait(self.client.get(Crunch, key).refuse("x"))
        except Refused as error:
            return type(error).__name__
        return "nothing"

    @message
    def wait_long(self, key: str, gate: str) -> str:
        entered[gate].set()
        try:
            self.wait(self.client.get(Slow, key).sleep(3600.0))
        except BaseException as error:
            noted.append(type(error).__name__)
            raise
        return "?"

    @message
    def entries(self) -> list[str]:
        return self.state.entries

    @message
    def leave(self) -> None:
        self.deactivate()


@system.actor
class Slow(Actor[None]):
    @message
    async def sleep(self, seconds: float) -> None:
        entered["s"].set()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            noted.append("woken")
            raise


async def until(event: threading.Event) -> None:
    await asyncio.to_thread(event.wait, 30)


async def test_a_plain_def_runs_in_a_thread_and_is_a_turn_like_any(actor_cluster: ActorCluster) -> None:
    """Its state is loaded and committed, its context is there."""
    async with actor_cluster(system) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        assert await asyncio.gather(*[crunch.add(str(n)) for n in range(20)]) == [[str(m) for m in range(n + 1)] for n in range(20)]

        assert cluster.state(crunch).entries == [str(n) for n in range(20)]
        assert await crunch.where() == (False, "where")


async def test_a_plain_def_holds_up_its_own_actor_only(actor_cluster: ActorCluster) -> None:
    """The loop goes on, and so do the others."""
    async with actor_cluster(system, runners=1) as cluster:
        holding = asyncio.create_task(cluster.client.get(Crunch, "a").hold("a"))
        await until(entered["a"])
        behind = asyncio.create_task(cluster.client.get(Crunch, "a").add("behind"))
        assert await cluster.client.get(Crunch, "b").add("beside") == ["beside"]
        assert not behind.done()

        gates["a"].set()
        assert await holding == "a"
        assert await behind == ["before a", "after a", "behind"]


async def test_read_only_threads_overlap_each_other(actor_cluster: ActorCluster) -> None:
    """And wait for writers."""
    async with actor_cluster(system) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        reading = [asyncio.create_task(crunch.read(gate)) for gate in ("a", "b")]
        await until(entered["a"])
        await until(entered["b"])
        writing = asyncio.create_task(crunch.add("x"))
        await asyncio.sleep(0)
        gates["a"].set()
        gates["b"].set()

        assert list(await asyncio.gather(*reading)) == [[], []]
        assert await writing == ["x"]


async def test_errors_of_threads_are_those_of_any_handler(actor_cluster: ActorCluster) -> None:
    """A domain error is the caller's, a defect is tried again."""
    async with actor_cluster(system) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        with pytest.raises(Refused):
            await crunch.refuse("x")
        with pytest.raises(RemoteError, match="a defect"):
            await crunch.fail()

        assert noted == ["attempt 1", "attempt 2"]
        assert await crunch.entries() == []


async def test_on_self_a_plain_def_is_awaited_and_runs_in_the_same_turn(actor_cluster: ActorCluster) -> None:
    """No message is sent for it."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Crunch, "a").mixed("second") == ["first", "second"]


async def test_a_thread_may_wait_for_coroutines(actor_cluster: ActorCluster) -> None:
    """Asks and tells, as parts of its turn."""
    async with actor_cluster(system) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        assert await crunch.ask_from_thread("b", "asked") == ["asked"]
        assert await crunch.catch_from_thread("c") == "Refused"
        await crunch.tell_from_thread("b", "told")
        await cluster.settled()

        assert cluster.state(cluster.client.get(Crunch, "b")).entries == ["asked", "told", "told too"]
        assert cluster.state(crunch).entries == ["asked"]


async def test_the_result_of_a_thread_that_was_cut_off_is_discarded(actor_cluster: ActorCluster) -> None:
    """A thread cannot be cancelled: its caller is told at the deadline, and its actor waits until it returns."""
    async with actor_cluster(system) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        await crunch.add("committed")
        holding = asyncio.create_task(outcome(crunch.hold.options(timeout=0.2)("a")))
        error = await holding
        assert isinstance(error, AskTimeout)
        assert error.stage == "running"
        behind = asyncio.create_task(crunch.add("behind"))
        await asyncio.sleep(0.05)
        assert not behind.done()

        gates["a"].set()
        assert await behind == ["committed", "behind"]
        assert noted == ["returned a"]
        assert cluster.state(crunch).entries == ["committed", "behind"]


async def test_an_actor_is_not_deactivated_while_a_thread_of_it_still_runs(actor_cluster: ActorCluster) -> None:
    """Another activation must not run beside it."""
    async with actor_cluster(system, settings=Settings(idle_timeout=0.5)) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        assert isinstance(await outcome(crunch.hold.options(timeout=0.2)("a")), AskTimeout)
        await asyncio.sleep(1.5)
        assert sum(cluster.runner(name).statistics().resident for name in cluster.runners) == 1
        gates["a"].set()
        await cluster.advance(3.0)

        assert sum(cluster.runner(name).statistics().resident for name in cluster.runners) == 0
        assert await crunch.entries() == []


async def test_a_thread_that_waits_for_a_coroutine_is_released_when_its_turn_is_cut_off(actor_cluster: ActorCluster) -> None:
    """What it waits for is cancelled, all the way down, and the thread gets to know."""
    async with actor_cluster(system) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        waiting = asyncio.create_task(crunch.wait_long("s", "a"))
        await until(entered["a"])
        await until(entered["s"])
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        assert await crunch.add("next") == ["next"]
        await cluster.settled()
        assert "woken" in noted
        assert "CancelledError" in noted


async def test_a_thread_may_ask_for_deactivation(actor_cluster: ActorCluster) -> None:
    """As a coroutine may."""
    async with actor_cluster(system) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        await crunch.add("x")
        await crunch.leave()
        await cluster.settled()

        assert sum(cluster.runner(name).statistics().resident for name in cluster.runners) == 0
        assert await crunch.entries() == ["x"]


async def test_a_handoff_waits_for_a_thread_up_to_the_drain_time(actor_cluster: ActorCluster) -> None:
    """One that takes longer is cut off, and its message runs again elsewhere."""
    async with actor_cluster(system, settings=Settings(drain_timeout=0.3, activation_timeout=0.3)) as cluster:
        crunch = cluster.client.get(Crunch, "a")
        holding = asyncio.create_task(crunch.hold("a"))
        await until(entered["a"])
        await cluster.handoff(crunch)
        gates["a"].set()

        assert await holding == "a"
        await cluster.settled()
        assert cluster.state(crunch).entries == ["before a", "after a"]


async def test_a_handler_in_a_thread_may_raise_what_a_future_does_not_take(actor_cluster: ActorCluster) -> None:
    """`next()` of an empty iterator is a slip like any other; its turn ends."""
    other = ActorSystem("stops")

    @other.actor(retry=Retry(max_attempts=1))
    class Stops(Actor[None]):
        @message
        def first_of_none(self) -> int:
            return next(iter(list[int]()))

    async with actor_cluster(other) as cluster:
        with pytest.raises(RemoteError, match="StopIteration"):
            await cluster.client.get(Stops, "a").first_of_none()
