"""An actor's life in memory: from its first message, through its hooks, to its deactivation."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors.actor import Actor
from actors.errors import ActivationFailed, AskTimeout, DomainError
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from actors.telemetry import events
from actors.testing.faults import Delays
from tests.actors.outcomes import outcome, outcomes

if TYPE_CHECKING:
    from actors.testing import ActorCluster, TestCluster

system = ActorSystem("life")
noted: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _forget() -> None:
    noted.clear()
    broken.clear()


class Count(msgspec.Struct):
    value: int = 0
    activations: int = 0
    deactivations: int = 0


class Refused(DomainError):
    pass


class Noting(Actor[Count]):
    """Notes what happens to it, and fails in its hooks while its key is in ``broken``."""

    async def on_activate(self) -> None:
        self.state.activations += 1
        noted.append(f"activate {self.key}")
        if f"raise {self.key}" in broken:
            raise ConnectionError("the sensor is off")
        if f"refuse {self.key}" in broken:
            raise Refused("not today")
        if f"hang {self.key}" in broken:
            await asyncio.Event().wait()

    async def on_deactivate(self, reason: str) -> None:
        self.state.deactivations += 1
        noted.append(f"deactivate {self.key} {reason}")
        if f"raise at the end {self.key}" in broken:
            raise ConnectionError("the sensor is off")
        if f"hang at the end {self.key}" in broken:
            await asyncio.Event().wait()

    @message
    async def add(self, amount: int) -> int:
        noted.append(f"add {self.key}")
        self.state.value += amount
        return self.state.value

    @message
    async def fail(self) -> None:
        raise Refused("never")

    @message
    async def crash(self) -> int:
        if "crash" in broken:
            broken.discard("crash")
            raise ValueError("a defect")
        return self.state.activations

    @message
    async def leave(self) -> None:
        self.deactivate()

    @message
    async def stay(self, on: bool) -> None:  # noqa: FBT001 - a message's arguments are what they are
        self.keep_alive(on)

    @message(read_only=True)
    async def look(self) -> Count:
        return self.state

    @message
    async def linger(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        noted.append(f"lingered {self.key}")


@system.actor
class Thing(Noting):
    pass


@system.actor(idle_timeout=5.0)
class Brief(Noting):
    pass


@system.actor
class Plain(Actor[Count]):
    """One without hooks."""

    @message
    async def add(self, amount: int) -> int:
        self.state.value += amount
        return self.state.value


@system.actor
class Asking(Actor[None]):
    @message(retry=Retry(max_attempts=1))
    async def add(self, key: str) -> int:
        return await self.client.get(Thing, key).add(1)


@system.actor
class Greeter(Actor[Count]):
    """Tells the actor called ``log`` when it comes up."""

    async def on_activate(self) -> None:
        if self.key != "log":
            self.state.activations += 1
            await self.client.get(Greeter, "log").note.tell()

    @message
    async def note(self) -> None:
        self.state.value += 1

    @message(read_only=True)
    async def look(self) -> int:
        return self.state.value

    @message
    async def crash_once(self) -> int:
        if "greeter" in broken:
            broken.discard("greeter")
            raise ValueError("a defect")
        return self.state.activations


def resident(cluster: TestCluster) -> int:
    return sum(cluster.runner(name).statistics().resident for name in cluster.runners)


# the first message


async def test_the_first_message_to_a_key_nobody_knows_activates_it(actor_cluster: ActorCluster) -> None:
    """An actor always exists: there is nothing to create first."""
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "new")

        assert await thing.add(3) == 3
        assert noted == ["activate new", "add new"]
        assert (await thing.look()).activations == 1


async def test_a_ref_costs_nothing_until_it_is_used(actor_cluster: ActorCluster) -> None:
    """Getting one does no I/O and activates nobody."""
    async with actor_cluster(system) as cluster:
        sent = cluster.client.sending.commands_sent
        for number in range(100):
            cluster.client.get(Thing, str(number))

        assert cluster.client.sending.commands_sent == sent
        assert noted == []
        assert resident(cluster) == 0


async def test_callers_who_meet_at_cold_keys_activate_each_once(actor_cluster: ActorCluster) -> None:
    """100 callers at 10 keys, from two clients: 10 activations, and every call is served."""
    async with actor_cluster(system) as cluster, cluster.connect() as other:
        clients = [cluster.client, other]
        results = await asyncio.gather(*[clients[i % 2].get(Thing, f"cold-{i % 10}").add(1) for i in range(100)])

        assert Counter(note for note in noted if note.startswith("activate")) == {f"activate cold-{i}": 1 for i in range(10)}
        assert sorted(results) == sorted(list(range(1, 11)) * 10)


# on_activate


async def test_changes_made_in_on_activate_commit_with_the_first_turn_though_it_only_reads(actor_cluster: ActorCluster) -> None:
    """A hook that sends something once and remembers it in the state must not have done one without the other."""
    async with actor_cluster(system) as cluster:
        greeter = cluster.client.get(Greeter, "a")
        await greeter.look()
        await cluster.settled()

        assert cluster.state(greeter).activations == 1
        assert cluster.state(cluster.client.get(Greeter, "log")).value == 1


async def test_a_first_turn_that_fails_keeps_what_on_activate_did_for_the_next(actor_cluster: ActorCluster) -> None:
    """The hook ran once for this activation; its changes leave with the first turn that commits."""
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "a")
        with pytest.raises(Refused):
            await thing.fail()
        assert not cluster.is_stored(thing)

        await thing.add(1)
        assert cluster.state(thing) == Count(value=1, activations=1)
        assert noted == ["activate a", "add a"]


async def test_a_first_turn_that_is_run_again_has_the_effects_of_one_activation(actor_cluster: ActorCluster) -> None:
    """A defect discards the instance; the hook's second run must not come on top of the first's."""
    broken.add("greeter")
    async with actor_cluster(system) as cluster:
        greeter = cluster.client.get(Greeter, "a")

        assert await greeter.crash_once() == 1
        await cluster.settled()
        assert cluster.state(greeter).activations == 1
        assert cluster.state(cluster.client.get(Greeter, "log")).value == 1


async def test_on_activate_that_raises_fails_its_caller_and_the_next_call_tries_again(actor_cluster: ActorCluster) -> None:
    """The caller learns why, also through another actor; nothing half-alive is left behind."""
    broken.add("raise a")
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "a")
        with pytest.raises(ActivationFailed, match="the sensor is off") as failed:
            await thing.add(1)
        assert (failed.value.type_name, failed.value.key, failed.value.retryable) == ("ConnectionError", "a", True)
        with pytest.raises(ActivationFailed, match="the sensor is off"):
            await cluster.client.get(Asking, "x").add("a")
        assert not cluster.is_stored(thing)
        assert "add a" not in noted

        broken.clear()
        assert await thing.add(1) == 1
        assert cluster.state(thing).activations == 1


async def test_a_domain_error_from_on_activate_is_a_failed_activation(actor_cluster: ActorCluster) -> None:
    """The message was not even looked at, so it is not its answer."""
    broken.add("refuse a")
    async with actor_cluster(system) as cluster:
        with pytest.raises(ActivationFailed, match="not today") as failed:
            await cluster.client.get(Thing, "a").add(1)

        assert failed.value.type_name == "Refused"


@pytest.mark.parametrize("how", ["raise", "refuse"])
async def test_a_tell_waits_until_its_actor_can_be_activated(actor_cluster: ActorCluster, how: str) -> None:
    """It was acknowledged, and nobody waits who could try again; whatever the hook raised."""
    broken.add(f"{how} a")
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "a")
        await thing.add.tell(1)
        await cluster.advance(0.3)
        assert noted.count("activate a") >= 2

        broken.clear()
        await cluster.settled()
        assert cluster.state(thing) == Count(value=1, activations=1)
        assert cluster.dead_letters() == []


async def test_a_tell_whose_actor_never_comes_up_is_dead_lettered(actor_cluster: ActorCluster) -> None:
    """After as many attempts as a defect gets; those behind it have theirs."""
    broken.add("raise a")
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "a")
        await thing.add.tell(1)
        await cluster.settled()
        (letter,) = cluster.dead_letters()
        assert (letter.reason, letter.attempts, letter.key) == ("activation", 5, "a")
        assert "the sensor is off" in letter.error

        broken.clear()
        assert await thing.add(1) == 1


async def test_a_message_read_while_a_failed_activation_is_answered_tries_again(actor_cluster: ActorCluster) -> None:
    """The answer's commit is under way: the actor must not be forgotten when it ends."""
    broken.add("raise a")
    async with actor_cluster(system, runners=1) as cluster:
        thing = cluster.client.get(Thing, "a")
        commits = cluster.faults.inject(Delays(reply=0.5), script="commit")
        failed = asyncio.create_task(outcome(thing.add(1)))
        while not commits.hits:
            await cluster.advance(0.001)
        broken.clear()

        assert await thing.add.options(timeout=5.0)(2) == 2
        assert isinstance(await failed, ActivationFailed)


