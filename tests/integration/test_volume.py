"""Many messages: floods hold back nobody else, full shards drain, and nothing stays behind in Redis."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from actors._mailbox.dead_letters import DeadLetters
from actors._redis.connection import SyncConnection
from actors.client import Client
from actors.system import replaced
from tests.integration.cast import Counter, Notes
from tests.integration.fleet import Fleet, RunnerProcess, until
from tests.integration.system import KEYS, system

pytestmark = pytest.mark.server

BATCH = 500
ROUND = 20_000
"""Messages sent before all are waited for: what a runner holds at its peak does not depend on how many come after."""


async def count_up(client: Client, keys: list[str], messages: int) -> None:
    """Tell ``messages`` additions to counters, one after the other in turn, as fast as they are taken."""
    refs = [client.get(Counter, key) for key in keys]
    for start in range(0, messages, BATCH):
        await client.send(*[refs[number % len(refs)].add.message() for number in range(start, min(start + BATCH, messages))])


@pytest.mark.parametrize("messages", [20_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_a_flooded_actor_holds_back_only_itself(fleet: Fleet, client: Client, messages: int, tmp_path: Path) -> None:
    """Its neighbours in the very same shard answer at once, while its own messages wait, and when they run: all of them, in order."""
    gate = tmp_path / "gate"
    await fleet.start("r0", shards=1)
    settings = replaced(system.settings, backlog_capacity=messages * 2, shard_capacity=messages * 2)
    async with system.build_client(client._server, settings=settings) as wide:  # type: ignore[attr-defined]
        flooded = wide.get(Counter, "flooded")
        await flooded.add.tell(0, str(gate))
        flood = asyncio.create_task(count_up(wide, ["flooded"], messages))
        neighbours = [wide.get(Counter, f"neighbour {number}") for number in range(7)]
        while not flood.done():
            await ask_all(neighbours)
        await flood
        waiting = [await ask_all(neighbours) for _ in range(10)]
        gate.touch()
        draining: list[float] = []
        value = wide.get(Counter, "flooded").value.options(timeout=100)
        end = asyncio.create_task(value())
        while not end.done():
            draining.append(await ask_all(neighbours))
        assert await end == messages

    print(f"slowest neighbour while it waited {max(waiting):.3f} s, while it drained {max(draining):.3f} s ({len(draining)} rounds)")
    assert max(waiting) < 1.0
    assert len(draining) > 2
    assert max(draining) < 2.0


async def ask_all(counters: list[Counter]) -> float:
    """Ask all at once; return how long the slowest took."""
    began = time.monotonic()
    await asyncio.gather(*[counter.add() for counter in counters])
    return time.monotonic() - began


async def test_a_full_shard_whose_every_message_tells_an_actor_of_the_same_shard_drains(
    fleet: Fleet, client: Client, redis: SyncConnection, dead_letters: DeadLetters
) -> None:
    """A commit takes its inputs away before it adds its outputs, so that there is room for them."""
    capacity = 2_000
    (first,) = await fleet.start("r0", shards=1)
    first.freeze()
    settings = replaced(system.settings, shard_capacity=capacity)
    async with system.build_client(client._server, settings=settings) as narrow:  # type: ignore[attr-defined]
        for start in range(0, capacity, BATCH):
            await narrow.send(
                *[narrow.get(Notes, f"from {n % 50}").pass_on.message(f"to {n % 20}", str(n)) for n in range(start, start + BATCH)]
            )
    first.kill()
    await first.ended()
    assert redis.execute("XLEN", KEYS.mailbox("default.0")) == capacity
    await fleet.start("r1", shards=1, shard_capacity=capacity)

    await until(lambda: redis.execute("XLEN", KEYS.mailbox("default.0")) == 0, what="an empty shard")
    told = [await client.get(Notes, f"to {n}").read() for n in range(20)]
    assert sorted(int(line) for lines in told for line in lines) == list(range(capacity))
    assert await dead_letters.count() == 0


@pytest.mark.parametrize("messages", [60_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_many_messages_later_redis_holds_what_it_held_after_ten(
    fleet: Fleet, client: Client, redis: SyncConnection, messages: int
) -> None:
    """No key more, no stream longer, hardly a byte; and the runner has not grown either."""
    keys = [f"c{number}" for number in range(10)]
    (runner,) = await fleet.start("r0")
    await count_up(client, keys, 10)
    await settled(redis)
    before, resident = held(redis), list[int]()
    for _ in range(messages // ROUND):
        await count_up(client, keys, ROUND)
        await settled(redis)
        resident.append(memory(runner))
    after = held(redis)

    assert sum([await client.get(Counter, key).value() for key in keys]) == messages + 10
    print(f"Redis {sum(before.values()):,} bytes, then {sum(after.values()):,}; the runner {[size >> 20 for size in resident]} MiB")
    assert after.keys() == before.keys()
    assert sum(after.values()) <= sum(before.values()) * 1.2
    assert resident[-1] <= max(resident[: len(resident) // 2]) * 1.2


async def settled(redis: SyncConnection) -> None:
    """Wait until every mailbox is empty."""
    mailboxes = [KEYS.mailbox(f"default.{index}") for index in range(system.settings.shards)]
    await until(lambda: not any(redis.execute("XLEN", mailbox) for mailbox in mailboxes), within=60, what="empty mailboxes")


def held(redis: SyncConnection) -> dict[bytes, int]:
    """Return the bytes of every key of the system."""
    return {key: redis.execute("MEMORY", "USAGE", key, "SAMPLES", 0) for key in sorted(redis.execute("KEYS", f"{KEYS.tag}:*"))}


def memory(runner: RunnerProcess) -> int:
    """Return the bytes that a runner's process has in memory."""
    return int(psutil.Process(runner.pid).memory_info().rss)
