"""The test cluster: what its promises are worth."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_type

import msgspec
import pytest

from actors._redis.connection import TcpServer
from actors._redis.faults import CommandFailed
from actors.actor import Actor
from actors.errors import AskTimeout, DomainError
from actors.lifecycle import ServiceFailed
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem
from actors.telemetry.events import HandlerFailed, LeaseExpired, RunnerStarted, ShardAcquired
from actors.testing.cluster import ActorCluster, Leaked, NotSettled, TestCluster, simulate
from actors.testing.faults import DropsReply, Fails

system = ActorSystem("kit")
other_code = ActorSystem("kit")


class CounterState(msgspec.Struct):
    value: int = 0


@dataclass
class TooMuch(DomainError):
    by: int


@system.actor
class Counter(Actor[CounterState]):
    @message
    async def add(self, amount: int) -> int:
        self.state.value += amount
        return self.state.value

    @message
    async def add_slowly(self, amount: int, seconds: float) -> int:
        started.append(self.context.runner_id.name)
        await asyncio.sleep(seconds)
        self.state.value += amount
        ended.append(self.context.runner_id.name)
        return self.state.value

    @message
    async def hang(self) -> None:
        started.append(self.context.runner_id.name)
        await GATE[0].wait()

    @message
    async def refuse(self) -> None:
        raise TooMuch(3)

    @message
    async def fail(self) -> None:
        raise RuntimeError("a mistake")

    @message
    async def pass_on(self, to: str, amount: int, hops: int) -> None:
        if hops:
            await self.client.get(Counter, to).pass_on.tell(self.key, amount, hops - 1)
        else:
            await self.client.get(Counter, to).add.tell(amount)

    @message
    async def wipe(self) -> None:
        self.clear()

    @message
    async def ask(self, other: str) -> int:
        return await self.client.get(Counter, other).add_slowly(1, 1.0)

    @message
    def add_in_thread(self, amount: int) -> int:
        self.state.value += amount
        return self.state.value

    @message(read_only=True)
    async def seen(self) -> str | None:
        return VARIABLE.get()

    @message(read_only=True)
    async def peek(self) -> int:
        self.state.value += 1
        return self.state.value


@other_code.actor(name="Counter")
class NewCounter(Actor[CounterState]):
    @message
    async def add(self, amount: int) -> int:
        self.state.value += amount
        return self.state.value

    @message
    async def double(self) -> int:
        self.state.value *= 2
        return self.state.value


started: list[str] = []
ended: list[str] = []
GATE: list[asyncio.Event] = []
VARIABLE: contextvars.ContextVar[str | None] = contextvars.ContextVar("variable", default=None)


@pytest.fixture(autouse=True)
def told() -> Iterator[None]:
    """Every test starts with nothing told."""
    started.clear()
    ended.clear()
    GATE.clear()
    yield
    GATE.clear()


# ---------------------------------------------------------------------------------------
# What is there


async def test_the_runners_share_the_shards_when_it_begins(actor_cluster: ActorCluster) -> None:
    """So that a test may ask at once who owns what."""
    async with actor_cluster(system, runners=3) as cluster:
        assert cluster.runners == ["runner-1", "runner-2", "runner-3"]
        assert sorted(len(cluster.runner(name).host.held_shards()) for name in cluster.runners) == [5, 5, 6]


async def test_it_is_up_in_no_time_of_its_own(actor_cluster: ActorCluster) -> None:
    """Its time begins when it is ready."""
    async with actor_cluster(system) as cluster:
        assert cluster.time == 0.0
        await cluster.advance(2.5)
        assert cluster.time == 2.5


async def test_thirty_seconds_of_two_runners_take_less_than_half_a_second(actor_cluster: ActorCluster) -> None:
    """Or nobody would write such tests. It takes about a tenth of that."""
    async with actor_cluster(system) as cluster:
        began = time.perf_counter()
        await cluster.advance(30)

        assert time.perf_counter() - began < 0.5


async def test_the_state_is_what_is_stored(actor_cluster: ActorCluster) -> None:
    """Decoded, past any runner; a fresh one where nothing was ever stored, or not any more."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        assert (cluster.state(counter), cluster.is_stored(counter)) == (CounterState(0), False)

        assert_type(cluster.state(counter), CounterState)
        await counter.add(3)
        assert (cluster.state(counter), cluster.is_stored(counter)) == (CounterState(3), True)

        await counter.wipe()
        assert not cluster.is_stored(counter)