async def test_an_activation_that_never_returns_is_cut_off(actor_cluster: ActorCluster) -> None:
    """At activation_timeout, not at the caller's deadline; and the key works once the cause is gone."""
    broken.add("hang a")
    async with actor_cluster(system, settings=Settings(activation_timeout=3.0)) as cluster:
        thing = cluster.client.get(Thing, "a")
        began = cluster.time
        with pytest.raises(ActivationFailed, match="activation_timeout, 3 s"):
            await thing.add(1)
        assert cluster.time - began == pytest.approx(3.0, abs=0.2)

        broken.clear()
        assert await thing.add(1) == 1


async def test_an_on_activate_that_leaves_something_unencodable_fails_that_activation_only(actor_cluster: ActorCluster) -> None:
    """The runner goes on, and so do the actors that were loaded in the same stretch."""
    other = ActorSystem("life")

    @other.actor
    class Odd(Actor[Count]):
        async def on_activate(self) -> None:
            if self.key == "odd":
                self.state.value = object()  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]

        @message
        async def ping(self) -> str:
            return self.key

    async with actor_cluster(other, runners=1) as cluster:
        get = cluster.client.get
        results = await outcomes(*[get(Odd, key).ping() for key in ("a", "odd", "b")])

        assert (results[0], results[2]) == ("a", "b")
        assert isinstance(results[1], ActivationFailed)
        assert await get(Odd, "c").ping() == "c"


