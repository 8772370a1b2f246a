"""Placement's scripts: one suite on every server they have to run on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from actors._placement.membership import Holder, Member
from actors._placement.ownership import UNOWNED, Grant, Moved, OwnerAlive, Record
from actors._placement.probe import probe
from actors._placement.server import Host, judge
from actors._placement.store import Found, PlacementStore, Position, Renewed, Wanted
from actors._redis.connection import Connection, TcpServer
from actors._redis.embedded import EmbeddedServer
from actors._redis.faults import NoGroup, OutOfMemory, RedisFault
from actors._redis.keys import Keys
from actors.errors import ConfigurationError
from actors.ids import ShardId

A, B = "a" * 16, "b" * 16
S3, S4 = ShardId("default", 3), ShardId("default", 4)


def member(name: str, incarnation: str, **fields: object) -> Member:
    return Member(name=name, incarnation=incarnation, **fields)  # type: ignore[arg-type]


async def owned(store: PlacementStore, incarnation: str, shard: ShardId = S3, *, name: str = "a", seen: Record = UNOWNED) -> Grant:
    """Register and acquire."""
    await store.register(member(name, incarnation), lease=10)
    answers = await store.acquire(incarnation, [Wanted(shard, seen, f"{incarnation}.r.1")])
    assert answers is not None
    assert isinstance(answers[0], Grant), answers
    return answers[0]


async def groups(connection: Connection, keys: Keys, shard: ShardId = S3) -> dict[str, str]:
    """Read groups of a mailbox with the id each has read up to."""
    try:
        reply = await connection.execute("XINFO", "GROUPS", keys.mailbox(shard.label))
    except RedisFault:
        return {}
    facts = [dict(zip(group[::2], group[1::2], strict=True)) for group in reply]
    return {group[b"name"].decode(): group[b"last-delivered-id"].decode() for group in facts}


async def send(connection: Connection, keys: Keys, shard: ShardId = S3) -> str:
    entry = await connection.execute("XADD", keys.mailbox(shard.label), "*", "d", "x")
    return str(entry.decode())


async def events(store: PlacementStore) -> list[str]:
    return [event.kind for event in await store.events("0-0", wait=0.001)]


# membership


async def test_a_registered_runner_is_listed_and_has_a_lease(store: PlacementStore) -> None:
    newcomer = member("a", A, groups=("default", "gpu"), weight=3, types={"Account": ("deposit", "balance")}, started=1.5)

    assert await store.register(newcomer, lease=10) is None
    assert await store.members() == (newcomer,)
    assert await store.leases([A, B]) == {A: True, B: False}


async def test_registering_again_is_silent_unless_the_record_changed(store: PlacementStore) -> None:
    await store.register(member("a", A), lease=10)
    await store.register(member("a", A), lease=10)
    assert await events(store) == ["joined"]
    await store.register(member("a", A, draining=True), lease=10)

    assert await events(store) == ["joined", "changed"]
    assert [one.draining for one in await store.members()] == [True]


async def test_a_taken_name_is_refused_and_its_holder_named(store: PlacementStore) -> None:
    await store.register(member("a", A), lease=10)

    assert await store.register(member("a", B), lease=10) == A
    assert await store.leases([A, B]) == {A: True, B: False}


async def test_a_name_passes_on_when_its_holder_was_seen_not_to_renew(store: PlacementStore) -> None:
    await store.register(member("a", A), lease=10)
    seen = await store.holder("a")
    assert seen is not None

    assert await store.register(member("a", B), lease=10, holder=seen) is None
    assert [one.incarnation for one in await store.members()] == [B]
    assert await store.leases([A, B]) == {A: True, B: True}, "the shards of the former follow its lease"


async def test_a_holder_that_renewed_after_the_last_look_keeps_its_name(store: PlacementStore) -> None:
    await store.register(member("a", A), lease=5)
    seen = await store.holder("a")
    await store.renew("a", A, lease=10)

    assert await store.register(member("a", B), lease=10, holder=seen) == A


async def test_a_name_without_a_lease_is_free_for_who_has_looked(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    await store.register(member("a", A), lease=10)
    await connection.execute("DEL", keys.lease(A))
    assert await store.holder("a") == Holder(A, 0.0)

    assert await store.register(member("a", B), lease=10, holder=Holder(A, 0.0)) is None


async def test_a_renewal_says_whether_the_lease_was_there(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    await store.register(member("a", A), lease=10)
    assert await store.renew("a", A, lease=10) == Renewed(Found.RENEWED)
    await connection.execute("DEL", keys.lease(A))

    assert await store.renew("a", A, lease=10) == Renewed(Found.REVIVED)
    assert await store.leases([A]) == {A: True}
    assert await store.renew("nobody", B, lease=10) == Renewed(Found.REVIVED, listed=False)
    assert await store.renew("nobody", B, lease=10) == Renewed(Found.RENEWED, listed=False)
    assert await store.leases([B]) == {B: True}


async def test_a_superseded_incarnation_gets_no_lease(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    await store.register(member("a", A), lease=10)
    await connection.execute("DEL", keys.lease(A))
    await store.register(member("a", B), lease=10, holder=Holder(A, 0.0))

    assert await store.renew("a", A, lease=10) == Renewed(Found.SUPERSEDED)
    assert await store.leases([A, B]) == {A: False, B: True}


async def test_only_members_without_a_lease_are_pruned(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    a, b = member("a", A), member("b", B)
    await store.register(a, lease=10)
    await store.register(b, lease=10)
    await connection.execute("DEL", keys.lease(B))

    assert await store.prune([a, b]) == ("b",)
    assert await store.prune([a, b]) == ()
    assert await store.members() == (a,)
    assert await events(store) == ["joined", "joined", "died"]


async def test_a_member_record_that_cannot_be_read_hides_nobody_else(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    await store.register(member("a", A), lease=10)
    await connection.execute("HSET", keys.members, "z", b"f" * 16 + b"\xc1 no msgpack")

    assert [one.name for one in await store.members()] == ["a"]


async def test_a_runner_cannot_leave_while_a_record_names_it(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)

    assert await store.leave("a", A) == (S3,)
    assert await store.leases([A]) == {A: True}
    await store.release([(S3, grant.token)])
    assert await store.leave("a", A) == ()
    assert await store.members() == ()
    assert await store.leases([A]) == {A: False}
    assert await store.leave("a", A) == (), "may be repeated"
    assert await connection.execute("EXISTS", keys.members) == 0


async def test_leaving_does_not_take_a_successor_off_the_list(store: PlacementStore) -> None:
    await store.register(member("a", A), lease=10)
    await store.register(member("a", B), lease=10, holder=await store.holder("a"))

    assert await store.leave("a", A) == ()
    assert [one.incarnation for one in await store.members()] == [B]


# assignment and facts


async def test_of_two_assignments_from_one_version_the_first_stands(store: PlacementStore) -> None:
    assert await store.assign(0, b"1 first") is None
    assert await store.assign(0, b"1 second") == b"1 first"
    assert await store.assign(1, b"2 next") is None

    assert await store.view() == ((), b"2 next")
    assert [(event.kind, event.fields) for event in await store.events("0-0", wait=0.001)] == [
        ("assigned", {"v": "1"}),
        ("assigned", {"v": "2"}),
    ]


async def test_facts_are_recorded_together_or_not_at_all(store: PlacementStore) -> None:
    assert await store.facts() == {}
    assert await store.record_facts({"shards:default": "64", "hash": "x"}) == {"shards:default": "64", "hash": "x"}

    assert await store.record_facts({"shards:gpu": "8", "hash": "y"}) == {"shards:default": "64", "hash": "x"}
    assert await store.record_facts({"shards:gpu": "8", "hash": "x"}) == {"shards:default": "64", "hash": "x", "shards:gpu": "8"}


# acquire


async def test_a_shard_that_nobody_ever_owned_can_be_taken(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)

    assert grant.token == f"{A} {grant.epoch} 0 0 0-0"
    assert await store.records() == {S3: Record.parse(grant.token)}
    assert (grant.held, grant.marks, grant.streams, grant.next_timer, grant.upto) == ({}, {}, {}, None, "0-0")
    assert await groups(connection, keys) == {f"{A}.r.1": "0-0"}


async def test_the_epoch_follows_the_servers_clock_in_microseconds(store: PlacementStore, connection: Connection) -> None:
    before = await connection.execute("TIME")
    grant = await owned(store, A)
    after = await connection.execute("TIME")

    assert int(before[0]) * 10**6 + int(before[1]) <= int(grant.epoch) <= int(after[0]) * 10**6 + int(after[1])


async def test_the_epoch_rises_where_the_clock_does_not(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    future = "9007199254740000"
    await connection.execute("HSET", keys.own, S3.label, f"- {future} 0 1 0-0")
    grant = await owned(store, A, seen=Record.parse(f"- {future} 0 1 0-0"))

    assert grant.epoch == str(int(future) + 1)


async def test_what_waits_for_the_owner_comes_with_the_grant(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    await connection.execute("HSET", keys.held(S3.label), "Account:x", "record")
    await connection.execute("HSET", keys.marks(S3.label), "5-0", "2 77")
    await connection.execute("HSET", keys.streams(S3.label), "6-0", "inbox 1")
    await connection.execute("ZADD", keys.timers(S3.label), 1_763_971_200_123, "later", 1_763_971_200_001, "first")
    grant = await owned(store, A)

    assert grant.held == {b"Account:x": b"record"}
    assert grant.marks == {b"5-0": b"2 77"}
    assert grant.streams == {b"6-0": b"inbox 1"}
    assert grant.next_timer == 1_763_971_200_001


async def test_one_call_takes_many_shards_and_answers_for_each(store: PlacementStore) -> None:
    await owned(store, B, S4, name="b")
    await store.register(member("a", A), lease=10)
    other = (await store.records())[S4]
    answers = await store.acquire(A, [Wanted(S3, UNOWNED, "g"), Wanted(S4, UNOWNED, "g"), Wanted(S4, other, "g")])

    assert answers is not None
    assert isinstance(answers[0], Grant)
    assert answers[1:] == [Moved(S4, other), OwnerAlive(S4)]


async def test_a_live_owners_shard_is_not_taken(store: PlacementStore) -> None:
    grant = await owned(store, A)
    await store.register(member("b", B), lease=10)

    assert await store.acquire(B, [Wanted(S3, Record.parse(grant.token), "g")]) == [OwnerAlive(S3)]
    assert (await store.records())[S3].owner == A


async def test_nothing_is_taken_without_a_lease_of_ones_own(store: PlacementStore) -> None:
    assert await store.acquire(A, [Wanted(S3, UNOWNED, "g")]) is None
    assert await store.records() == {}


async def test_a_dead_owners_shard_is_taken_and_its_mailbox_is_suspect(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    last = await send(connection, keys)
    first = await owned(store, A)
    assert first.upto == "0-0", "nobody died over what stood there before the first owner"
    await connection.execute("DEL", keys.lease(A))
    second = await owned(store, B, name="b", seen=Record.parse(first.token))

    assert second.upto == last
    assert second.token == f"{B} {second.epoch} 0 0 {last}"
    assert int(second.epoch) > int(first.epoch)


async def test_entries_taken_and_deleted_still_count_for_what_is_suspect(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    """An entry in an actor's backlog has left the mailbox, and may be what killed the owner."""
    first = await owned(store, A)
    last = await send(connection, keys)
    await connection.execute("XDEL", keys.mailbox(S3.label), last)
    await connection.execute("DEL", keys.lease(A))

    assert (await owned(store, B, name="b", seen=Record.parse(first.token))).upto == last