async def test_what_was_set_aside_can_be_looked_at(actor_cluster: ActorCluster) -> None:
    """With the reason, and the message in full."""
    async with actor_cluster(system) as cluster:
        await cluster.client.get(Counter, "a").fail.tell()
        await cluster.settled()

        (letter,) = cluster.dead_letters()
        assert (letter.reason, letter.attempts, letter.actor_type, letter.key, letter.method) == ("attempts", 5, "Counter", "a", "fail")
        assert "a mistake" in letter.error
        assert sum(isinstance(told.event, HandlerFailed) for told in cluster.events) == 5


async def test_runners_know_nothing_of_the_tests_context(actor_cluster: ActorCluster) -> None:
    """They stand for processes of their own."""
    VARIABLE.set("the test's")
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Counter, "a").seen() is None


async def test_several_clients(actor_cluster: ActorCluster) -> None:
    """Each is a sender of its own, and can be cut off by itself."""
    async with actor_cluster(system) as cluster, cluster.connect("shop") as shop:
        await cluster.partition("client")
        assert await shop.get(Counter, "a").add(1) == 1
        with pytest.raises(AskTimeout):
            await cluster.client.get(Counter, "a").add.options(timeout=1.0)(1)
        await cluster.heal("client")
        await cluster.advance(10)
        assert await cluster.client.get(Counter, "a").add(1) == 2


async def test_a_read_only_turn_that_changes_something_is_found_out(actor_cluster: ActorCluster) -> None:
    """The kit's runners look, where production's do not."""
    async with actor_cluster(system) as cluster:
        await cluster.client.get(Counter, "a").peek.tell()
        await cluster.settled()

        assert "read_only" in cluster.dead_letters()[0].error


# ---------------------------------------------------------------------------------------
# Settled


async def test_settled_waits_for_what_messages_send(actor_cluster: ActorCluster) -> None:
    """And for what those send in turn."""
    async with actor_cluster(system) as cluster:
        a, b = cluster.client.get(Counter, "a"), cluster.client.get(Counter, "b")
        await a.pass_on.tell("b", 5, 20)
        await cluster.settled()

        assert cluster.state(a).value + cluster.state(b).value == 5


async def test_settled_waits_for_sends_that_nobody_has_awaited_yet(actor_cluster: ActorCluster) -> None:
    """A task just made counts as having sent."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        telling = asyncio.create_task(counter.add.tell(5))
        await cluster.settled()

        assert cluster.state(counter).value == 5
        await telling


async def test_settled_waits_for_retries(actor_cluster: ActorCluster) -> None:
    """Also for those behind the message that is tried again."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.fail.tell()
        await counter.add.tell(5)
        await cluster.settled()

        assert len(cluster.dead_letters()) == 1
        assert cluster.state(counter).value == 5


async def test_settled_waits_for_a_takeover(actor_cluster: ActorCluster) -> None:
    """What lies in a dead runner's shard is handled by the next."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        await cluster.kill(cluster.owner_of(counter))
        await counter.add.tell(5)
        await cluster.settled()

        assert cluster.state(counter).value == 5
        assert 9.0 < cluster.time <= 12.0


async def test_settled_does_not_wait_for_delayed_messages(actor_cluster: ActorCluster) -> None:
    """They count when they are due."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.add.options(after=60.0).tell(5)
        await cluster.settled()
        assert (cluster.state(counter).value, cluster.time < 1.0) == (0, True)

        await cluster.advance(60)
        await cluster.settled()
        assert cluster.state(counter).value == 5


async def test_settled_gives_up_and_names_what_waits(actor_cluster: ActorCluster) -> None:
    """A test that hangs says why."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        GATE.append(asyncio.Event())
        await counter.hang.tell()
        await counter.add.tell(1)
        with pytest.raises(NotSettled) as caught:
            await cluster.settled(within=5.0)
        GATE[0].set()
        await cluster.settled()

    assert "after 5.0 s" in str(caught.value)
    assert "Counter/a.hang runs on" in str(caught.value)
    assert "1 messages of Counter/a wait, add first" in str(caught.value)


async def test_settled_says_so_when_nobody_is_left(actor_cluster: ActorCluster) -> None:
    """The shard's last owner is named."""
    async with actor_cluster(system, runners=1) as cluster:
        await cluster.kill("runner-1")
        await cluster.client.get(Counter, "a").add.tell(1)
        with pytest.raises(NotSettled, match=r"it is runner-1's, which is dead\n  Counter/a.add in mailbox"):
            await cluster.settled(within=20.0)