# deactivation


async def test_a_deactivated_actor_comes_back_with_its_committed_state(actor_cluster: ActorCluster) -> None:
    """What an activation leaves behind is all the next one starts from, changes made in the hooks included."""
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "a")
        await thing.add(5)
        await thing.leave()
        await cluster.settled()

        assert resident(cluster) == 0
        assert cluster.state(thing) == Count(value=5, activations=1, deactivations=1)
        assert await thing.add(1) == 6
        assert noted == ["activate a", "add a", "deactivate a requested", "activate a", "add a"]


async def test_an_idle_actor_is_deactivated_after_its_types_timeout(actor_cluster: ActorCluster) -> None:
    """And one of another type, whose time is longer, stays."""
    async with actor_cluster(system) as cluster:
        await cluster.client.get(Brief, "a").add(1)
        await cluster.client.get(Thing, "b").add(1)
        await cluster.advance(4.0)
        assert resident(cluster) == 2

        await cluster.advance(3.0)
        assert noted[-1] == "deactivate a idle"
        assert resident(cluster) == 1
        await cluster.advance(300.0)
        assert resident(cluster) == 0


async def test_a_busy_actor_is_never_idle(actor_cluster: ActorCluster) -> None:
    """A long handler is not idle, and each message starts the time anew."""
    async with actor_cluster(system) as cluster:
        lingering = asyncio.create_task(cluster.client.get(Brief, "slow").linger(20.0))
        for _ in range(10):
            await cluster.client.get(Brief, "busy").add(1)
            await cluster.advance(2.0)
        await lingering

        assert [note for note in noted if note.startswith("deactivate")] == []


