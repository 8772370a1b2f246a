"""Calls that would wait on themselves, and those that may come back in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import ActivationFailed, AskTimeout, CallCycle, CallTooDeep, DomainError, RemoteError
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from actors.testing.faults import Delays
from tests.actors.outcomes import outcome, outcomes

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("cycles")
broken: set[str] = set()
seen: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    broken.clear()
    seen.clear()


class Refused(DomainError):
    pass


class Visits(msgspec.Struct):
    entries: list[str] = []


@system.actor
class Node(Actor[Visits]):
    @message
    async def walk(self, path: list[str]) -> list[str]:
        """Ask the next of the path to walk the rest."""
        self.state.entries.append(self.key)
        if not path:
            return [self.key]
        return [self.key, *await self.client.get(Node, path[0]).walk(path[1:])]

    @message
    async def walk_and_peek(self, path: list[str]) -> list[str]:
        """The same, but the last of the path is only peeked at."""
        self.state.entries.append("mine")
        node = self.client.get(Node, path[0])
        return await (node.peek() if len(path) == 1 else node.walk_and_peek(path[1:]))

    @message(reentrant=True)
    async def peek(self) -> list[str]:
        return self.state.entries

    @message(reentrant=True)
    async def relay(self, path: list[str]) -> list[str]:
        """Reentrant, and asks on."""
        if not path:
            return [self.key]
        return [self.key, *await self.client.get(Node, path[0]).relay(path[1:])]

    @message
    async def begin_relay(self, path: list[str]) -> list[str]:
        self.state.entries.append("began")
        return await self.client.get(Node, path[0]).relay(path[1:])

    @message
    async def meet(self, other: str, delay: float = 0.05) -> str:
        """Wait until the other is as far, then ask it; a cycle is an answer too."""
        await asyncio.sleep(delay)
        try:
            answer = await self.client.get(Node, other).meet(self.key, 0.0)
        except CallCycle as error:
            answer = f"cycle {' '.join(error.chain)}"
        # The turn goes on, and all of it still works.
        await self.client.get(Node, "log").note.tell(self.context.method)
        return answer

    @message
    async def note(self, text: str) -> None:
        self.state.entries.append(text)

    @message
    async def both(self, left: str, right: str) -> list[str]:
        return list(await asyncio.gather(self.client.get(Node, left).meet(right, 0.05), self.client.get(Node, right).meet(left, 0.05)))

    # reentrant turns that go wrong

    @message
    async def outer(self, via: str, how: str) -> list[str]:
        self.state.entries.append("outer")
        try:
            await self.client.get(Node, via).back(self.key, how)
        except (Refused, RemoteError, AskTimeout) as error:
            seen.append(type(error).__name__)
        self.state.entries.append("after")
        return self.state.entries

    @message
    async def back(self, to: str, how: str) -> None:
        await self.client.get(Node, to).inner.options(timeout=1.0)(how)

    @message(reentrant=True, retry=Retry(max_attempts=3, initial=0.05))
    async def inner(self, how: str) -> None:
        seen.append(f"{how} {self.context.attempt} {' '.join(self.state.entries)}")
        match how:
            case "refuse":
                raise Refused
            case "stumble once":
                if "stumbled" not in broken:
                    broken.add("stumbled")
                    raise ValueError("a defect")
            case "stumble":
                raise ValueError("a defect")
            case "hang":
                await asyncio.Event().wait()
            case "tell":
                await self.client.get(Node, "log").note.tell("leaked")
            case "change":
                self.state.entries.append("inner")
            case _:
                pass

    @message
    async def fail_after_peek(self, via: str) -> None:
        """A turn that lets a reentrant one succeed inside, and then always fails."""
        seen.append(f"attempt {self.context.attempt}")
        await self.client.get(Node, via).look_at(self.key, self.context.attempt)
        raise ValueError("a defect")

    @message
    async def look_at(self, key: str, _attempt: int) -> list[str]:
        return await self.client.get(Node, key).peek()


@system.actor(mailbox_capacity=3)
class Narrow(Actor[Visits]):
    """Its queue is soon full, so that most of what comes goes to the backlog."""

    @message
    async def add(self, text: str) -> None:
        self.state.entries.append(text)

    @message
    async def outer(self, method: str) -> list[str]:
        self.state.entries.append("outer")
        await asyncio.sleep(0.5)
        seen.append(str(await outcome(self.client.get(Mirror, "m").reflect(self.key, method))))
        self.state.entries.append("after")
        return self.state.entries

    @message(reentrant=True)
    async def peek(self) -> list[str]:
        await asyncio.sleep(0.1)
        return self.state.entries

    @message
    async def touch(self) -> None:
        pass


@system.actor(mailbox_capacity=1)
class Flooded(Actor[Visits]):
    """So busy that what comes is out of its sight until its turn is over."""

    @message
    async def add(self, text: str) -> None:
        self.state.entries.append(text)

    @message
    async def cross(self, other: str, delay: float) -> str:
        await asyncio.sleep(delay)
        try:
            await self.client.get(Flooded, other).add(self.key)
        except CallCycle as error:
            return " ".join(error.chain)
        return "passed"


@system.actor
class Mirror(Actor[None]):
    @message
    async def reflect(self, key: str, method: str) -> list[str] | None:
        narrow = self.client.get(Narrow, key)
        return await (narrow.peek() if method == "peek" else narrow.touch())


@system.actor
class Entangled(Actor[None]):
    """Asks another when it comes up."""

    async def on_activate(self) -> None:
        if self.key.startswith("asks "):
            await self.client.get(Entangled, self.key.removeprefix("asks ")).ask_back(self.key)

    @message
    async def ask_back(self, key: str) -> None:
        await self.client.get(Entangled, key).ping()

    @message
    async def ping(self) -> str:
        return "pong"


@pytest.mark.parametrize(
    ("path", "circle"),
    [("AA", "AA"), ("ABA", "ABA"), ("XAXA", "XAX"), ("ABCDB", "ABCDB")],
)
async def test_a_call_that_would_wait_on_itself_fails_at_once(actor_cluster: ActorCluster, path: str, circle: str) -> None:
    """Naming the chain, instead of waiting for the deadline; nothing of any turn in it has happened, and all go on."""
    async with actor_cluster(system) as cluster:
        began = cluster.time
        with pytest.raises(CallCycle) as cycle:
            await cluster.client.get(Node, path[0]).walk(list(path[1:]))

        assert cluster.time - began < 0.5
        assert cycle.value.chain == [f"Node/{key}" for key in circle]
        for key in set(path):
            assert await cluster.client.get(Node, key).walk([]) == [key]
            assert cluster.state(cluster.client.get(Node, key)).entries == [key]


async def test_a_turn_may_go_on_after_a_cycle(actor_cluster: ActorCluster) -> None:
    """It is an error like others: who catches it decides."""
    other = ActorSystem("cycles")

    @other.actor
    class Careful(Actor[Visits]):
        @message
        async def try_myself(self) -> list[str]:
            try:
                await self.client.get(Careful, self.key).try_myself()
            except CallCycle as error:
                self.state.entries += error.chain
            return self.state.entries

    async with actor_cluster(other) as cluster:
        assert await cluster.client.get(Careful, "a").try_myself() == ["Careful/a", "Careful/a"]


@pytest.mark.parametrize("path", [["A"], ["B", "A"]], ids=["A-A", "A-B-A"])
async def test_a_reentrant_message_comes_back_in_and_sees_the_outer_turns_state(actor_cluster: ActorCluster, path: list[str]) -> None:
    """As it stands in the middle of that turn."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Node, "A").walk_and_peek(path) == ["mine"]


