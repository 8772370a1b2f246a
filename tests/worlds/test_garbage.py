"""Bytes that nobody of ours wrote, in every place that is read: no runner ends for them, and messages go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec
import pytest

from actors._redis.keys import Keys
from actors.actor import Actor
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem
from actors.testing.cluster import ActorCluster

system = ActorSystem("garbage")
NOTHING = list[object]()
LABELS = ("default.0", "default.1")


@system.actor
class Counter(Actor[int]):
    @message
    async def add(self, amount: int) -> int:
        self.state += amount
        return self.state


def packed(*parts: object) -> bytes:
    """What could be an envelope."""
    return msgspec.msgpack.encode(list(parts))


GARBAGE = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xc1",
    b"- x",
    b"1 2 3 4",
    b"0123456789abcdef 5 6 0 zzz",
    b"9" * 5000,
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 2000,
    "é😀".encode(),
    packed(1, "Counter", "a", "add", {"amount": "x"}, "id", None, 0, None),
    packed(1, "Counter", "a", "add", {"amount": 0}, "id", ["nobody", 5], -1, None),
    packed(9, "Counter", "a", "add", {"amount": 0}, "id", None, 0, None),
    packed(1, "Counter", "a", "add", {}, "id", ["a b\n{}", 1 << 62], 1 << 40, [None, NOTHING, ["x" * 10, ""], 7]),
    packed(1, "Counter", "a", "add", {"amount": 0}, "id", None, 0, [{"h": "v"}, [["Counter", "a", "x"]] * 100, ["q:zz", "p:"], 0]),
    packed(1, "-", "-", "-", {}, "", None, 0, [None, NOTHING, None, 1]),
    packed(1, "Counter", "a", "add", [1 << 63], "id", None, 0, [None, NOTHING, None, 3]),
    packed(0, "value"),
    packed(6, ["no_such_reason", dict[str, object]()]),
)

Commands = Iterator[tuple[str | bytes, ...]]


def mailbox(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "XADD", keys.mailbox(label), "*", "d", junk
    yield "XADD", keys.mailbox(label), "*", junk or b"e", junk, "more", junk


def held(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "HSET", keys.held(label), junk, junk
    yield "HSET", keys.held(label), b"Counter:" + junk, junk
    yield "HSET", keys.held(label), b"Counter:a", junk


def backlog(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "HSET", keys.held(label), b"Counter:a", b"0 0"
    yield "XADD", keys.backlog(label, "Counter", "a"), "*", "d", junk
    yield "XADD", keys.backlog(label, "Counter", "a"), "*", junk or b"e", junk


def marks(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "HSET", keys.marks(label), junk, junk
    yield "HSET", keys.marks(label), "1-1", junk


def streams(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "HSET", keys.streams(label), junk, junk


def timers(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "ZADD", keys.timers(label), "1", junk
    yield "ZADD", keys.timers(label), "-inf", b"first" + junk
    yield "ZADD", keys.timers(label), "inf", b"last" + junk
    yield "HSET", keys.timer_values(label), junk, junk


def never(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "ZADD", keys.timers(label), "inf", junk


def own(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "HSET", keys.own, label, junk


def more_own(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "HSET", keys.own, junk or b"e", junk


def totals(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "HSET", keys.backlogs, label, junk or b"e"


def control(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "XADD", keys.control, "*", junk or b"e", junk
    yield "XADD", keys.control, "*", "e", junk
    yield "XADD", keys.control, "*", "e", "released", "s", junk


def members(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "HSET", keys.members, junk or b"e", junk
    yield "HSET", keys.members, b"n" + junk, b"0123456789abcdef" + junk


def assigned(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "SET", keys.assignment, junk
    yield "SET", keys.assignment, b"99 " + junk


def dead(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "XADD", keys.dead, "*", junk or b"e", junk
    yield "XADD", keys.dead, "*", "d", junk, "r", junk, "a", junk


def parked(keys: Keys, label: str, junk: bytes) -> Commands:
    yield "XADD", keys.parked, "*", junk or b"e", junk
    yield "XADD", keys.parked, "*", "d", junk, "s", label, "k", junk, "i", junk, "t", junk


PLACES = (mailbox, held, backlog, marks, streams, timers, never, own, more_own, totals, control, members, assigned, dead, parked)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_garbage_ends_no_runner(actor_cluster: ActorCluster, place: Callable[[Keys, str, bytes], Commands]) -> None:
    """Not while it runs, not when another takes over; and what is sent then is handled."""
    async with actor_cluster(system, runners=2, settings=Settings(lease=2.0, shards=2, idle_timeout=1.0)) as cluster:
        counters = [cluster.client.get(Counter, key) for key in "abcdef"]
        await asyncio.gather(*[counter.add(1) for counter in counters])
        for junk in GARBAGE:
            for label in LABELS:
                for command in place(cluster.keys, label, junk):
                    cluster.execute(*command)
        await cluster.advance(10.0)
        await asyncio.gather(*[counter.add(1) for counter in counters])
        await cluster.kill("runner-1")
        await cluster.start()
        await cluster.advance(10.0)
        await asyncio.gather(*[counter.add(1) for counter in counters])

        for counter in counters:
            assert cluster.state(counter) == 3
        for name in cluster.runners:
            cluster.runner(name)  # raises what it ended with


async def test_garbage_in_an_inbox_is_passed_over(actor_cluster: ActorCluster) -> None:
    """And the answers behind it arrive."""
    async with actor_cluster(system, runners=2, settings=Settings(shards=2)) as cluster:
        counter = cluster.client.get(Counter, "a")
        await counter.add(1)
        for inbox in cluster.execute("KEYS", "*:i:*"):
            for junk in GARBAGE:
                cluster.execute("XADD", inbox, "*", junk or b"e", junk)
                cluster.execute("XADD", inbox, "*", str(1 << 70), junk)
        assert await counter.add(1) == 2


@pytest.mark.parametrize("kind", ["held", "marks", "streams", "timers", "mailbox"])
async def test_a_key_of_another_type_keeps_one_shard_from_everybody_and_no_other(actor_cluster: ActorCluster, kind: str) -> None:
    """The shard cannot be taken until the key has gone; then it is, without anybody's doing."""
    async with actor_cluster(system, runners=2, settings=Settings(lease=2.0, shards=2)) as cluster:
        refs = [cluster.client.get(Counter, key) for key in "abcdef"]
        counters = {cluster.shard_of(ref).label: ref for ref in refs}
        key = getattr(cluster.keys, kind)(LABELS[0])
        await asyncio.gather(*[counter.add(1) for counter in counters.values()])
        await cluster.kill(cluster.owner_of(counters[LABELS[0]]))
        await cluster.kill(cluster.runners[0])
        cluster.execute("DEL", key)
        cluster.execute("SET", key, "garbage")
        await cluster.start()
        await cluster.advance(10.0)

        assert await counters[LABELS[1]].add(1) == 2
        cluster.execute("DEL", key)
        assert await counters[LABELS[0]].add(1) == 2


async def test_a_broken_count_of_backlogs_refuses_nothing(actor_cluster: ActorCluster) -> None:
    """It only bounds what waits."""
    async with actor_cluster(system, runners=1, settings=Settings(shards=2)) as cluster:
        for label in LABELS:
            cluster.execute("HSET", cluster.keys.backlogs, label, "many")
        assert await cluster.client.get(Counter, "a").add(1) == 1