async def test_keep_alive_holds_an_idle_actor_until_it_is_taken_back(actor_cluster: ActorCluster) -> None:
    """For what is dear to bring up."""
    async with actor_cluster(system, settings=Settings(resident_limit=2)) as cluster:
        await cluster.client.get(Brief, "a").stay(True)
        for number in range(50):
            await cluster.client.get(Thing, str(number)).add(1)
        await cluster.advance(60.0)
        assert "deactivate a idle" not in noted
        assert "deactivate a evicted" not in noted

        await cluster.client.get(Brief, "a").stay(False)
        await cluster.advance(7.0)
        assert noted[-1] == "deactivate a idle"


async def test_past_the_resident_limit_the_least_recently_used_go(actor_cluster: ActorCluster) -> None:
    """With their last turn and their state; those in use stay."""
    async with actor_cluster(system, runners=1, settings=Settings(resident_limit=20)) as cluster:
        for number in range(30):
            await cluster.client.get(Thing, str(number)).add(number)
            await cluster.advance(0.5)
        await cluster.advance(3.0)

        assert resident(cluster) <= 20
        gone = [note.split()[1] for note in noted if note.startswith("deactivate")]
        assert gone == [str(number) for number in range(len(gone))]
        assert await cluster.client.get(Thing, "0").add(1) == 1


async def test_increments_survive_being_deactivated_again_and_again(actor_cluster: ActorCluster) -> None:
    """100 concurrent callers while the actor leaves after every few: all are served, none twice."""
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "a")
        calls = [thing.add(1) if number % 4 else thing.leave() for number in range(134)]
        results = await asyncio.gather(*calls)
        await cluster.settled()

        assert sorted(result for result in results if result is not None) == list(range(1, 101))
        assert cluster.state(thing).value == 100
        state = cluster.state(thing)
        assert (state.activations, state.deactivations) == (noted.count("activate a"), noted.count("deactivate a requested"))
        assert state.deactivations > 5


async def test_on_deactivate_that_hangs_is_abandoned_at_its_timeout(actor_cluster: ActorCluster) -> None:
    """Messages that came meanwhile run on the next activation."""
    broken.add("hang at the end a")
    async with actor_cluster(system, runners=1, settings=Settings(activation_timeout=2.0)) as cluster:
        thing = cluster.client.get(Thing, "a")
        await thing.add(1)
        await thing.leave()
        began = cluster.time
        assert await thing.add(1) == 2
        assert cluster.time - began == pytest.approx(2.0, abs=0.2)

        assert noted[-3:] == ["deactivate a requested", "activate a", "add a"]
        assert cluster.state(thing).deactivations == 0
        assert any(isinstance(told.event, events.DeactivationFailed) for told in cluster.events)


async def test_on_deactivate_that_raises_leaves_the_state_as_the_last_turn_did(actor_cluster: ActorCluster) -> None:
    """It is told, and the key goes on working."""
    broken.add("raise at the end a")
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "a")
        await thing.add(1)
        await thing.leave()
        await cluster.settled()

        assert cluster.state(thing) == Count(value=1, activations=1)
        assert [told.event.error for told in cluster.events if isinstance(told.event, events.DeactivationFailed)] == [
            "ConnectionError: the sensor is off"
        ]
        assert await thing.add(1) == 2


async def test_on_deactivate_that_leaves_something_unencodable_does_not_hold_the_actor(actor_cluster: ActorCluster) -> None:
    """The last turn is dropped, and the next activation starts from the one before."""
    other = ActorSystem("life")

    @other.actor
    class Odd(Actor[Count]):
        async def on_deactivate(self, reason: str) -> None:
            self.state.value = object()  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]

        @message
        async def add(self) -> int:
            self.state.value += 1
            self.deactivate()
            return self.state.value

    async with actor_cluster(other) as cluster:
        odd = cluster.client.get(Odd, "odd")

        assert [await odd.add() for _ in range(3)] == [1, 2, 3]


