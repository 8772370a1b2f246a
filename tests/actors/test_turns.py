"""Which turns of one actor may overlap, and what they see of each other."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import ConfigurationError, DomainError, RemoteError
from actors.message import message
from actors.supervision import Retry
from actors.system import ActorSystem
from actors.testing.faults import Delays
from tests.actors.outcomes import outcome, outcomes

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("turns")
spans: list[tuple[str, str]] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _forget() -> None:
    spans.clear()
    broken.clear()


class Refused(DomainError):
    pass


class Log(msgspec.Struct):
    entries: list[str] = []


class Recording:
    """Notes the beginning and the end of whatever runs inside."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        spans.append(("begins", self._name))

    def __exit__(self, *exc: object) -> None:
        spans.append(("ends", self._name))


def most_at_once() -> int:
    running = most = 0
    for what, _ in spans:
        running += 1 if what == "begins" else -1
        most = max(most, running)
    return most


@system.actor
class Ledger(Actor[Log]):
    @message
    async def write(self, name: str, seconds: float = 0.01) -> list[str]:
        with Recording(f"write {name}"):
            await asyncio.sleep(seconds)
            self.state.entries.append(name)
            return self.state.entries

    @message(read_only=True)
    async def read(self, name: str, seconds: float = 0.01) -> list[str]:
        with Recording(f"read {name}"):
            await asyncio.sleep(seconds)
            return self.state.entries

    @message(read_only=True)
    async def cheat(self) -> None:
        self.state.entries.append("not allowed")

    @message(read_only=True)
    async def stumble(self, name: str) -> str:
        await asyncio.sleep(0.01)
        if name in broken:
            raise ValueError("a defect")
        return name

    @message
    async def write_and_refuse(self, name: str) -> None:
        self.state.entries.append(name)
        await asyncio.sleep(0.01)
        raise Refused

    @message
    async def write_and_stumble(self, name: str) -> list[str]:
        self.state.entries.append(name)
        if name in broken:
            broken.discard(name)
            raise ValueError("a defect")
        return self.state.entries

    @message
    async def replace(self, entries: list[str]) -> None:
        self.state = Log(entries)


@system.actor(concurrency=3, retry=Retry(initial=0.05))
class Pool(Actor[None]):
    @message
    async def work(self, name: str, seconds: float = 0.01) -> str:
        with Recording(name):
            await asyncio.sleep(seconds)
        return name

    @message
    async def stumble(self, name: str, seconds: float = 0.01) -> str:
        with Recording(name):
            await asyncio.sleep(seconds)
            if name in broken:
                raise ValueError("a defect")
        return name


async def test_two_turns_of_one_actor_never_overlap(actor_cluster: ActorCluster) -> None:
    """However many ask at once, also where each turn waits in its middle."""
    async with actor_cluster(system) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        await asyncio.gather(*[ledger.write(str(number)) for number in range(50)])

        assert most_at_once() == 1
        assert cluster.state(ledger).entries == [str(number) for number in range(50)]


async def test_turns_of_different_actors_overlap(actor_cluster: ActorCluster) -> None:
    """One that waits holds up nobody else."""
    async with actor_cluster(system, runners=1) as cluster:
        await asyncio.gather(*[cluster.client.get(Ledger, str(number)).write("x") for number in range(50)])

        assert most_at_once() == 50