async def test_takeover_leaves_one_group_and_it_reads_everything_again(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    first = await owned(store, A)
    entry = await send(connection, keys)
    mailbox = keys.mailbox(S3.label)
    await connection.execute("XREADGROUP", "GROUP", f"{A}.r.1", "c", "STREAMS", mailbox, ">")
    await connection.execute("DEL", keys.lease(A))
    await owned(store, B, name="b", seen=Record.parse(first.token))

    assert await groups(connection, keys) == {f"{B}.r.1": "0-0"}
    reply = await connection.execute("XREADGROUP", "GROUP", f"{B}.r.1", "c", "STREAMS", mailbox, ">")
    assert [found[0].decode() for found in reply[0][1]] == [entry]
    with pytest.raises(NoGroup):
        await connection.execute("XREADGROUP", "GROUP", f"{A}.r.1", "c", "STREAMS", mailbox, ">")


async def test_the_same_incarnation_takes_its_shard_anew_with_its_marks_back(
    store: PlacementStore, connection: Connection, keys: Keys
) -> None:
    """Its process lives: what it had started has killed nobody."""
    first = await owned(store, A)
    marks = keys.marks(S3.label)
    await connection.execute("HSET", marks, "1-0", f"1 {first.epoch}", "2-0", f"2 {first.epoch}", "3-0", "1 55", "4-0", "2 -")
    await send(connection, keys)
    second = await owned(store, A, seen=Record.parse(first.token))

    assert int(second.epoch) > int(first.epoch)
    assert second.upto == "0-0"
    assert second.marks == {b"2-0": b"1 -", b"3-0": b"1 55", b"4-0": b"2 -"}
    flat = await connection.execute("HGETALL", marks)
    assert dict(zip(flat[::2], flat[1::2], strict=True)) == second.marks


async def test_another_incarnation_finds_the_marks_as_they_were(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    first = await owned(store, A)
    await connection.execute("HSET", keys.marks(S3.label), "1-0", f"1 {first.epoch}")
    await connection.execute("DEL", keys.lease(A))

    assert (await owned(store, B, name="b", seen=Record.parse(first.token))).marks == {b"1-0": f"1 {first.epoch}".encode()}


async def test_a_late_copy_of_an_acquire_changes_nothing(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)
    await send(connection, keys)

    assert await store.acquire(A, [Wanted(S3, UNOWNED, "late")]) == [Moved(S3, Record.parse(grant.token))]
    assert await groups(connection, keys) == {f"{A}.r.1": "0-0"}


async def test_a_record_changed_by_a_commit_is_not_the_one_seen(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)
    committed = f"{A} {grant.epoch} 1 0 0-0"
    await connection.execute("HSET", keys.own, S3.label, committed)
    await store.register(member("b", B), lease=10)
    await connection.execute("DEL", keys.lease(A))

    assert await store.acquire(B, [Wanted(S3, Record.parse(grant.token), "g")]) == [Moved(S3, Record.parse(committed))]


# release


async def test_a_released_shard_is_free_clean_and_without_groups(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    first = await owned(store, A)
    last = await send(connection, keys)
    await connection.execute("DEL", keys.lease(A))
    second = await owned(store, B, name="b", seen=Record.parse(first.token))

    assert await store.release([(S3, second.token)]) == [True]
    freed = (await store.records())[S3]
    assert (freed.owner, freed.epoch, freed.clean, freed.upto) == (None, second.epoch, True, last)
    assert await groups(connection, keys) == {}
    third = await owned(store, B, name="b", seen=freed)
    assert third.upto == last, "suspects stay suspects through a clean handoff"


async def test_a_release_takes_back_the_marks_of_its_epoch(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)
    await connection.execute("HSET", keys.marks(S3.label), "1-0", f"1 {grant.epoch}", "2-0", f"3 {grant.epoch}", "3-0", "1 5")
    await store.release([(S3, grant.token)])

    flat = await connection.execute("HGETALL", keys.marks(S3.label))
    assert dict(zip(flat[::2], flat[1::2], strict=True)) == {b"2-0": b"2 -", b"3-0": b"1 5"}


async def test_a_late_release_does_not_free_the_next_owners_shard(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    first = await owned(store, A)
    await connection.execute("DEL", keys.lease(A))
    second = await owned(store, B, name="b", seen=Record.parse(first.token))

    assert await store.release([(S3, first.token)]) == [False]
    assert (await store.records())[S3].text == second.token
    assert await groups(connection, keys) == {f"{B}.r.1": "0-0"}
    assert "released" not in await events(store)


async def test_shards_released_together_are_told_in_one_event(store: PlacementStore) -> None:
    await store.register(member("a", A), lease=10)
    answers = await store.acquire(A, [Wanted(S3, UNOWNED, "g"), Wanted(S4, UNOWNED, "g")])
    assert answers is not None
    tokens = [(answer.shard, answer.token) for answer in answers if isinstance(answer, Grant)]

    assert await store.release([*tokens, (ShardId("default", 5), "x")]) == [True, True, False]
    told = (await store.events("0-0", wait=0.001))[-1]
    assert (told.kind, told.shards) == ("released", ("default.3", "default.4"))


# regroup


async def test_a_new_generation_begins_behind_what_was_read(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)
    entry = await send(connection, keys)
    later = await send(connection, keys)

    assert await store.regroup(A, "r", 2, [Position(S3, grant.epoch, entry)]) == [True]
    assert await groups(connection, keys) == {f"{A}.r.2": entry}
    reply = await connection.execute("XREADGROUP", "GROUP", f"{A}.r.2", "c", "STREAMS", keys.mailbox(S3.label), ">")
    assert [found[0].decode() for found in reply[0][1]] == [later]


async def test_a_generation_that_is_there_or_past_is_refused_as_a_whole(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    """Its reader may have read with the newer one already."""
    await store.register(member("a", A), lease=10)
    answers = await store.acquire(A, [Wanted(S3, UNOWNED, f"{A}.r.5"), Wanted(S4, UNOWNED, f"{A}.r.4")])
    assert answers is not None
    both = [Position(answer.shard, answer.epoch, "0-0") for answer in answers if isinstance(answer, Grant)]

    assert await store.regroup(A, "r", 5, both) is None
    assert await groups(connection, keys, S4) == {f"{A}.r.4": "0-0"}
    assert await store.regroup(A, "r", 6, both) == [True, True]


async def test_other_readers_and_incarnations_have_generations_of_their_own(
    store: PlacementStore, connection: Connection, keys: Keys
) -> None:
    grant = await owned(store, A)
    await connection.execute("XGROUP", "CREATE", keys.mailbox(S3.label), f"{A}.rr.99", "0")
    await connection.execute("XGROUP", "CREATE", keys.mailbox(S3.label), f"{B}.r.99", "0")

    assert await store.regroup(A, "r", 2, [Position(S3, grant.epoch, "0-0")]) == [True]
    assert await groups(connection, keys) == {f"{A}.r.2": "0-0"}


async def test_regroup_leaves_shards_alone_that_are_owned_no_longer(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)
    await owned(store, B, S4, name="b")
    stale = str(int(grant.epoch) - 1)

    assert await store.regroup(A, "r", 2, [Position(S3, grant.epoch, "0-0"), Position(S4, grant.epoch, "0-0")]) == [True, False]
    assert await store.regroup(A, "r", 3, [Position(S3, stale, "0-0")]) == [False]
    assert await groups(connection, keys, S4) == {f"{B}.r.1": "0-0"}


async def test_a_mailbox_that_has_vanished_is_made_anew(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)
    await connection.execute("DEL", keys.mailbox(S3.label))

    assert await store.regroup(A, "r", 2, [Position(S3, grant.epoch, "0-0")]) == [True]
    assert await groups(connection, keys) == {f"{A}.r.2": "0-0"}


# all of them


async def test_a_script_that_meets_a_wrong_type_has_written_nothing(store: PlacementStore, connection: Connection, keys: Keys) -> None:
    grant = await owned(store, A)
    await store.register(member("b", B), lease=10)
    await connection.execute("DEL", keys.control, keys.timers(S4.label), keys.mailbox(S4.label))
    await connection.execute("SET", keys.control, "no stream")
    await connection.execute("SET", keys.timers(S4.label), "no zset")
    before = await store.records(), await store.members()

    for call in (
        lambda: store.release([(S3, grant.token)]),
        lambda: store.register(member("c", "c" * 16), lease=10),
        lambda: store.assign(0, b"1 x"),
        lambda: store.leave("b", B),
        lambda: store.acquire(A, [Wanted(S4, UNOWNED, "g")]),
    ):
        with pytest.raises(RedisFault):
            await call()
    assert (await store.records(), await store.members()) == before
    assert await store.view() == (before[1], None)
    assert await store.leases([B, "c" * 16]) == {B: True, "c" * 16: False}


async def test_the_probe_tries_every_script_and_leaves_nothing_behind(connection: Connection, keys: Keys) -> None:
    await probe(connection, keys, "f" * 16)

    assert await connection.execute("DBSIZE") == 0


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_server_tells_what_it_is(kind: str, servers: Callable[[str], EmbeddedServer]) -> None:
    connection = await TcpServer.from_url(servers(kind).url).connect("test", timeout=5.0)
    host = await PlacementStore(connection, Keys("bank")).host()
    await connection.close()

    assert host.role == "master"
    assert host.config["maxmemory-policy"] == "noeviction"
    assert host.config["appendonly"] == "no"
    assert "redis_version" in host.info
    assert judge(host, "memory").refusal is None


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_what_a_user_may_not_ask_stays_empty(kind: str, servers: Callable[[str], EmbeddedServer]) -> None:
    connection = await TcpServer.from_url(servers(kind).url).connect("test", timeout=5.0)
    await connection.execute("ACL", "SETUSER", "narrow", "on", ">pw", "~{bank:*", "+@all", "-@dangerous")
    narrow = await TcpServer.from_url(servers(kind).url.replace("//", "//narrow:pw@")).connect("test", timeout=5.0)
    host = await PlacementStore(narrow, Keys("bank")).host()
    await narrow.close()
    await connection.close()

    assert host == Host({}, {}, "")
    assert len(judge(host, "aof").warnings) == 4


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_missing_rights_are_told_with_the_script_that_needs_them(
    kind: str, servers: Callable[[str], EmbeddedServer], keys: Keys
) -> None:
    connection = await TcpServer.from_url(servers(kind).url).connect("test", timeout=5.0)
    await connection.execute("FLUSHALL")
    await connection.execute("ACL", "SETUSER", "narrow", "reset", "on", ">pw", "~{bank:*", "+@all", "-xgroup")
    narrow = await TcpServer.from_url(servers(kind).url.replace("//", "//narrow:pw@")).connect("test", timeout=5.0)
    with pytest.raises(ConfigurationError, match=r"\(acquire\)"):
        await probe(narrow, keys, "f" * 16)
    left = await connection.execute("DBSIZE")
    await narrow.close()
    await connection.close()

    assert left == 0


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_full_server_can_be_joined_taken_over_and_left(kind: str, servers: Callable[[str], EmbeddedServer], keys: Keys) -> None:
    """Else nobody could ever drain it."""
    connection = await TcpServer.from_url(servers(kind).url).connect("test", timeout=5.0)
    await connection.execute("FLUSHALL")
    store = PlacementStore(connection, keys)
    first = await owned(store, A)
    await send(connection, keys)
    await connection.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(OutOfMemory):
            await send(connection, keys)
        await store.register(member("b", B), lease=10)
        assert await store.renew("b", B, lease=10) == Renewed(Found.RENEWED)
        await connection.execute("DEL", keys.lease(B))
        assert await store.renew("b", B, lease=10) == Renewed(Found.REVIVED)
        assert await store.assign(0, b"1 x") is None
        assert await store.record_facts({"a": "1"}) == {"a": "1"}
        await connection.execute("DEL", keys.lease(A))
        second = await owned(store, B, name="b", seen=Record.parse(first.token))
        assert await store.regroup(B, "r", 2, [Position(S3, second.epoch, "0-0")]) == [True]
        assert await store.release([(S3, second.token)]) == [True]
        assert await store.leave("b", B) == ()
        assert await store.prune([member("a", A)]) == ("a",)
    finally:
        await connection.execute("CONFIG", "SET", "maxmemory", "0")
        await connection.close()