async def test_what_on_deactivate_sends_leaves_with_its_commit(actor_cluster: ActorCluster) -> None:
    """It is a last turn, like any."""
    other = ActorSystem("life")

    @other.actor
    class Parting(Actor[Count]):
        async def on_deactivate(self, reason: str) -> None:
            if self.key != "log":
                await self.client.get(Parting, "log").note.tell(reason)

        @message
        async def go(self) -> None:
            self.deactivate()

        @message
        async def note(self, reason: str) -> None:
            noted.append(reason)

    async with actor_cluster(other) as cluster:
        await cluster.client.get(Parting, "a").go()
        await cluster.settled()

        assert noted == ["requested"]


async def test_on_deactivate_sees_commits_that_are_still_under_way(actor_cluster: ActorCluster) -> None:
    """The last turn comes after those whose commit nobody has acknowledged yet, and all of them stand."""
    async with actor_cluster(system, runners=1) as cluster:
        thing = cluster.client.get(Thing, "a")
        await thing.add(1)
        cluster.faults.inject(Delays(request=0.2, reply=0.2), script="commit", times=None)
        await cluster.client.send(thing.add.message(1), thing.add.message(1), thing.leave.message(), thing.add.message(1))
        await cluster.settled()

        assert cluster.state(thing) == Count(value=4, activations=2, deactivations=1)


async def test_a_handoff_deactivates_and_a_crash_does_not(actor_cluster: ActorCluster) -> None:
    """on_deactivate is a courtesy of an orderly end."""
    async with actor_cluster(system) as cluster:
        thing = cluster.client.get(Thing, "a")
        await thing.add(1)
        await cluster.handoff(thing)
        assert noted == ["activate a", "add a", "deactivate a moved"]

        assert await thing.add(1) == 2
        await cluster.kill(cluster.owner_of(thing))
        assert await thing.add(1) == 3
        assert noted.count("deactivate a moved") == 1
        assert cluster.state(thing) == Count(value=3, activations=3, deactivations=1)


# nothing stays


async def test_nothing_stays_of_actors_that_were_called_and_collected(actor_cluster: ActorCluster) -> None:
    """A thousand of them: tasks, connections and memory's counts are back to where they were."""
    async with actor_cluster(system, settings=Settings(idle_timeout=5.0)) as cluster:
        await asyncio.gather(*[cluster.client.get(Plain, f"first {number}").add(1) for number in range(20)])
        await cluster.advance(10.0)
        tasks, connections = len(asyncio.all_tasks()), len(cluster.server.connections)
        await asyncio.gather(*[cluster.client.get(Plain, str(number)).add(1) for number in range(1000)])
        await cluster.advance(10.0)

        assert resident(cluster) == 0
        assert len(asyncio.all_tasks()) == tasks
        assert len(cluster.server.connections) == connections
        assert cluster.client.calls.pending == 0
        assert all(cluster.runner(name).statistics().suspended == 0 for name in cluster.runners)


async def test_nothing_stays_of_actors_that_could_not_be_activated(actor_cluster: ActorCluster) -> None:
    """A failed activation is not a resident actor for ever."""
    async with actor_cluster(system, settings=Settings(idle_timeout=5.0)) as cluster:
        for number in range(50):
            broken.add(f"raise {number}")
            with pytest.raises(ActivationFailed):
                await cluster.client.get(Thing, str(number)).add(1)
        await cluster.advance(10.0)

        assert resident(cluster) == 0


async def test_nothing_stays_of_an_actor_whose_messages_expired_before_it_came_up(actor_cluster: ActorCluster) -> None:
    """Nobody waits for it any more when it does."""
    broken.add("hang a")
    async with actor_cluster(system, settings=Settings(idle_timeout=5.0)) as cluster:
        with pytest.raises(AskTimeout):
            await cluster.client.get(Thing, "a").add.options(timeout=1.0)(1)
        await cluster.advance(30.0)

        assert resident(cluster) == 0