async def test_readers_overlap_each_other_and_never_a_writer(actor_cluster: ActorCluster) -> None:
    """And a reader sees all of a writer's turn or nothing of it."""
    async with actor_cluster(system) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        calls = [ledger.write(str(n)) if n % 5 == 0 else ledger.read(str(n)) for n in range(50)]
        results = await asyncio.gather(*calls)

        inside: set[str] = set()
        for what, name in spans:
            if what == "begins":
                assert not any(other.startswith("write") for other in inside)
                assert not (name.startswith("write") and inside)
                inside.add(name)
            else:
                inside.discard(name)
        assert most_at_once() == 4
        assert [len(result) for result in results] == [n // 5 + 1 for n in range(50)]


async def test_readers_and_writers_are_served_first_come_first_served(actor_cluster: ActorCluster) -> None:
    """A stream of readers does not starve a writer that came between them."""
    async with actor_cluster(system) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        await asyncio.gather(
            ledger.read("1", 0.05), ledger.read("2", 0.01), ledger.write("3"), ledger.read("4"), ledger.read("5"), ledger.write("6")
        )

        assert [name for what, name in spans if what == "begins"] == ["read 1", "read 2", "write 3", "read 4", "read 5", "write 6"]


async def test_a_read_only_turn_that_changed_state_is_a_defect(actor_cluster: ActorCluster) -> None:
    """The test kit checks it: in production nobody would see the change, or somebody would by chance."""
    async with actor_cluster(system) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        await ledger.write("x")
        with pytest.raises(RemoteError, match="read_only and changed the state"):
            await ledger.cheat()

        assert await ledger.read("after") == ["x"]


async def test_a_defect_of_one_reader_leaves_the_others_alone(actor_cluster: ActorCluster) -> None:
    """They run beside it on an instance that is discarded."""
    broken.add("bad")
    async with actor_cluster(system) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        await ledger.write("x")
        results = await outcomes(ledger.read("long", 1.0), ledger.stumble("bad"), ledger.read("other", 0.5), ledger.stumble("good"))

        assert (results[0], results[2], results[3]) == (["x"], ["x"], "good")
        assert isinstance(results[1], RemoteError)
        assert results[1].attempts == 5


async def test_concurrency_lets_that_many_turns_overlap_and_no_more(actor_cluster: ActorCluster) -> None:
    """For an actor without state, which has nothing to lose by it."""
    async with actor_cluster(system) as cluster:
        pool = cluster.client.get(Pool, "a")
        names = [str(number) for number in range(30)]

        assert await asyncio.gather(*[pool.work(name) for name in names]) == names
        assert most_at_once() == 3


async def test_concurrency_is_refused_for_an_actor_with_state() -> None:
    """Turns that overlap would overwrite each other's changes."""
    other = ActorSystem("turns")

    with pytest.raises(ConfigurationError, match="concurrency of Wrong"):

        @other.actor(concurrency=2)
        class Wrong(Actor[Log]):
            pass


async def test_a_message_that_always_fails_uses_up_its_attempts_though_others_succeed_beside_it(actor_cluster: ActorCluster) -> None:
    """Attempts are counted for a message, not for its actor."""
    broken.add("bad")
    async with actor_cluster(system) as cluster:
        pool = cluster.client.get(Pool, "a")
        failing = asyncio.create_task(outcome(pool.stumble("bad", 0.2)))
        good = await asyncio.gather(*[pool.work(str(number), 0.05) for number in range(40)])
        error = await failing

        assert good == [str(number) for number in range(40)]
        assert isinstance(error, RemoteError)
        assert error.attempts == 5
        assert [letter.method for letter in cluster.dead_letters()] == ["stumble"]


async def test_a_domain_error_drops_the_turns_changes_and_the_actor_goes_on_from_before(actor_cluster: ActorCluster) -> None:
    """Nothing durable has changed, nor has what the next turn sees."""
    async with actor_cluster(system) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        await ledger.write("1")
        with pytest.raises(Refused):
            await ledger.write_and_refuse("2")

        assert cluster.state(ledger).entries == ["1"]
        assert await ledger.write("3") == ["1", "3"]


@pytest.mark.parametrize("how", ["refuse", "stumble"])
async def test_a_failed_turn_falls_back_to_turns_whose_commits_are_still_under_way(actor_cluster: ActorCluster, how: str) -> None:
    """The turns before it have ended, and nobody has acknowledged them yet: they must not be lost with it."""
    broken.add("3")
    async with actor_cluster(system, runners=1) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        await ledger.write("0")
        cluster.faults.inject(Delays(request=0.3, reply=0.3), script="commit", times=None)
        third = ledger.write_and_refuse("3") if how == "refuse" else ledger.write_and_stumble("3")
        results = await outcomes(ledger.write("1"), ledger.write("2"), third, ledger.write("4"))

        expected = ["0", "1", "2", "4"] if how == "refuse" else ["0", "1", "2", "3", "4"]
        assert results[3] == expected
        assert cluster.state(ledger).entries == expected


async def test_messages_behind_a_defect_wait_for_it_and_keep_their_order(actor_cluster: ActorCluster) -> None:
    """Later messages may build on it; other actors are not held up."""
    broken.add("2")
    async with actor_cluster(system) as cluster:
        ledger, other = cluster.client.get(Ledger, "a"), cluster.client.get(Ledger, "b")
        calls = [ledger.write("1"), ledger.write_and_stumble("2"), ledger.write("3"), ledger.write("4")]
        results = asyncio.gather(*calls)
        began = cluster.time
        assert await other.write("x") == ["x"]
        assert cluster.time - began < 0.1

        assert (await results)[-1] == ["1", "2", "3", "4"]
        await cluster.settled()
        assert cluster.state(ledger).entries == ["1", "2", "3", "4"]


async def test_messages_behind_a_defect_keep_their_order_across_a_crash(actor_cluster: ActorCluster) -> None:
    """The one that backs off left the shard's stream, and all later ones of its actor with it."""
    broken.update({"1"})
    async with actor_cluster(system) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        await ledger.write_and_stumble.tell("1")
        for name in "2345":
            await ledger.write.tell(name)
        await cluster.kill(cluster.owner_of(ledger))
        await ledger.write.tell("6")
        await cluster.settled()

        assert cluster.state(ledger).entries == list("123456")


async def test_the_state_may_be_replaced_as_a_whole(actor_cluster: ActorCluster) -> None:
    """``self.state = …`` is a change like any."""
    async with actor_cluster(system) as cluster:
        ledger = cluster.client.get(Ledger, "a")
        await ledger.replace(["x", "y"])

        assert cluster.state(ledger).entries == ["x", "y"]
        assert await ledger.write("z") == ["x", "y", "z"]


async def test_a_turn_that_takes_longer_than_its_types_limit_is_cut_off_as_a_defect(actor_cluster: ActorCluster) -> None:
    """Whoever waits behind it is served."""
    other = ActorSystem("turns")
    attempts: list[int] = []

    @other.actor(turn_timeout=1.0, retry=Retry(max_attempts=2))
    class Slow(Actor[Log]):
        @message
        async def hang(self) -> None:
            attempts.append(self.context.attempt)
            self.state.entries.append("half")
            await asyncio.Event().wait()

        @message
        async def entries(self) -> list[str]:
            return self.state.entries

    async with actor_cluster(other) as cluster:
        slow = cluster.client.get(Slow, "a")
        hanging = asyncio.create_task(outcome(slow.hang()))
        began = cluster.time
        await cluster.advance(0.5)
        assert await slow.entries() == []
        assert 2.0 < cluster.time - began < 3.5

        error = await hanging
        assert isinstance(error, RemoteError)
        assert (error.type_name, error.attempts) == ("TimeoutError", 2)
        assert "turn_timeout, 1 s" in error.message
        assert attempts == [1, 2]


async def test_a_handler_that_swallows_its_cancellation_is_cancelled_again(actor_cluster: ActorCluster) -> None:
    """And whatever it returns in the end, nothing of it is committed."""
    other = ActorSystem("turns")

    @other.actor(turn_timeout=1.0, retry=Retry(max_attempts=1))
    class Stubborn(Actor[Log]):
        @message
        async def hang(self) -> str:
            for _ in range(3):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.state.entries.append("no")
            return "done after all"

        @message
        async def entries(self) -> list[str]:
            return self.state.entries

    async with actor_cluster(other) as cluster:
        stubborn = cluster.client.get(Stubborn, "a")
        with pytest.raises(RemoteError, match="turn_timeout"):
            await stubborn.hang()

        assert await stubborn.entries() == []


async def test_a_handler_may_use_timeouts_and_task_groups(actor_cluster: ActorCluster) -> None:
    """It is stepped in place until it first waits, and asyncio must not notice."""
    other = ActorSystem("turns")

    @other.actor
    class Busy(Actor[None]):
        @message
        async def limited(self, seconds: float) -> str:
            try:
                async with asyncio.timeout(0.1):
                    await asyncio.sleep(seconds)
            except TimeoutError:
                return "too slow"
            return "in time"

        @message
        async def grouped(self, count: int) -> list[int]:
            async def one(number: int) -> int:
                await asyncio.sleep(0.01 * (count - number))
                return number

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(number)) for number in range(count)]
            return [task.result() for task in tasks]

        @message
        async def failing_group(self) -> str:
            async def fail() -> None:
                await asyncio.sleep(0.01)
                raise Refused

            result = "?"
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
                    group.create_task(asyncio.sleep(60))
            except* Refused:
                result = "cancelled the other"
            return result

        @message
        async def immediate(self) -> str:
            async with asyncio.timeout(1.0), asyncio.TaskGroup():
                pass
            task = asyncio.current_task()
            assert task is not None
            return task.get_name()

    async with actor_cluster(other) as cluster:
        busy = cluster.client.get(Busy, "a")

        limited = await asyncio.gather(busy.limited(0.01), busy.limited(5.0), busy.limited(0.0))
        assert list(limited) == ["in time", "too slow", "in time"]
        assert await busy.grouped(10) == list(range(10))
        assert await busy.failing_group() == "cancelled the other"
        assert await busy.immediate() == "actor turn"