# ---------------------------------------------------------------------------------------
# Kill, pause, partition, join, leave


async def test_a_killed_runner_says_nothing_more(actor_cluster: ActorCluster) -> None:
    """No release, no goodbye: its records stand and its lease lives on until it runs out."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.add(1)
        owner = cluster.owner_of(counter)
        record = cluster.execute("HGET", cluster.keys.own, cluster.shard_of(counter).label)
        began = cluster.time
        await cluster.kill(owner)

        assert cluster.time == began
        assert cluster.execute("HGET", cluster.keys.own, cluster.shard_of(counter).label) == record
        assert cluster.owner_of(counter) == owner
        assert owner not in cluster.runners

        await cluster.advance(12.0)
        assert cluster.owner_of(counter) in cluster.runners
        assert await counter.add(1) == 2


async def test_a_turn_dies_with_its_runner_and_runs_again(actor_cluster: ActorCluster) -> None:
    """Its effect stands once."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        owner = cluster.owner_of(counter)
        asking = asyncio.create_task(counter.add_slowly(1, 2.0))
        await cluster.advance(1.0)
        await cluster.kill(owner)

        assert await asking == 1
        assert (started, ended) == ([owner, cluster.owner_of(counter)], [cluster.owner_of(counter)])


async def test_a_paused_runner_wakes_up_as_somebody_who_was_replaced(actor_cluster: ActorCluster) -> None:
    """It goes on in the middle of its turn, and nothing of that turn becomes real."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        old = cluster.owner_of(counter)
        asking = asyncio.create_task(counter.add_slowly(1, 2.0))
        await cluster.advance(1.0)
        await cluster.pause(old)
        await cluster.advance(14.0)
        new = cluster.owner_of(counter)
        assert (new != old, started, ended) == (True, [old, new], [new])

        await cluster.resume(old)
        assert await asking == 1
        await cluster.advance(0.1)
        assert ended == [new, old]
        assert cluster.state(counter).value == 1
        assert any(isinstance(told.event, LeaseExpired) for told in cluster.events if told.runner == old)
        await cluster.balanced()
        assert await counter.add(1) == 2


async def test_a_short_pause_loses_nothing(actor_cluster: ActorCluster) -> None:
    """The lease still stood: everything goes on, late."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        owner = cluster.owner_of(counter)
        await cluster.pause(owner)
        asking = asyncio.create_task(counter.add(1))
        await cluster.advance(4.0)
        assert not asking.done()
        await cluster.resume(owner)

        assert await asking == 1
        assert cluster.owner_of(counter) == owner


async def test_a_runner_that_is_cut_off_stops_by_its_own_clock(actor_cluster: ActorCluster) -> None:
    """Before the others may take its shards; on its return it takes part again."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        owner = cluster.owner_of(counter)
        await cluster.partition(owner)
        assert await counter.add(1) == 1
        stopped = next(told.time for told in cluster.events if isinstance(told.event, LeaseExpired))
        taken = next(told.time for told in cluster.events if isinstance(told.event, ShardAcquired) and told.time > 0)
        assert stopped < taken <= 12.0

        await cluster.heal(owner)
        await cluster.balanced()
        assert len(cluster.runner(owner).host.held_shards()) == 8


async def test_a_stopped_runner_hands_everything_over(actor_cluster: ActorCluster) -> None:
    """Nothing waits for a lease."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        asking = asyncio.create_task(counter.add_slowly(1, 2.0))
        await cluster.advance(1.0)
        await cluster.stop(cluster.owner_of(counter))
        await cluster.balanced()

        assert await asking == 1
        assert cluster.time == pytest.approx(2.0, abs=0.1)
        assert len(started) == 1


async def test_a_runner_joins_and_gets_its_share(actor_cluster: ActorCluster) -> None:
    """Under the next free name, or the one given."""
    async with actor_cluster(system, runners=1) as cluster:
        assert await cluster.start() == "runner-2"
        assert await cluster.start("zoe") == "zoe"
        await cluster.balanced()

        assert sorted(len(cluster.runner(name).host.held_shards()) for name in cluster.runners) == [5, 5, 6]