async def test_a_reentrant_message_may_ask_on(actor_cluster: ActorCluster) -> None:
    """X asks A, which asks X, which asks A: with reentrant targets it completes."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Node, "X").begin_relay(["A", "X", "A"]) == ["A", "X", "A"]
        assert await cluster.client.get(Node, "X").relay(["A", "X", "A"]) == ["X", "A", "X", "A"]


async def test_a_reentrant_message_from_outside_waits_its_turn(actor_cluster: ActorCluster) -> None:
    """It comes in only where the running turn waits for it."""
    async with actor_cluster(system) as cluster:
        node = cluster.client.get(Node, "A")
        results = await asyncio.gather(node.outer("B", "nothing"), node.peek())

        assert list(results) == [["outer", "after"], ["outer", "after"]]


async def test_two_actors_that_ask_each_other_do_not_wait_for_ever(actor_cluster: ActorCluster) -> None:
    """The newer of the two chains gives way, whichever side sees it first; the older one gets its answer."""
    for _ in range(5):
        async with actor_cluster(system) as cluster:
            began = cluster.time
            first = asyncio.create_task(cluster.client.get(Node, "A").meet("B"))
            await cluster.advance(0.002)
            second = asyncio.create_task(cluster.client.get(Node, "B").meet("A"))
            answers = await asyncio.gather(first, second)
            await cluster.settled()

            assert cluster.time - began < 1.0
            assert sum(answer.startswith("cycle") for answer in answers) >= 1
            notes = cluster.state(cluster.client.get(Node, "log")).entries
            assert set(notes) == {"meet"}
            assert len(notes) >= 2


async def test_two_actors_asked_by_one_turn_that_ask_each_other_do_not_wait_for_ever(actor_cluster: ActorCluster) -> None:
    """Both chains have the same beginning, so that the next link decides; one of the two gets through."""
    async with actor_cluster(system) as cluster:
        began = cluster.time
        answers = await cluster.client.get(Node, "X").both("A", "B")

        assert cluster.time - began < 1.0
        assert sum(answer.startswith("cycle") for answer in answers) >= 1


async def test_a_longer_circle_of_chains_ends_at_its_deadline_naming_what_is_waited_on(actor_cluster: ActorCluster) -> None:
    """A asks B, B asks C, C asks A, from three beginnings: nobody sees all of it."""
    other = ActorSystem("cycles")

    @other.actor
    class Ring(Actor[None]):
        @message
        async def pass_on(self, to: str) -> str:
            await asyncio.sleep(0.1)
            await self.client.get(Ring, to).stop()
            return "passed"

        @message
        async def stop(self) -> None:
            pass

    async with actor_cluster(other) as cluster:
        get = cluster.client.get
        found = await outcomes(
            get(Ring, "A").pass_on.options(timeout=2.0)("B"),
            get(Ring, "B").pass_on.options(timeout=2.0)("C"),
            get(Ring, "C").pass_on.options(timeout=2.0)("A"),
        )

        timeouts = [each for each in found if isinstance(each, AskTimeout)]
        assert timeouts
        assert {each.waiting_on for each in timeouts} <= {"Ring/A", "Ring/B", "Ring/C"}
        assert all(each.waiting_on for each in timeouts)


async def test_chains_are_limited_in_depth(actor_cluster: ActorCluster) -> None:
    """32 by default; actors that are not part of it are not affected."""
    async with actor_cluster(system, settings=Settings(max_call_depth=8)) as cluster:
        get = cluster.client.get
        assert await get(Node, "0").walk([str(n) for n in range(1, 9)]) == [str(n) for n in range(9)]
        deep, beside = await outcomes(get(Node, "0").walk([str(n) for n in range(1, 10)]), get(Node, "beside").walk([]))

        assert isinstance(deep, CallTooDeep)
        assert deep.limit == 8
        assert beside == ["beside"]


# reentrant turns that go wrong


async def test_a_domain_error_of_a_reentrant_turn_leaves_the_outer_turn_as_it_is(actor_cluster: ActorCluster) -> None:
    """The state is the outer turn's, which goes on."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Node, "A").outer("B", "refuse") == ["outer", "after"]
        assert seen == ["refuse 1 outer", "Refused"]
        assert cluster.state(cluster.client.get(Node, "A")).entries == ["outer", "after"]


