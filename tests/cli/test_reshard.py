"""Another number of shards: nothing lost, nothing doubled, order kept, wherever it is interrupted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._mailbox.dead_letters import DeadLetters
from actors._placement import facts
from actors._placement.membership import Member
from actors._placement.store import PlacementStore
from actors._redis.connection import Connection, TcpServer
from actors._redis.keys import Keys
from actors.cli import reshard
from actors.cli.failure import Failure
from actors.cli.reshard import NUDGE, reshard_all
from actors.cli.reshard_store import ReshardStore
from actors.cli.resharding import Begin, Done, Ids, Other, Resume, label_of, later, merged, standing
from actors.wire.envelope import Envelope, Extra, Kind, encode

KEYS = Keys("bank")
OLD, NEW = 4, 7


@pytest.mark.parametrize(
    ("recorded", "progress", "wanted", "expected"),
    [
        ("8", "", 8, Done()),
        ("8", "", 16, Begin(8)),
        ("8>16", "", 16, Resume(8, "copy", 0)),
        ("8>16", "swap 5", 16, Resume(8, "swap", 5)),
        ("8>16", "copy", 32, Other(8, 16)),
    ],
)
def test_what_comes_next_is_read_from_what_is_recorded(recorded: str, progress: str, wanted: int, expected: object) -> None:
    assert standing(recorded, progress, wanted) == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_ids_increase_and_stay_where_they_can(entries: list[tuple[int, int]]) -> None:
    """An ask ages by its id: one that got a new id would be answered after its caller had gone."""
    ids = Ids()
    placed = [ids.place("a.0", f"{ms + 1}-{sequence}") for ms, sequence in sorted(entries)]

    assert len(set(placed)) == len(placed)
    assert all(later(one, other) == other for one, other in itertools.pairwise(placed))
    assert [entry.partition("-")[0] for entry in placed] == [str(ms + 1) for ms, _ in sorted(entries)]


@given(st.lists(st.lists(st.integers(1, 50), max_size=8, unique=True), max_size=5))
async def test_mailboxes_are_merged_by_id(sources: list[list[int]]) -> None:
    async def entries(ids: list[int]) -> AsyncIterator[tuple[str, bytes]]:
        for number in sorted(ids):
            yield f"{number}-0", b""

    found = [int(moving.id.partition("-")[0]) async for moving in merged({f"a.{n}": entries(ids) for n, ids in enumerate(sources)})]

    assert found == sorted(number for ids in sources for number in ids)


@pytest.fixture
async def connection(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    monkeypatch.setattr(reshard, "JOINING", 0.0)
    connection = await TcpServer.from_url(redis_url).connect("control", timeout=10)
    yield connection
    await connection.close()


def envelope(key: str, number: int, *, kind: Kind | None = None) -> bytes:
    extra = Extra(kind=kind) if kind is not None else None
    return encode(
        Envelope(1, "Account", key, "deposit", msgspec.Raw(msgspec.msgpack.encode({"n": number})), f"{key}-{number}", extra=extra)
    )


def label(key: str, shards: int) -> str:
    return label_of("default", shards, "Account", key)


async def fill(connection: Connection) -> None:
    """A system whose runners have stopped: messages, backlogs, timers, garbage, one shard whose owner died."""
    await PlacementStore(connection, KEYS).record_facts(facts.expected(shards=OLD, groups=["default"], slot_groups=1))
    for number in range(1, 301):
        key = f"k{number % 20}"
        if number % 20 == 3:  # k3 is held: all it has is in its backlog
            await connection.execute("XADD", KEYS.backlog(label(key, OLD), "Account", key), f"{number}-0", "d", envelope(key, number))
            await connection.execute("HSET", KEYS.held(label(key, OLD)), f"Account:{key}", "0 2")
            await connection.execute("HINCRBY", KEYS.backlogs, label(key, OLD), 1)
        elif number % 20 == 4:  # k4's are delayed
            await connection.execute("ZADD", KEYS.timers(label(key, OLD)), 10_000 + number, f"{key}-{number}")
            await connection.execute("HSET", KEYS.timer_values(label(key, OLD)), f"{key}-{number}", envelope(key, number))
        else:
            await connection.execute("XADD", KEYS.mailbox(label(key, OLD)), f"{number}-0", "d", envelope(key, number))
    for index in range(OLD):
        await connection.execute("XADD", KEYS.mailbox(f"default.{index}"), "400-0", "d", b"garbage")
        await connection.execute("XADD", KEYS.mailbox(f"default.{index}"), "401-0", "d", NUDGE)
        owner = "0" * 16 if f"default.{index}" == label("k1", OLD) else "-"
        await connection.execute("HSET", KEYS.own, f"default.{index}", f"{owner} 17 5 0 0-0")
    await connection.execute("HSET", KEYS.marks(label("k1", OLD)), "21-0", "2 17")
    await connection.execute("HSET", KEYS.streams(label("k1", OLD)), "22-0", "inbox 7")
    for key in ("k5", "k6"):
        fields = ("d", envelope(key, 0), "r", "attempts", "e", "no idea", "s", label(key, OLD), "t", 5)
        await connection.execute("XADD", KEYS.dead, f"{50 + len(key) + int(key[1])}-0", *fields)
        await connection.execute("XADD", KEYS.parked, f"{50 + len(key) + int(key[1])}-0", *fields)
    await connection.execute("XADD", KEYS.dead, "90-0", "d", b"", "r", "not_msgpack", "s", "gpu.3", "t", 5)


async def check(connection: Connection, *, sent: int = 300, shards: int = NEW) -> None:
    """Assert that every message is where it belongs, once, in the order in which it was sent."""

    async def there() -> Connection:
        return connection

    seen: Counter[int] = Counter()
    for index in range(max(OLD, NEW)):
        here = f"default.{index}"
        orders: dict[str, list[int]] = {}
        for _, fields in await connection.execute("XRANGE", KEYS.mailbox(here), "-", "+"):
            if fields[1] == b"garbage":
                seen[-1] += 1
                continue
            found = msgspec.msgpack.decode(fields[1], type=Envelope)
            assert label(found.key, shards) == here
            orders.setdefault(found.key, []).append(msgspec.msgpack.decode(found.args)["n"])
        for order in orders.values():
            assert order == sorted(order)
            seen.update(order)
        for member, due in _pairs(await connection.execute("ZRANGE", KEYS.timers(here), 0, -1, "WITHSCORES")):
            value = await connection.execute("HGET", KEYS.timer_values(here), member)
            found = msgspec.msgpack.decode(value, type=Envelope)
            assert label(found.key, shards) == here
            number = msgspec.msgpack.decode(found.args)["n"]
            assert float(due) == 10_000 + number
            seen[number] += 1
    home = label("k3", shards)
    backlog = await connection.execute("XRANGE", KEYS.backlog(home, "Account", "k3"), "-", "+")
    numbers = [msgspec.msgpack.decode(msgspec.msgpack.decode(fields[1], type=Envelope).args)["n"] for _, fields in backlog]
    assert numbers == sorted(numbers)
    seen.update(numbers)
    assert await connection.execute("HGETALL", KEYS.held(home)) == [b"Account:k3", b"0 2"]
    assert await connection.execute("HGETALL", KEYS.backlogs) == [home.encode(), str(len(numbers)).encode()]
    assert [letter.shard async for letter in DeadLetters(there, KEYS).list()] == [label("k5", shards), label("k6", shards), "gpu.3"]
    assert [dict(_pairs(fields))[b"s"].decode() for _, fields in await connection.execute("XRANGE", KEYS.parked, "-", "+")] == [
        label("k5", shards),
        label("k6", shards),
    ]
    assert seen == Counter({-1: OLD, **dict.fromkeys(range(1, sent + 1), 1)})
    assert await PlacementStore(connection, KEYS).facts() == facts.expected(shards=shards, groups=["default"], slot_groups=1)
    left = await connection.execute("KEYS", f"{KEYS.tag.replace('{', '?').replace('}', '?')}:z:*")
    assert left == []


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


async def test_everything_that_waits_moves_to_its_new_shard(connection: Connection) -> None:
    await fill(connection)

    moved = await reshard_all(connection, KEYS, NEW)

    assert moved == 300 - 15 + OLD  # the backlog is renamed, not moved
    await check(connection)


async def test_and_back_again(connection: Connection) -> None:
    await fill(connection)

    await reshard_all(connection, KEYS, NEW)
    await reshard_all(connection, KEYS, OLD)

    await check(connection, shards=OLD)


async def test_suspects_stay_suspects(connection: Connection) -> None:
    """The message that killed its process twice must not get a fresh start by this."""
    await fill(connection)
    await reshard_all(connection, KEYS, NEW)

    home = label("k1", NEW)
    records = {shard.label: record for shard, record in (await PlacementStore(connection, KEYS).records()).items()}
    assert records[home].owner is None
    assert later(records[home].upto, "281-0") == records[home].upto  # k1's last message, and with it all before
    assert await connection.execute("HGETALL", KEYS.marks(home)) == [b"21-0", b"2 -"]


async def test_refused_while_a_runner_lives(connection: Connection) -> None:
    await fill(connection)
    await PlacementStore(connection, KEYS).register(Member(name="pod-1", incarnation="1" * 16), lease=60)

    with pytest.raises(Failure, match="pod-1 is alive"):
        await reshard_all(connection, KEYS, NEW)

    assert (await PlacementStore(connection, KEYS).facts())["shards:default"] == str(OLD)


async def test_no_runner_can_start_in_the_middle(connection: Connection) -> None:
    await fill(connection)
    await ReshardStore(connection, KEYS, "default").begin(OLD, NEW, [], ["0" * 16])

    recorded = await PlacementStore(connection, KEYS).facts()

    for shards in (OLD, NEW):
        assert facts.misfit(recorded, facts.expected(shards=shards, groups=["default"], slot_groups=1)) is not None
    assert facts.shard_counts(recorded) == {}  # and clients wait
    with pytest.raises(Failure, match="on its way from 4 to 7"):
        await reshard_all(connection, KEYS, 32)


class Interrupted(Exception):
    """The process was killed here."""


class DiesAfter:
    """A connection whose user is killed after some commands."""

    def __init__(self, connection: Connection, commands: int) -> None:
        self._connection = connection
        self._left = commands

    @property
    def closed(self) -> bool:
        return False

    def submit(self, command: object, on_reply: object) -> None:
        self._count()
        self._connection.submit(command, on_reply)  # type: ignore[arg-type]

    def execute(self, *command: object) -> object:
        self._count()
        return self._connection.execute(*command)  # type: ignore[arg-type]

    async def close(self) -> None:
        raise NotImplementedError

    def _count(self) -> None:
        if self._left <= 0:
            raise Interrupted
        self._left -= 1


@pytest.mark.slow
async def test_killed_anywhere_it_goes_on_where_it_was(connection: Connection) -> None:
    """One run after another, each killed a little later, until one comes through; a client goes on sending meanwhile."""
    await fill(connection)
    sent = 300
    runs = 0
    for commands in range(20, 100_000, 11):
        runs += 1
        try:
            await reshard_all(DiesAfter(connection, commands), KEYS, NEW)  # type: ignore[arg-type]
        except Interrupted:
            if runs % 5 == 0:
                sent += 1
                key = f"k{5 + sent % 3}"
                await connection.execute("XADD", KEYS.mailbox(label(key, OLD)), "*", "d", envelope(key, sent))
            continue
        break

    assert runs > 30
    await check(connection, sent=sent)


async def test_what_a_client_sends_meanwhile_finds_its_way(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends by the old number for as long as it is not restarted."""
    await fill(connection)
    swap, sent = ReshardStore.swap, [300]

    async def sends_before_each_swap(self: ReshardStore, at: int, name: str, **notes: str) -> bool:
        sent[0] += 1
        key = f"k{5 + sent[0] % 9}"
        await connection.execute("XADD", KEYS.mailbox(label(key, OLD)), "*", "d", envelope(key, sent[0]))
        return await swap(self, at, name, **notes)

    monkeypatch.setattr(ReshardStore, "swap", sends_before_each_swap)
    await reshard_all(connection, KEYS, NEW)

    await check(connection, sent=sent[0])