async def test_a_killed_runners_name_can_be_taken_again(actor_cluster: ActorCluster) -> None:
    """As a new incarnation, after one renewal interval without a sign of the old one."""
    async with actor_cluster(system) as cluster:
        old = cluster.runner("runner-1").id
        await cluster.kill("runner-1")
        await cluster.start("runner-1")

        assert cluster.runner("runner-1").id.incarnation != old.incarnation


async def test_a_shard_can_be_handed_to_a_runner_by_name(actor_cluster: ActorCluster) -> None:
    """Its running turn ends first."""
    async with actor_cluster(system, runners=3) as cluster:
        counter = cluster.client.get(Counter, "a")
        asking = asyncio.create_task(counter.add_slowly(1, 2.0))
        await cluster.advance(0.5)
        target = next(name for name in cluster.runners if name != cluster.owner_of(counter))

        assert await cluster.handoff(counter, to=target) == target
        assert cluster.owner_of(counter) == target
        assert cluster.time == pytest.approx(2.0, abs=0.3)
        assert await asking == 1
        assert await cluster.handoff(counter) != target


async def test_two_versions_of_the_code_side_by_side(actor_cluster: ActorCluster) -> None:
    """A rolling deploy: the new runner has one more message."""
    async with actor_cluster(system, runners=1) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.add(4)
        await cluster.start("new", system=other_code)
        await cluster.stop("runner-1")

        newer = cluster.client.get(NewCounter, "a")
        assert await newer.double() == 8


async def test_a_name_that_is_nobodys_is_refused(actor_cluster: ActorCluster) -> None:
    """A typing mistake is no silent success."""
    async with actor_cluster(system) as cluster:
        for act in (cluster.kill, cluster.stop, cluster.pause, cluster.resume, cluster.partition):
            with pytest.raises(LookupError, match="no runner runner-7"):
                await act("runner-7")
        with pytest.raises(ValueError, match="is taken"):
            await cluster.start("runner-1")


async def test_faults_are_aimed_by_name(actor_cluster: ActorCluster) -> None:
    """Here: the answer to one commit is lost, which must not double it."""
    async with actor_cluster(system) as cluster:
        counter = cluster.client.get(Counter, "a")
        fault = cluster.faults.inject(DropsReply(), owner=cluster.owner_of(counter), script="commit")

        assert await counter.add(1) == 1
        assert await counter.add(1) == 2
        assert fault.hits == 1


# ---------------------------------------------------------------------------------------
# The end


async def test_a_call_without_an_outcome_is_a_leak(actor_cluster: ActorCluster) -> None:
    """The test has forgotten to await it."""
    calls: list[asyncio.Task[object]] = []
    with pytest.raises(Leaked, match="1 calls without an outcome"):
        async with actor_cluster(system) as cluster:
            calls.append(asyncio.create_task(cluster.client.get(Counter, "a").add_slowly(1, 100.0)))
            await cluster.advance(1.0)
    await asyncio.gather(*calls, return_exceptions=True)


async def test_nothing_is_left_of_many_clusters(actor_cluster: ActorCluster) -> None:
    """Tasks and connections are back to where they were, whatever was done to the runners."""
    tasks = len(asyncio.all_tasks())
    for end in ("kill", "stop", "pause", "partition", ""):
        async with actor_cluster(system) as cluster:
            counter = cluster.client.get(Counter, "a")
            await asyncio.gather(*[cluster.client.get(Counter, str(i)).add(1) for i in range(20)])
            await counter.add_in_thread(1)
            if end:
                await getattr(cluster, end)(cluster.owner_of(counter))
            server = cluster.server
        assert server.connections == []
    await asyncio.sleep(0)

    assert len(asyncio.all_tasks()) == tasks


async def test_a_cluster_that_has_ended_keeps_nothing_of_its_runners(actor_cluster: ActorCluster) -> None:
    """A session of a thousand tests holds no more than one of ten."""
    async with actor_cluster(system) as cluster:
        for key in "abc":
            await cluster.client.get(Counter, key).add(1)
        kept = [weakref.ref(cluster.runner(name)) for name in cluster.runners]
        await cluster.kill("runner-1")
    await asyncio.sleep(0)
    gc.collect()

    assert [each() for each in kept] == [None, None]