async def test_a_reentrant_turn_that_is_cut_off_leaves_the_outer_turn_as_it_is(actor_cluster: ActorCluster) -> None:
    """Its caller gave up on it."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Node, "A").outer("B", "hang") == ["outer", "after"]
        assert cluster.state(cluster.client.get(Node, "A")).entries == ["outer", "after"]


async def test_a_defect_of_a_reentrant_turn_is_tried_again_inside_the_outer_turn(actor_cluster: ActorCluster) -> None:
    """It cannot wait for the outer turn to end, which waits for it."""
    async with actor_cluster(system) as cluster:
        began = cluster.time
        assert await cluster.client.get(Node, "A").outer("B", "stumble once") == ["outer", "after"]

        assert cluster.time - began < 0.5
        assert seen == ["stumble once 1 outer", "stumble once 2 outer"]


async def test_a_reentrant_turn_that_always_fails_uses_up_its_attempts_and_leaves_the_outer_turn_as_it_is(
    actor_cluster: ActorCluster,
) -> None:
    """The instance is the outer turn's and must not be discarded under it."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Node, "A").outer("B", "stumble") == ["outer", "after"]
        await cluster.settled()

        assert seen[:3] == [f"stumble {n} outer" for n in (1, 2, 3)]
        assert seen[-1] == "RemoteError"
        assert cluster.state(cluster.client.get(Node, "A")).entries == ["outer", "after"]


