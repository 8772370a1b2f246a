"""What actors' features do when a command or its answer is lost in the middle of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec
import pytest

from actors._redis.faults import Busy, Loading, RedisFault
from actors.actor import Actor
from actors.errors import StreamInterrupted
from actors.message import message
from actors.supervision import Retry
from actors.system import ActorSystem
from actors.testing.faults import Action, Call, Delays, Disconnects, DropsReply, DropsRequest, ExecutesLate, Fails
from tests.actors.outcomes import outcome

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("faults")
ran: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    broken.clear()


class Notes(msgspec.Struct):
    entries: list[str] = []


@system.actor(mailbox_capacity=5, retry=Retry(initial=0.2))
class Worker(Actor[Notes]):
    async def on_deactivate(self, reason: str) -> None:
        self.state.entries.append("left")

    @message
    async def note(self, text: str) -> list[str]:
        ran.append(text)
        self.state.entries.append(text)
        return self.state.entries

    @message
    async def stumble(self, text: str) -> list[str]:
        ran.append(text)
        if text not in broken:
            broken.add(text)
            raise ValueError("a defect")
        self.state.entries.append(text)
        return self.state.entries

    @message
    async def ask(self, key: str, text: str) -> list[str]:
        got = await self.client.get(Worker, key).note(text)
        await self.client.get(Worker, "told").note.tell(text)
        self.state.entries.append(f"asked {text}")
        return got

    @message
    async def leave(self) -> None:
        self.deactivate()

    @message
    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            await asyncio.sleep(0.01)
            yield number

    @message(read_only=True)
    async def entries(self) -> list[str]:
        return self.state.entries


ACTIONS: list[Action] = [
    Fails(Loading("LOADING Redis is loading the dataset in memory")),
    Fails(Busy("BUSY Redis is busy running a script")),
    DropsRequest(),
    DropsReply(),
    Disconnects(applied=False),
    Disconnects(applied=True),
    Delays(request=0.5, reply=0.5),
    ExecutesLate(3.0),
]


@pytest.mark.parametrize("action", ACTIONS, ids=repr)
@pytest.mark.parametrize("what", ["MGET", "XRANGE", "commit", "send", "XREADGROUP", "XREAD"])
async def test_whatever_is_lost_each_message_has_its_effect_once_and_in_order(
    actor_cluster: ActorCluster, what: str, action: Action
) -> None:
    """Loads, backlog pages, commits, sends, reads, answers: lost, late, refused or applied twice."""
    async with actor_cluster(system, runners=1) as cluster:
        worker = cluster.client.get(Worker, "a")
        await worker.note("0")
        await worker.leave()
        await cluster.settled()

        def matches(call: Call) -> bool:
            return what in {call.name, call.script}

        cluster.faults.inject(action, when=matches, times=3, skip=1)
        for number in range(1, 15):
            await worker.note.tell(str(number))
        await worker.stumble.tell("15")
        for number in range(16, 25):
            await worker.note.tell(str(number))
        asked = await cluster.client.get(Worker, "b").ask.options(timeout=120.0)("a", "25")
        await cluster.settled()

        expected = ["0", "left", *[str(number) for number in range(1, 26)]]
        assert asked == expected
        assert cluster.state(worker).entries == expected
        assert Counter(ran) == {**{str(n): 1 for n in range(25)}, "15": 2, "25": 2}  # 25 is told to another as well
        assert cluster.state(cluster.client.get(Worker, "told")).entries == ["25"]
        assert cluster.dead_letters() == []


@pytest.mark.parametrize("action", ACTIONS, ids=repr)
async def test_a_stream_shows_each_item_once_or_ends_with_a_typed_error(actor_cluster: ActorCluster, action: Action) -> None:
    """What nobody knows to have arrived is not sent again."""
    async with actor_cluster(system, runners=1) as cluster:
        worker = cluster.client.get(Worker, "a")
        cluster.faults.inject(action, script="stream_item", skip=3)
        items: list[int] = []
        error: Exception | None = None
        try:
            async for number in worker.count(100):
                items.append(number)
        except StreamInterrupted as interrupted:
            error = interrupted

        assert items == list(range(len(items)))
        assert error is not None or len(items) == 100
        await cluster.settled()
        assert sum(cluster.runner(name).statistics().streams for name in cluster.runners) == 0
        assert [number async for number in worker.count(3)] == [0, 1, 2]


@pytest.mark.parametrize("seconds", [1.0, 8.0])
async def test_redis_being_away_for_a_while_is_waited_out(actor_cluster: ActorCluster, seconds: float) -> None:
    """Shorter than the lease: turns under way, loads and answers go on where they were."""
    async with actor_cluster(system, runners=2) as cluster:
        workers = [cluster.client.get(Worker, str(n)) for n in range(10)]
        calls = [asyncio.create_task(worker.note.options(timeout=60.0)(str(n))) for n in range(5) for worker in workers]
        await cluster.advance(0.001)
        cluster.server.stop()
        more = [asyncio.create_task(worker.note.options(timeout=60.0)("more")) for worker in workers]
        await cluster.advance(seconds)
        cluster.server.start()
        await asyncio.gather(*calls, *more)
        await cluster.settled()

        assert [cluster.state(worker).entries for worker in workers] == [["0", "1", "2", "3", "4", "more"]] * 10


async def test_a_fault_that_is_nobodys_is_no_answer_to_an_ask(actor_cluster: ActorCluster) -> None:
    """Whatever Redis says to one client's command, callers see errors of ours only."""
    async with actor_cluster(system, runners=1) as cluster:
        worker = cluster.client.get(Worker, "a")
        await worker.note("0")
        cluster.faults.inject(Fails(Loading("LOADING")), owner="client", times=20)
        found = [await outcome(worker.note.options(timeout=5.0)(str(n))) for n in range(5)]

        assert not [each for each in found if isinstance(each, RedisFault)]