async def test_the_tests_own_error_is_what_is_told(actor_cluster: ActorCluster) -> None:
    """However much was under way."""
    calls: list[asyncio.Task[object]] = []
    with pytest.raises(ZeroDivisionError):
        async with actor_cluster(system) as cluster:
            calls.append(asyncio.create_task(cluster.client.get(Counter, "a").add_slowly(1, 100.0)))
            await cluster.advance(1.0)
            raise ZeroDivisionError
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_runner_that_fails_by_itself_fails_the_test(actor_cluster: ActorCluster) -> None:
    """Its defects are not taken for a crash that the others make up for."""
    with pytest.raises(ServiceFailed, match="placement"):
        async with actor_cluster(system) as cluster:
            cluster.faults.inject(Fails(CommandFailed("ERR broken")), owner="runner-1", purpose="placement", times=None)
            await cluster.advance(20.0)
            await cluster.settled()


async def test_a_runner_that_does_not_fit_is_refused_at_its_start(actor_cluster: ActorCluster) -> None:
    """And the rest goes on."""
    async with actor_cluster(system) as cluster:
        with pytest.raises(Exception, match="shards"):
            await cluster.start("odd", settings=Settings(shards=17))
        assert cluster.runners == ["runner-1", "runner-2"]
        assert await cluster.client.get(Counter, "a").add(1) == 1


# ---------------------------------------------------------------------------------------
# Seeds, and other loops


def test_a_seed_replays_everything() -> None:
    """Ids, backoffs, the order of events, to the last digit."""

    async def run() -> list[str]:
        async with TestCluster(system, seed=7) as cluster:
            counter = cluster.client.get(Counter, "a")
            await counter.fail.tell()
            await cluster.kill(cluster.owner_of(counter))
            await cluster.settled()
            return [str(told) for told in cluster.events if not isinstance(told.event, HandlerFailed)]

    first = simulate(run())

    assert len(first) > 10
    assert simulate(run()) == first


def test_another_seed_is_another_run() -> None:
    """Or it would not be worth having one."""

    async def incarnations(seed: int) -> list[str]:
        async with TestCluster(system, seed=seed) as cluster:
            return [told.event.incarnation for told in cluster.events if isinstance(told.event, RunnerStarted)]

    assert simulate(incarnations(1)) != simulate(incarnations(2))


def test_it_says_so_on_an_ordinary_loop() -> None:
    """Where time cannot be virtual."""

    async def enter() -> None:
        async with TestCluster(system):
            pass

    with pytest.raises(TypeError, match="virtual event loop"):
        asyncio.run(enter())


# ---------------------------------------------------------------------------------------
# A real server


@pytest.mark.server
@pytest.mark.slow
async def test_the_same_on_a_real_server(actor_cluster: ActorCluster, redis_url: str) -> None:
    """In real time: a pause past the lease, a partition, a kill; and nothing is left in Redis."""
    async with actor_cluster(system, url=redis_url, settings=Settings(lease=2.0)) as cluster:
        counter = cluster.client.get(Counter, "a")
        old = cluster.owner_of(counter)
        asking = asyncio.create_task(counter.add_slowly(1, 0.5))
        await cluster.advance(0.2)
        await cluster.pause(old)
        assert await asking == 1
        assert ended == [cluster.owner_of(counter)] != [old]
        await cluster.resume(old)
        await cluster.advance(0.2)
        assert cluster.state(counter).value == 1

        await cluster.balanced()
        cut = cluster.owner_of(counter)
        await cluster.partition(cut)
        assert await counter.add(1) == 2
        await cluster.heal(cut)
        await cluster.balanced()

        await cluster.kill(cluster.owner_of(counter))
        await counter.pass_on.tell("b", 3, 4)
        await cluster.settled()
        assert sum(cluster.state(cluster.client.get(Counter, key)).value for key in "ab") == 5
        ours = [cluster.keys.tag + ":*"]
        assert len(cluster.execute("KEYS", *ours)) > 10

    looking = TcpServer.from_url(redis_url).connect_sync("look", timeout=5.0)
    assert looking.execute("KEYS", *ours) == []
    looking.close()