async def test_a_reentrant_turn_sends_nothing(actor_cluster: ActorCluster) -> None:
    """What it has seen may never become real."""
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Node, "A").outer("B", "tell") == ["outer", "after"]
        await cluster.settled()

        assert seen[-1] == "RemoteError"
        assert cluster.state(cluster.client.get(Node, "log")).entries == []


async def test_attempts_are_not_forgotten_because_a_reentrant_turn_succeeded_inside(actor_cluster: ActorCluster) -> None:
    """Else a turn that always fails would be run for ever."""
    async with actor_cluster(system) as cluster:
        with pytest.raises(RemoteError) as failed:
            await cluster.client.get(Node, "A").fail_after_peek("B")

        assert failed.value.attempts == 5
        assert seen == [f"attempt {n}" for n in range(1, 6)]


# where the message that comes back in is not in memory


@pytest.mark.parametrize("method", ["peek", "touch"])
async def test_a_call_that_comes_back_to_a_flooded_actor_is_met_at_once(actor_cluster: ActorCluster, method: str) -> None:
    """Its queue is full, and so the message was on its way to the backlog; the outer turn waits for it all the same."""
    async with actor_cluster(system) as cluster:
        narrow = cluster.client.get(Narrow, "a")
        outer = asyncio.create_task(narrow.outer(method))
        await cluster.advance(0.1)
        for number in range(20):
            await narrow.add.tell(str(number))
        began = cluster.time
        assert await outer == ["outer", "after"]
        assert cluster.time - began < 2.0
        await cluster.settled()

        if method == "peek":
            assert seen == ["['outer']"]
        else:
            assert "would wait on itself" in seen[0] or "wait" in seen[0]
        assert cluster.state(narrow).entries == ["outer", "after", *[str(number) for number in range(20)]]
        assert cluster.dead_letters() == []


async def test_the_same_holds_where_the_flood_came_first(actor_cluster: ActorCluster) -> None:
    """The outer turn itself runs from the backlog."""
    async with actor_cluster(system) as cluster:
        narrow = cluster.client.get(Narrow, "a")
        blocking = asyncio.create_task(narrow.outer("peek"))
        await cluster.advance(0.1)
        for number in range(10):
            await narrow.add.tell(str(number))
        second = asyncio.create_task(narrow.outer("peek"))
        await asyncio.sleep(0)
        for number in range(10, 20):
            await narrow.add.tell(str(number))
        await asyncio.gather(blocking, second)
        await cluster.settled()

        entries = ["outer", "after", *[str(n) for n in range(10)], "outer", "after", *[str(n) for n in range(10, 20)]]
        assert cluster.state(narrow).entries == entries


async def test_a_message_that_came_back_in_is_not_run_again_from_the_backlog(actor_cluster: ActorCluster) -> None:
    """It is handled while the next page of the backlog, which holds it, is on its way."""
    async with actor_cluster(system) as cluster:
        narrow = cluster.client.get(Narrow, "a")
        await narrow.add("first")
        cluster.faults.inject(Delays(request=0.55), name="XRANGE", purpose="state", times=None)
        await asyncio.gather(*[narrow.outer("peek") for _ in range(12)])
        await cluster.settled()

        assert len(seen) == 12
        assert cluster.state(narrow).entries == ["first", *["outer", "after"] * 12]
        assert cluster.dead_letters() == []


async def test_a_cycle_is_seen_deep_in_a_backlog(actor_cluster: ActorCluster) -> None:
    """The newer call lay there, out of memory, before the older turn began to wait on its sender."""
    async with actor_cluster(system) as cluster:
        a, b = cluster.client.get(Flooded, "a"), cluster.client.get(Flooded, "b")
        older = asyncio.create_task(a.cross("b", 5.0))
        await cluster.advance(0.1)
        newer = asyncio.create_task(b.cross("a", 1.0))
        for number in range(5):
            await a.add.tell(str(number))
        began = cluster.time

        assert (await newer, await older) == ("Flooded/b Flooded/a", "passed")
        assert cluster.time - began < 6.0
        await cluster.settled()
        assert cluster.state(a).entries == list("01234")
        assert cluster.state(b).entries == ["a"]


# hooks


async def test_an_activation_that_would_wait_on_itself_fails_at_once(actor_cluster: ActorCluster) -> None:
    """on_activate asks B, and B asks back: its message cannot run before the activation is over."""
    async with actor_cluster(system) as cluster:
        began = cluster.time
        with pytest.raises(ActivationFailed) as failed:
            await cluster.client.get(Entangled, "asks B").ping()

        assert failed.value.type_name == "CallCycle"
        assert cluster.time - began < 1.0