async def test_a_handler_that_raises_what_is_no_exception_of_an_application_is_a_defect(actor_cluster: ActorCluster) -> None:
    """CancelledError of its own making, StopIteration, GeneratorExit: the runner goes on."""
    other = ActorSystem("turns")
    kinds: dict[str, type[BaseException]] = {
        "cancelled": asyncio.CancelledError,
        "stop": StopIteration,
        "exit": GeneratorExit,
        "group": ValueError,
    }

    @other.actor(retry=Retry(max_attempts=1))
    class Odd(Actor[None]):
        @message
        async def throw(self, kind: str, wait: bool) -> None:  # noqa: FBT001 - a message's arguments are what they are
            if wait:
                await asyncio.sleep(0.01)
            if kind == "group":
                raise ExceptionGroup("several", [ValueError("a"), Refused("b")])
            raise kinds[kind]

        @message
        async def ping(self) -> str:
            return "pong"

    async with actor_cluster(other, runners=1) as cluster:
        odd = cluster.client.get(Odd, "a")
        for kind in kinds:
            for wait in (False, True):
                assert isinstance(await outcome(odd.throw(kind, wait)), RemoteError), (kind, wait)
                assert await odd.ping() == "pong"


async def test_a_handler_blocks_no_thread(actor_cluster: ActorCluster) -> None:
    """Coroutines run on the runner's loop, in its own thread."""
    other = ActorSystem("turns")
    threads: set[int] = set()

    @other.actor
    class Here(Actor[None]):
        @message
        async def where(self) -> None:
            threads.add(threading.get_ident())

    async with actor_cluster(other) as cluster:
        await asyncio.gather(*[cluster.client.get(Here, str(n)).where() for n in range(20)])

        assert threads == {threading.get_ident()}
