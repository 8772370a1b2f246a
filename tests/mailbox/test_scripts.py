"""What the scripts of messages promise, on every kind of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from actors._mailbox.commit import CLEARED, Effects, Ledger, Limits, Operation, operate, write
from actors._mailbox.outcomes import parse
from actors._redis import scripts
from actors._redis.connection import Argument, Connection
from actors._redis.faults import OutOfMemory
from actors._redis.keys import Keys
from actors.wire.envelope import Envelope, Extra, Kind, decode, encode

KEYS = Keys("bank")
LABEL = "default.3"
OTHER = "default.4"
BOX = KEYS.mailbox(LABEL)
HOLDER = "00000000000000aa 1700000000000000 "
TOKEN = HOLDER + "0 0 0-0"
LIFE = 600_000
LIMITS = Limits(shard_capacity=1000, dead_letter_capacity=1000)


def envelope(key: str = "a", method: str = "m", number: int = 0) -> bytes:
    """Return a message to Account/``key``."""
    return encode(Envelope(1, "Account", key, method, msgspec.Raw(b"\x80"), f"id{number}"))


async def now_ms(redis: Connection) -> int:
    """Redis' time."""
    seconds, micros = await redis.execute("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def entries(redis: Connection, key: str) -> list[bytes]:
    """Return what the entries of a stream hold in their first field."""
    return [fields[1] for _, fields in await redis.execute("XRANGE", key, "-", "+")]


async def ids(redis: Connection, key: str) -> list[bytes]:
    """Return the ids of a stream's entries."""
    return [entry for entry, _ in await redis.execute("XRANGE", key, "-", "+")]


async def hash_of(redis: Connection, key: str) -> dict[bytes, bytes]:
    """Return a hash."""
    flat = await redis.execute("HGETALL", key)
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def everything(redis: Connection) -> dict[bytes, Any]:
    """Return all there is, to see that nothing has changed."""
    found: dict[bytes, Any] = {}
    for key in sorted(await redis.execute("KEYS", "*")):
        kind = await redis.execute("TYPE", key)
        if kind == b"stream":
            found[key] = await redis.execute("XRANGE", key, "-", "+")
        elif kind == b"hash":
            found[key] = await hash_of(redis, key.decode())
        elif kind == b"zset":
            found[key] = await redis.execute("ZRANGE", key, 0, -1, "WITHSCORES")
        else:
            found[key] = await redis.execute("GET", key)
    return found


# ---------------------------------------------------------------------------------------
# send


class Batch:
    """The arguments of one send, put together as the sender does."""

    def __init__(self, sender: str = "s", *, shard: int = 1000, actor: int = 1000, fences: Sequence[tuple[str, str]] = ()) -> None:
        self.keys: list[Any] = [KEYS.sender(sender), KEYS.own, KEYS.backlogs]
        self.args: list[Any] = []
        self._capacities = (shard, actor)
        self._fences = [word for fence in fences for word in fence]

    def _key(self, key: str) -> int:
        self.keys.append(key)
        return len(self.keys)

    def plain(self, payload: bytes, label: str = LABEL) -> Batch:
        self.args += [self._key(KEYS.mailbox(label)), payload]
        return self

    def special(
        self,
        payload: bytes,
        *,
        label: str = LABEL,
        fence: int = 0,
        record: str | None = None,
        prefix: str = "",
        digest: bytes = b"h",
        waiter: str = "",
        life: int = 0,
        message: str = "id",
        due: str | None = None,
    ) -> Batch:
        mailbox = self._key(KEYS.mailbox(label))
        rec = self._key(KEYS.record(record)) if record is not None else 0
        timers = values = 0
        if due is not None:
            timers, values = self._key(KEYS.timers(label)), self._key(KEYS.timer_values(label))
        self.args += ["x", mailbox, payload, label, fence, rec, prefix, digest, waiter, life, message, timers, values, due or ""]
        return self

    def cancel(self, payload: bytes, *, record: str | None = None, waiter: str = "") -> Batch:
        mailbox = self._key(BOX)
        self.args += ["c", mailbox, payload, self._key(KEYS.record(record)) if record is not None else 0, "", waiter]
        return self

    async def send(self, redis: Connection, number: int = 1, *, made: int | None = None, life: int = LIFE) -> Any:
        """Send it; return the outcomes that are not plain, or -1."""
        made = await now_ms(redis) if made is None else made
        head: list[Argument] = [number, made, life, *self._capacities, len(self._fences) // 2, *self._fences]
        reply = await scripts.run(redis, scripts.load("send"), self.keys, [*head, *self.args])
        return reply if isinstance(reply, int) else [(each.index, each.code.value, each.detail) for each in parse(reply)]


async def test_a_batch_is_appended_in_its_order(redis: Connection) -> None:
    """Each message to its own mailbox; nothing is said of what was simply appended."""
    batch = Batch().plain(b"1").plain(b"2", OTHER).plain(b"3")

    assert await batch.send(redis) == []
    assert (await entries(redis, BOX), await entries(redis, KEYS.mailbox(OTHER))) == ([b"1", b"3"], [b"2"])


async def test_the_same_number_gets_the_same_outcomes_and_applies_nothing(redis: Connection) -> None:
    """However often a batch is retried, and whatever has changed since."""
    batch = Batch(shard=1).plain(b"1").plain(b"2")
    first = await batch.send(redis)
    await redis.execute("DEL", BOX)

    assert first == [(1, "full", b"shard 1 1")]
    assert await batch.send(redis) == first
    assert await entries(redis, BOX) == []


async def test_the_next_number_applies(redis: Connection) -> None:
    """And the one before it is stale from then on."""
    await Batch().plain(b"1").send(redis, 1)
    assert await Batch().plain(b"2").send(redis, 2) == []

    before = await everything(redis)
    assert await Batch().plain(b"1").send(redis, 1) == -1
    assert await Batch().plain(b"4").send(redis, 4) == -1
    assert await everything(redis) == before


async def test_a_later_number_without_a_record_is_stale(redis: Connection) -> None:
    """The record has expired: whether the batch was applied is not known any more."""
    assert await Batch().plain(b"2").send(redis, 2) == -1
    assert await everything(redis) == {}


async def test_a_first_number_counts_only_while_its_sender_is_young(redis: Connection) -> None:
    """Else a record that expired would let the same batch in twice."""
    now = await now_ms(redis)

    assert await Batch("old").plain(b"1").send(redis, made=now - LIFE // 2 - 1000) == -1
    assert await Batch("young").plain(b"1").send(redis, made=now - LIFE // 2 + 5000) == []


async def test_a_senders_record_lives_from_its_last_batch(redis: Connection) -> None:
    """And goes by itself."""
    await Batch().plain(b"1").send(redis, 1, life=50_000)
    await redis.execute("PEXPIRE", KEYS.sender("s"), 5)
    await Batch().plain(b"2").send(redis, 2, life=50_000)

    assert 40_000 < await redis.execute("PTTL", KEYS.sender("s")) <= 50_000


async def test_a_full_shard_refuses_what_does_not_fit(redis: Connection) -> None:
    """With scope, limit and depth; what its backlogs hold counts, too."""
    await redis.execute("HSET", KEYS.backlogs, LABEL, 3)
    await redis.execute("XADD", BOX, "*", "d", "x")

    outcomes = await Batch(shard=5).plain(envelope()).plain(envelope()).plain(envelope(), OTHER).send(redis)

    assert outcomes == [(1, "full", b"shard 5 5")]
    assert (await redis.execute("XLEN", BOX), await redis.execute("XLEN", KEYS.mailbox(OTHER))) == (2, 1)


@pytest.mark.parametrize("key", ["k", "k" * 31, "k" * 32, "k" * 255, "k" * 256, "k" * 1024, "ä:ö/{x}"])
async def test_an_actor_whose_backlog_is_full_refuses_alone(redis: Connection, key: str) -> None:
    """Its messages find its backlog, however long the key; others' are taken."""
    await redis.execute("HSET", KEYS.backlogs, LABEL, 2)
    for number in range(2):
        await redis.execute("XADD", KEYS.backlog(LABEL, "Account", key), "*", "d", str(number))

    outcomes = await Batch(actor=2).plain(envelope(key)).plain(envelope("other")).send(redis)

    assert outcomes == [(0, "full", b"actor 2 2")]
    assert [decode(raw).key for raw in await entries(redis, BOX)] == ["other"]


async def test_a_fenced_ask_leaves_only_while_its_shard_is_owned(redis: Connection) -> None:
    """By that incarnation in that epoch; those beside it are not touched by that."""
    await redis.execute("HSET", KEYS.own, LABEL, HOLDER + "17 0 0-0")
    batch = Batch(fences=[(LABEL, HOLDER), (LABEL, "00000000000000aa 16 "), (OTHER, HOLDER)])
    batch.special(b"1", fence=1).special(b"2", fence=2, record="r").special(b"3", fence=3).plain(b"4")

    assert await batch.send(redis) == [(1, "fenced", b""), (2, "fenced", b"")]
    assert await entries(redis, BOX) == [b"1", b"4"]
    assert await redis.execute("EXISTS", KEYS.record("r")) == 0


async def test_an_ask_made_in_a_turn_passes_a_full_shard(redis: Connection) -> None:
    """It is bounded by the turns that make it; refused, it would hold its own shard up."""
    await redis.execute("HSET", KEYS.own, LABEL, TOKEN)
    batch = Batch(shard=1, fences=[(LABEL, HOLDER)]).plain(b"1").special(b"2", fence=1)

    assert await batch.send(redis) == []


async def test_an_idempotency_key_is_running_from_its_first_send(redis: Connection) -> None:
    """A second caller joins it, a third too; nothing runs twice, and both are waited for."""
    await Batch("1").special(b"1", record="r", waiter="in 1", message="id1").send(redis)
    second = await Batch("2").special(b"1", record="r", waiter="in 2", message="id2").send(redis)
    third = await Batch("3").special(b"1", record="r", waiter="other 1", message="id3").send(redis)

    assert second == third == [(0, "joined", b"id1")]
    assert await entries(redis, BOX) == [b"1"]
    assert await hash_of(redis, KEYS.record("r")) == {b"h": b"h", b"i": b"id1", b"w": b"in 1\nin 2\nother 1\n"}
    assert await redis.execute("PTTL", KEYS.record("r")) == -1


async def test_a_waiter_that_joins_twice_is_answered_once(redis: Connection) -> None:
    """The same call, sent again under another number."""
    await Batch("1").special(b"1", record="r", waiter="in 1").send(redis)
    await Batch("2").special(b"1", record="r", waiter="in 1").send(redis)

    assert (await hash_of(redis, KEYS.record("r")))[b"w"] == b"in 1\n"


async def test_a_tell_joins_without_waiting(redis: Connection) -> None:
    """It has nobody to be answered."""
    await Batch("1").special(b"1", record="r", message="id1").send(redis)

    assert await Batch("2").special(b"1", record="r").send(redis) == [(0, "joined", b"id1")]
    assert (await hash_of(redis, KEYS.record("r")))[b"w"] == b""


async def test_a_key_that_is_done_gives_its_answer(redis: Connection) -> None:
    """With the first message's id, whatever bytes the answer has."""
    answer = b"\x00 \n7:\xff"
    await redis.execute("HSET", KEYS.record("r"), "h", "h", "i", "id1", "s", answer)

    assert await Batch().special(b"1", record="r", waiter="in 1").send(redis) == [(0, "done", b"id1 " + answer)]
    assert await entries(redis, BOX) == []


async def test_a_key_used_for_something_else_is_a_conflict(redis: Connection) -> None:
    """Running or done."""
    await Batch("1").special(b"1", record="r", message="id1").send(redis)

    assert await Batch("2").special(b"2", record="r", digest=b"other").send(redis) == [(0, "conflict", b"id1")]
    await redis.execute("HSET", KEYS.record("r"), "s", "answer")
    assert await Batch("3").special(b"2", record="r", digest=b"other").send(redis) == [(0, "conflict", b"id1")]


async def test_the_same_key_twice_in_one_batch_runs_once(redis: Connection) -> None:
    """The second joins the first."""
    batch = Batch().special(b"1", record="r", message="id1").special(b"1", record="r", message="id2")

    assert await batch.send(redis) == [(1, "joined", b"id1")]
    assert await entries(redis, BOX) == [b"1"]


async def test_a_key_whose_message_was_refused_is_still_free(redis: Connection) -> None:
    """A full shard must not leave a record that nobody ever completes."""
    batch = Batch(shard=1).plain(b"1").special(b"2", record="r")

    assert await batch.send(redis) == [(1, "full", b"shard 1 1")]
    assert await redis.execute("EXISTS", KEYS.record("r")) == 0


async def test_asks_of_one_parent_share_a_record_that_expires(redis: Connection) -> None:
    """Told apart by their prefixes."""
    batch = Batch().special(b"1", record="q:p", prefix="a1:", waiter="in 1", life=5000)
    batch.special(b"2", record="q:p", prefix="b1:", waiter="in 2", life=5000)
    await batch.send(redis)

    assert set(await hash_of(redis, KEYS.record("q:p"))) == {b"a1:h", b"a1:i", b"a1:w", b"b1:h", b"b1:i", b"b1:w"}
    assert 0 < await redis.execute("PTTL", KEYS.record("q:p")) <= 5000


async def test_a_delayed_message_waits_among_the_timers(redis: Connection) -> None:
    """Due by Redis' clock, counted from its arrival or given; the owner is nudged when it is the first."""
    now = await now_ms(redis)
    batch = Batch().special(b"late", message="late", due="+60000").special(b"soon", message="soon", due=str(now + 1000))
    batch.special(b"later", message="later", due="+70000")

    assert await batch.send(redis) == []
    order = await redis.execute("ZRANGE", KEYS.timers(LABEL), 0, -1, "WITHSCORES")
    assert order[::2] == [b"soon", b"late", b"later"]
    assert 0 <= float(order[3]) - now - 60_000 < 5_000
    assert await hash_of(redis, KEYS.timer_values(LABEL)) == {b"late": b"late", b"soon": b"soon", b"later": b"later"}
    assert [decode(raw).kind for raw in await entries(redis, BOX)] == [Kind.NUDGE, Kind.NUDGE]


async def test_a_call_is_cancelled_when_its_last_waiter_has_gone(redis: Connection) -> None:
    """Until then it is kept for the others."""
    cancel = encode(Envelope(1, "Account", "a", "m", msgspec.Raw(b"\x80"), "id1", extra=Extra(kind=Kind.CANCEL)))
    await Batch("1").special(b"1", record="r", waiter="in 1").send(redis)
    await Batch("2").special(b"1", record="r", waiter="in 2").send(redis)

    assert await Batch("3").cancel(cancel, record="r", waiter="in 1").send(redis) == [(0, "kept", b"")]
    assert (await hash_of(redis, KEYS.record("r")))[b"w"] == b"in 2\n"
    assert await Batch("4").cancel(cancel, record="r", waiter="in 2").send(redis) == []
    assert await entries(redis, BOX) == [b"1", cancel]


async def test_a_cancellation_of_what_is_done_is_kept_back(redis: Connection) -> None:
    """Nobody waits, and nothing runs."""
    await redis.execute("HSET", KEYS.record("r"), "h", "h", "i", "id1", "s", "answer")

    assert await Batch().cancel(b"c", record="r", waiter="in 1").send(redis) == [(0, "kept", b"")]
    assert await entries(redis, BOX) == []


async def test_a_cancellation_without_a_key_is_passed_on(redis: Connection) -> None:
    """Also past a full shard."""
    await redis.execute("XADD", BOX, "*", "d", "1")

    assert await Batch(shard=1).cancel(b"c", waiter="in 1").send(redis) == []
    assert await entries(redis, BOX) == [b"1", b"c"]


@pytest.mark.parametrize("kind", ["plain", "keyed", "delayed", "cancel"])
async def test_a_full_server_refuses_a_batch_whole(real_redis: Connection, kind: str) -> None:
    """Nothing of it is stored, its number is still free, and once there is room it applies."""
    redis = real_redis
    await Batch().plain(b"0").send(redis, 1)
    batch = Batch()
    if kind == "plain":
        batch.plain(b"1").plain(b"2", OTHER)
    elif kind == "keyed":
        batch.special(b"1", record="r").plain(b"2")
    elif kind == "delayed":
        batch.special(b"1", due="+1000").plain(b"2")
    else:
        batch.cancel(b"1").plain(b"2")
    before = await everything(redis)
    await redis.execute("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(OutOfMemory):
        await batch.send(redis, 2)
    assert await everything(redis) == before

    await redis.execute("CONFIG", "SET", "maxmemory", 0)
    assert await batch.send(redis, 2) == []


# ---------------------------------------------------------------------------------------
# commit


class Owner:
    """A shard as its owner commits to it."""

    def __init__(self, redis: Connection, label: str = LABEL, limits: Limits = LIMITS) -> None:
        self.redis = redis
        self.ledger = Ledger(label, KEYS.mailbox(label), TOKEN)
        self._limits = limits

    async def own(self) -> Owner:
        """Write the record that its acquire would."""
        await self.redis.execute("HSET", KEYS.own, self.ledger.label, self.ledger.token)
        return self

    async def commit(self, *effects: Effects, moves_on: bool = True) -> bytes:
        """Commit; go on to the next sequence when that was applied."""
        return await commit(self.redis, [(self, effects)], self._limits, moves_on=moves_on)

    async def message(self, payload: bytes = b"in") -> bytes:
        """Put a message into the mailbox; return its entry."""
        entry: bytes = await self.redis.execute("XADD", self.ledger.mailbox, "*", "d", payload)
        return entry


async def commit(
    redis: Connection, parts: Sequence[tuple[Owner, Sequence[Effects]]], limits: Limits = LIMITS, *, moves_on: bool = True
) -> bytes:
    """Commit the parts of several shards in one call."""
    keys, args = write([(owner.ledger, effects) for owner, effects in parts], KEYS, limits)
    answer: bytes = await scripts.run(redis, scripts.load("commit"), keys, args)
    if moves_on:
        for (owner, _), digit in zip(parts, answer[: len(parts)], strict=True):
            owner.ledger.sequence += digit in b"01"
    return answer


def turn(
    entry: bytes | None = None,
    *,
    state: bytes | None = None,
    tells: Sequence[tuple[str, bytes]] = (),
    reply: tuple[str, int, bytes] | None = None,
) -> Effects:
    """Return the effects of a turn."""
    effects = Effects(entry)
    if state is not None:
        effects.state_key, effects.state = KEYS.state("Account", "a"), state
    if tells:
        effects.tells = list(tells)
    if reply is not None:
        effects.inbox, effects.call, effects.answer = KEYS.inbox(reply[0]), reply[1], reply[2]
    return effects


async def inbox(redis: Connection, client: str = "in") -> None:
    """Create a client's inbox."""
    await redis.execute("XGROUP", "CREATE", KEYS.inbox(client), "-", "0", "MKSTREAM")


async def test_a_turn_becomes_real_in_one_step(redis: Connection) -> None:
    """Its message is gone, its state stands, its tells have left, its asker has the answer."""
    owner = await Owner(redis).own()
    await inbox(redis)
    entry = await owner.message()

    assert await owner.commit(turn(entry, state=b"S", tells=[(OTHER, b"t1"), (OTHER, b"t2")], reply=("in", 7, b"A"))) == b"0"
    assert await entries(redis, BOX) == []
    assert await redis.execute("GET", KEYS.state("Account", "a")) == b"S"
    assert await entries(redis, KEYS.mailbox(OTHER)) == [b"t1", b"t2"]
    assert [fields for _, fields in await redis.execute("XRANGE", KEYS.inbox("in"), "-", "+")] == [[b"7", b"A"]]
    assert await redis.execute("HGET", KEYS.own, LABEL) == (HOLDER + "1 0 0-0").encode()


async def test_a_commit_sent_again_is_known_again(redis: Connection) -> None:
    """Nothing happens twice, and it counts as applied."""
    owner = await Owner(redis).own()
    await inbox(redis)
    effects = turn(await owner.message(), state=b"S", tells=[(OTHER, b"t")], reply=("in", 7, b"A"))
    assert await owner.commit(effects, moves_on=False) == b"0"

    before = await everything(redis)
    assert await owner.commit(effects, moves_on=False) == b"1"
    assert await everything(redis) == before


@pytest.mark.parametrize(
    ("record", "digit"),
    [
        (None, b"2"),
        ("- 1700000000000000 0 1 0-0", b"2"),
        ("00000000000000bb 1700000000000000 0 0 0-0", b"2"),
        ("00000000000000aa 1700000000000001 0 0 0-0", b"2"),
        (HOLDER + "2 0 0-0", b"3"),
        (HOLDER + "0 0 5-0", b"3"),
    ],
)
async def test_a_former_owners_commit_changes_nothing(redis: Connection, record: str | None, digit: bytes) -> None:
    """Released, another's, another epoch's: fenced. The same epoch at another place: history was lost."""
    owner = Owner(redis)
    await inbox(redis)
    if record is not None:
        await redis.execute("HSET", KEYS.own, LABEL, record)
    entry = await owner.message()
    before = await everything(redis)

    assert await owner.commit(turn(entry, state=b"S", tells=[(OTHER, b"t")], reply=("in", 7, b"A"))) == digit
    assert await everything(redis) == before


async def test_each_shards_part_stands_for_itself(redis: Connection) -> None:
    """The fenced one between two others is left out whole, with all its kinds of operations."""
    first, middle, last = await Owner(redis, "default.1").own(), Owner(redis, "default.2"), await Owner(redis, "default.3").own()
    parts: list[tuple[Owner, list[Effects]]] = []
    for owner in (first, middle, last):
        effects = Effects(await owner.message())
        effects.state_key, effects.state = KEYS.state("Account", owner.ledger.label), b"S"
        effects.tells = [(OTHER, owner.ledger.label.encode())]
        operate(effects, "G", (KEYS.streams(owner.ledger.label),), "1-1", "in 1")
        parts.append((owner, [effects]))

    assert await commit(redis, parts) == b"020"
    assert await entries(redis, KEYS.mailbox(OTHER)) == [b"default.1", b"default.3"]
    assert [await redis.execute("EXISTS", KEYS.state("Account", f"default.{i}")) for i in (1, 2, 3)] == [1, 0, 1]
    assert [await redis.execute("EXISTS", KEYS.streams(f"default.{i}")) for i in (1, 2, 3)] == [1, 0, 1]
    assert [await redis.execute("XLEN", owner.ledger.mailbox) for owner in (first, middle, last)] == [0, 1, 0]


async def test_a_part_applied_before_is_passed_over(redis: Connection) -> None:
    """While the one beside it, which was not, applies."""
    done, open_ = await Owner(redis, "default.1").own(), await Owner(redis, "default.2").own()
    parts = [(done, [turn(tells=[(OTHER, b"1")])]), (open_, [turn(tells=[(OTHER, b"2")])])]
    await redis.execute("HSET", KEYS.own, "default.1", done.ledger.following)

    assert await commit(redis, parts) == b"10"
    assert await entries(redis, KEYS.mailbox(OTHER)) == [b"2"]


async def test_a_later_turns_state_stands_for_the_earlier_ones(redis: Connection) -> None:
    """Also where one of them cleared it."""
    owner = await Owner(redis).own()
    cleared = turn()
    cleared.state_key, cleared.state = KEYS.state("Account", "a"), CLEARED

    await owner.commit(turn(state=b"1"), turn(state=b"2"))
    assert await redis.execute("GET", KEYS.state("Account", "a")) == b"2"
    await owner.commit(turn(state=b"3"), cleared)
    assert await redis.execute("EXISTS", KEYS.state("Account", "a")) == 0
    await owner.commit(cleared, turn(state=b"4"))
    assert await redis.execute("GET", KEYS.state("Account", "a")) == b"4"


async def test_a_state_may_expire(redis: Connection) -> None:
    """Counted anew from each change; one without a limit lives on."""
    owner = await Owner(redis).own()
    expiring = turn(state=b"1")
    expiring.state_ttl_ms = 5000
    await owner.commit(expiring)
    assert 0 < await redis.execute("PTTL", KEYS.state("Account", "a")) <= 5000

    await owner.commit(turn(state=b"2"))
    assert await redis.execute("PTTL", KEYS.state("Account", "a")) == -1


async def test_answers_to_one_client_are_one_entry(redis: Connection) -> None:
    """In their order; another client's are another."""
    owner = await Owner(redis).own()
    await inbox(redis, "one")
    await inbox(redis, "two")
    await owner.commit(turn(reply=("one", 1, b"A")), turn(reply=("two", 5, b"B")), turn(reply=("one", 2, b"C")))

    assert [fields for _, fields in await redis.execute("XRANGE", KEYS.inbox("one"), "-", "+")] == [[b"1", b"A", b"2", b"C"]]
    assert [fields for _, fields in await redis.execute("XRANGE", KEYS.inbox("two"), "-", "+")] == [[b"5", b"B"]]


async def test_an_inbox_that_has_gone_is_not_created_again(redis: Connection) -> None:
    """A dead client leaves nothing behind; the turn is real all the same."""
    owner = await Owner(redis).own()

    assert await owner.commit(turn(await owner.message(), state=b"S", reply=("gone", 1, b"A"))) == b"0"
    assert await redis.execute("EXISTS", KEYS.inbox("gone")) == 0
    assert await redis.execute("GET", KEYS.state("Account", "a")) == b"S"


async def test_what_a_full_shard_does_not_take_is_set_aside(redis: Connection) -> None:
    """A commit is never refused because of its target; the shard's backlogs count, too."""
    owner = await Owner(redis, limits=Limits(shard_capacity=5, dead_letter_capacity=1000)).own()
    await redis.execute("HSET", KEYS.backlogs, OTHER, 3)

    assert await owner.commit(turn(tells=[(OTHER, f"t{i}".encode()) for i in range(4)])) == f"0\n{OTHER} 5".encode()
    assert await entries(redis, KEYS.mailbox(OTHER)) == [b"t0", b"t1"]
    letters = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in await redis.execute("XRANGE", KEYS.dead, "-", "+")]
    assert [(letter[b"d"], letter[b"r"], letter[b"s"]) for letter in letters] == [
        (b"t2", b"mailbox_full", OTHER.encode()),
        (b"t3", b"mailbox_full", OTHER.encode()),
    ]


async def test_a_commit_tells_which_of_its_targets_are_full(redis: Connection) -> None:
    """With the depth it saw, once each: whoever sends there next is told at once."""
    owner = await Owner(redis, limits=Limits(shard_capacity=2, dead_letter_capacity=1000)).own()
    tells = [(OTHER, b"1"), (OTHER, b"2"), (OTHER, b"3"), (OTHER, b"4"), ("default.5", b"5")]
    keys, args = write([(owner.ledger, [turn(tells=tells)])], KEYS, Limits(shard_capacity=2, dead_letter_capacity=9))

    assert await scripts.run(redis, scripts.load("commit"), keys, args) == b"0\n" + OTHER.encode() + b" 2"


async def test_what_redis_refuses_in_mid_commit_is_told_and_the_rest_stands(redis: Connection) -> None:
    """Here keys that hold something else: what was written before cannot be taken back, so the sequence moves on."""
    owner = await Owner(redis).own()
    await redis.execute("SET", KEYS.inbox("in"), "no stream")
    await redis.execute("SET", KEYS.streams(LABEL), "no hash")
    effects = turn(await owner.message(), state=b"S", tells=[(OTHER, b"t")], reply=("in", 1, b"A"))
    operate(effects, "G", (KEYS.streams(LABEL),), "1-1", "in 1")
    keys, args = write([(owner.ledger, [effects])], KEYS, LIMITS)
    status, *problems = (await scripts.run(redis, scripts.load("commit"), keys, args)).split(b"\n")

    assert status == b"0"
    assert [problem[:2] for problem in problems] == [b"! ", b"! "]
    assert all(b"WRONGTYPE" in problem for problem in problems)
    assert (await entries(redis, BOX), await entries(redis, KEYS.mailbox(OTHER))) == ([], [b"t"])
    assert await redis.execute("GET", KEYS.state("Account", "a")) == b"S"
    assert await redis.execute("HGET", KEYS.own, LABEL) == owner.ledger.following.encode()


async def test_a_full_shard_whose_turns_tell_it_drains(redis: Connection) -> None:
    """What a turn handles is gone before what it sends is counted."""
    owner = await Owner(redis, limits=Limits(shard_capacity=2, dead_letter_capacity=1000)).own()
    handled = [await owner.message(), await owner.message()]
    await owner.commit(*(turn(entry, tells=[(LABEL, b"t")]) for entry in handled))

    assert await entries(redis, BOX) == [b"t", b"t"]
    assert await redis.execute("EXISTS", KEYS.dead) == 0


async def test_the_oldest_dead_letter_goes_and_is_counted(redis: Connection) -> None:
    """Their number is bounded; how many went is known."""
    owner = await Owner(redis, limits=Limits(shard_capacity=1000, dead_letter_capacity=3)).own()
    effects = Effects(None)
    for number in range(5):
        operate(effects, "Z", (KEYS.dead, KEYS.dead_lost), 3, "d", str(number), "r", "x")
    await owner.commit(effects)

    assert await entries(redis, KEYS.dead) == [b"2", b"3", b"4"]
    assert await redis.execute("GET", KEYS.dead_lost) == b"2"


async def test_a_full_server_can_still_be_drained(real_redis: Connection) -> None:
    """The whole commit runs to its end at the memory limit, whatever it writes."""
    redis = real_redis
    owner = await Owner(redis).own()
    await inbox(redis)
    effects = turn(await owner.message(), state=b"S" * 1000, tells=[(OTHER, b"t")], reply=("in", 1, b"A"))
    operate(effects, "Z", (KEYS.dead, KEYS.dead_lost), 10, "d", b"x", "r", "x")
    operate(effects, "L", (KEYS.timers(LABEL), KEYS.timer_values(LABEL), BOX), "+1000", "id", b"later")
    await redis.execute("CONFIG", "SET", "maxmemory", 1)

    assert await owner.commit(effects) == b"0"
    assert await owner.commit(turn(state=b"T")) == b"0"
    assert await redis.execute("GET", KEYS.state("Account", "a")) == b"T"
    assert (await redis.execute("XLEN", KEYS.mailbox(OTHER)), await redis.execute("XLEN", KEYS.inbox("in"))) == (1, 1)


def complete(prefix: str, ttl: int, body: bytes, record: str = "r") -> Effects:
    """Return effects that complete an idempotency record."""
    effects = Effects(None)
    operate(effects, "K", (KEYS.record(record),), prefix, ttl, body)
    return effects


async def test_a_completed_key_answers_its_waiters_and_keeps_the_answer(redis: Connection) -> None:
    """For its time to live, counted from now."""
    owner = await Owner(redis).own()
    await inbox(redis, "in")
    await Batch("1").special(b"1", record="r", waiter="in 1", message="id1").send(redis)
    await Batch("2").special(b"1", record="r", waiter="in 2").send(redis)
    await Batch("3").special(b"1", record="r", waiter="gone 3").send(redis)
    await owner.commit(complete("", 9000, b"A"))

    assert [fields for _, fields in await redis.execute("XRANGE", KEYS.inbox("in"), "-", "+")] == [[b"1", b"A", b"2", b"A"]]
    assert await redis.execute("EXISTS", KEYS.inbox("gone")) == 0
    assert await hash_of(redis, KEYS.record("r")) == {b"h": b"h", b"i": b"id1", b"s": b"A"}
    assert 0 < await redis.execute("PTTL", KEYS.record("r")) <= 9000
    assert await Batch("4").special(b"1", record="r", waiter="in 4").send(redis) == [(0, "done", b"id1 A")]


async def test_a_key_whose_call_ended_otherwise_is_free_again(redis: Connection) -> None:
    """Expired, cancelled, set aside: its waiters are told in the same step."""
    owner = await Owner(redis).own()
    await inbox(redis, "in")
    await Batch("1").special(b"1", record="r", waiter="in 1").send(redis)
    await owner.commit(complete("", 0, b"sorry"))

    assert [fields for _, fields in await redis.execute("XRANGE", KEYS.inbox("in"), "-", "+")] == [[b"1", b"sorry"]]
    assert await redis.execute("EXISTS", KEYS.record("r")) == 0


async def test_one_ask_of_a_parent_is_completed_without_the_others(redis: Connection) -> None:
    """They share a record under prefixes."""
    owner = await Owner(redis).own()
    await inbox(redis, "in")
    batch = Batch().special(b"1", record="q:p", prefix="a1:", waiter="in 1", life=5000)
    await batch.special(b"2", record="q:p", prefix="b1:", waiter="in 2", life=5000).send(redis)
    await owner.commit(complete("a1:", 9000, b"A", "q:p"))

    record = await hash_of(redis, KEYS.record("q:p"))
    assert (record[b"a1:s"], record[b"b1:w"], b"b1:s" in record) == (b"A", b"in 2\n", False)


async def test_a_key_nobody_knows_any_more_stays_unknown(redis: Connection) -> None:
    """Its record was dropped or has expired: completing it must not bring half of it back."""
    owner = await Owner(redis).own()
    await owner.commit(complete("", 9000, b"A"))

    assert await redis.execute("EXISTS", KEYS.record("r")) == 0


async def test_any_number_of_waiters_is_answered(redis: Connection) -> None:
    """More than Lua takes as arguments of one call."""
    owner = await Owner(redis).own()
    await inbox(redis, "in")
    await redis.execute("HSET", KEYS.record("r"), "h", "h", "i", "id", "w", "".join(f"in {i}\n" for i in range(9000)))
    await owner.commit(complete("", 9000, b"A"))

    answered = [fields[::2] for _, fields in await redis.execute("XRANGE", KEYS.inbox("in"), "-", "+")]
    assert [int(call) for calls in answered for call in calls] == list(range(9000))


async def test_a_turns_delayed_tells_wait_among_the_timers(redis: Connection) -> None:
    """And nudge the owner of their shard when they are its first."""
    owner = await Owner(redis).own()
    effects = Effects(None)
    timers = (KEYS.timers(OTHER), KEYS.timer_values(OTHER), KEYS.mailbox(OTHER))
    operate(effects, "L", timers, "+60000", "late", b"late")
    operate(effects, "L", timers, "+1000", "soon", b"soon")
    operate(effects, "L", timers, "+90000", "later", b"later")
    await owner.commit(effects)

    assert await redis.execute("ZRANGE", KEYS.timers(OTHER), 0, -1) == [b"soon", b"late", b"later"]
    assert [decode(raw).kind for raw in await entries(redis, KEYS.mailbox(OTHER))] == [Kind.NUDGE, Kind.NUDGE]


def under_key(payload: bytes, digest: bytes = b"h", message: str = "id1", due: str = "", capacity: int = 1000) -> Operation:
    """Return a tell under an idempotency key."""
    stored = (KEYS.mailbox(OTHER), KEYS.record("r"), KEYS.timers(OTHER), KEYS.timer_values(OTHER), KEYS.dead, KEYS.dead_lost, KEYS.backlogs)
    return ("I", stored, (payload, digest, message, due, 1000, OTHER, capacity))


def keyed(payload: bytes, digest: bytes = b"h", message: str = "id1", due: str = "") -> Effects:
    """Return effects with a tell under an idempotency key."""
    effects = Effects(None)
    effects.tells = [(OTHER, under_key(payload, digest, message, due))]
    return effects


async def test_a_turns_tell_under_a_key_is_sent_once(redis: Connection) -> None:
    """A second one of the same content is nothing, one of another content is set aside."""
    owner = await Owner(redis).own()
    await owner.commit(keyed(b"1", b"h", "id1"))
    await owner.commit(keyed(b"1", b"h", "id2"))
    await owner.commit(keyed(b"2", b"other", "id3"))

    assert await entries(redis, KEYS.mailbox(OTHER)) == [b"1"]
    assert await entries(redis, KEYS.dead) == [b"2"]
    assert (await hash_of(redis, KEYS.record("r")))[b"i"] == b"id1"


async def test_a_turns_tells_keep_their_order_with_and_without_keys(redis: Connection) -> None:
    """Within the turn, and from one turn to the next."""
    owner = await Owner(redis).own()
    first, second = turn(tells=[(OTHER, b"1")]), turn(tells=[(OTHER, b"3"), (OTHER, b"4")])
    assert first.tells is not None
    first.tells.append((OTHER, under_key(b"2")))
    await owner.commit(first, second)

    assert await entries(redis, KEYS.mailbox(OTHER)) == [b"1", b"2", b"3", b"4"]


async def test_a_tell_under_a_key_that_a_full_shard_does_not_take_is_set_aside(redis: Connection) -> None:
    """Like any other; its key is still free."""
    owner = await Owner(redis, limits=Limits(shard_capacity=2, dead_letter_capacity=1000)).own()
    await redis.execute("HSET", KEYS.backlogs, OTHER, 1)
    effects = turn(tells=[(OTHER, b"1")])
    assert effects.tells is not None
    effects.tells.append((OTHER, under_key(b"2", capacity=2)))
    await owner.commit(effects)

    assert await entries(redis, KEYS.mailbox(OTHER)) == [b"1"]
    assert await entries(redis, KEYS.dead) == [b"2"]
    assert await redis.execute("EXISTS", KEYS.record("r")) == 0


async def test_a_turns_tell_under_a_key_may_be_delayed(redis: Connection) -> None:
    """The key counts from now."""
    owner = await Owner(redis).own()
    await owner.commit(keyed(b"1", b"h", "id1", "+1000"))
    await owner.commit(keyed(b"1", b"h", "id2"))

    assert await hash_of(redis, KEYS.timer_values(OTHER)) == {b"id1": b"1"}


def move(entries_: Sequence[tuple[bytes, bytes]], held: str = "0 0") -> Effects:
    """Return effects that move messages of Account/a to its backlog."""
    effects = Effects(None)
    keys = (BOX, KEYS.backlog(LABEL, "Account", "a"), KEYS.held(LABEL), KEYS.backlogs)
    operate(effects, "B", keys, LABEL, "Account:a", held, *(part for entry in entries_ for part in entry))
    return effects


def done(*entries_: bytes) -> Effects:
    """Return effects that take handled messages out of the backlog."""
    effects = Effects(None)
    keys = (KEYS.backlog(LABEL, "Account", "a"), KEYS.held(LABEL), KEYS.backlogs)
    operate(effects, "b", keys, LABEL, "Account:a", *entries_)
    return effects


async def test_a_message_moves_to_the_backlog_under_its_own_id(redis: Connection) -> None:
    """So that the order of all messages stays what it was; the actor is held from then on."""
    owner = await Owner(redis).own()
    first, second, third = [await owner.message(f"{i}".encode()) for i in range(3)]
    await owner.commit(move([(first, b"0"), (third, b"2")], "170 1"))

    assert await ids(redis, BOX) == [second]
    assert await ids(redis, KEYS.backlog(LABEL, "Account", "a")) == [first, third]
    assert await hash_of(redis, KEYS.held(LABEL)) == {b"Account:a": b"170 1"}
    assert await hash_of(redis, KEYS.backlogs) == {LABEL.encode(): b"2"}


async def test_a_message_that_is_gone_moves_nowhere(redis: Connection) -> None:
    """Whoever deleted it meant it."""
    owner = await Owner(redis).own()
    kept, gone = await owner.message(), await owner.message()
    await redis.execute("XDEL", BOX, gone)
    await owner.commit(move([(kept, b"k"), (gone, b"g")]))

    assert await entries(redis, KEYS.backlog(LABEL, "Account", "a")) == [b"k"]
    assert (await hash_of(redis, KEYS.backlogs))[LABEL.encode()] == b"1"


async def test_an_emptied_backlog_leaves_nothing(redis: Connection) -> None:
    """Stream, held record and count go with its last message."""
    owner = await Owner(redis).own()
    first, second = await owner.message(), await owner.message()
    await owner.commit(move([(first, b"1"), (second, b"2")]))
    await owner.commit(done(first))
    assert await hash_of(redis, KEYS.backlogs) == {LABEL.encode(): b"1"}
    assert await redis.execute("HEXISTS", KEYS.held(LABEL), "Account:a") == 1

    await owner.commit(done(second))
    left = {KEYS.backlog(LABEL, "Account", "a"), KEYS.held(LABEL), KEYS.backlogs}
    assert await redis.execute("EXISTS", *left) == 0


async def test_a_message_may_move_and_be_done_in_one_commit(redis: Connection) -> None:
    """The operations keep their order."""
    owner = await Owner(redis).own()
    first, second = await owner.message(), await owner.message()
    await owner.commit(move([(first, b"1"), (second, b"2")]), done(first))

    assert await ids(redis, KEYS.backlog(LABEL, "Account", "a")) == [second]


async def test_an_actors_wait_is_noted_while_it_is_held(redis: Connection) -> None:
    """One whose backlog has been emptied meanwhile is not made held again."""
    owner = await Owner(redis).own()
    effects = Effects(None)
    operate(effects, "H", (KEYS.held(LABEL),), "Account:a", "170 2")
    await owner.commit(effects)
    assert await redis.execute("EXISTS", KEYS.held(LABEL)) == 0

    await owner.commit(move([(await owner.message(), b"1")]), effects)
    assert await hash_of(redis, KEYS.held(LABEL)) == {b"Account:a": b"170 2"}


def park(payload: bytes, capacity: int) -> Effects:
    """Return effects that park a message."""
    effects = Effects(None)
    operate(
        effects, "P", (KEYS.parked, KEYS.dead, KEYS.dead_lost), capacity, 1000, "d", payload, "s", LABEL, "k", "A.m", "i", "1-1", "t", 1
    )
    return effects


async def test_the_parked_are_bounded(redis: Connection) -> None:
    """What does not fit any more is set aside."""
    owner = await Owner(redis).own()
    await owner.commit(park(b"1", 2), park(b"2", 2), park(b"3", 2))

    assert await entries(redis, KEYS.parked) == [b"1", b"2"]
    ((_, letter),) = await redis.execute("XRANGE", KEYS.dead, "-", "+")
    assert (letter[1], letter[letter.index(b"r") + 1]) == (b"3", b"parked_full")


async def test_marks_and_streams_come_and_go(redis: Connection) -> None:
    """The shard's own bookkeeping."""
    owner = await Owner(redis).own()
    await redis.execute("HSET", KEYS.marks(LABEL), "1-1", "1 5", "1-2", "1 5", "1-3", "1 5")
    effects = Effects(None)
    operate(effects, "M", (KEYS.marks(LABEL),), "1-1", "1-3")
    operate(effects, "G", (KEYS.streams(LABEL),), "1-4", "in 1")
    operate(effects, "G", (KEYS.streams(LABEL),), "1-5", "in 2")
    operate(effects, "g", (KEYS.streams(LABEL),), "1-4")
    operate(effects, "E", (KEYS.record("q:1"), KEYS.record("q:2")))
    await redis.execute("HSET", KEYS.record("q:1"), "h", "h")
    await owner.commit(effects)

    assert await hash_of(redis, KEYS.marks(LABEL)) == {b"1-2": b"1 5"}
    assert await hash_of(redis, KEYS.streams(LABEL)) == {b"1-5": b"in 2"}
    assert await redis.execute("EXISTS", KEYS.record("q:1")) == 0


# ---------------------------------------------------------------------------------------
# mark, fire, stream_item, put_back, expire_parked


async def mark(redis: Connection, holder: str, *entries_: bytes) -> Any:
    """Mark suspects."""
    epoch = holder.split()[1]
    backlog = KEYS.backlog(LABEL, "Account", "a")
    keys = [KEYS.own, KEYS.marks(LABEL), BOX, *[backlog for _ in entries_]]
    return await scripts.run(redis, scripts.load("mark"), keys, [LABEL, holder, epoch, *entries_])


async def test_a_mark_counts_once_per_epoch(redis: Connection) -> None:
    """So that marking may be repeated; the next owner's mark is one more."""
    owner = await Owner(redis).own()
    entry = await owner.message()
    assert await mark(redis, HOLDER, entry) == [1]
    assert await mark(redis, HOLDER, entry) == [1]

    later = "00000000000000bb 1700000000000009 "
    await redis.execute("HSET", KEYS.own, LABEL, later + "0 0 0-0")
    assert await mark(redis, later, entry) == [2]
    assert await hash_of(redis, KEYS.marks(LABEL)) == {entry: b"2 1700000000000009"}


async def test_only_what_still_exists_is_marked(redis: Connection) -> None:
    """In the mailbox or in the backlog."""
    owner = await Owner(redis).own()
    moved, here, gone = await owner.message(), await owner.message(), await owner.message()
    await owner.commit(move([(moved, b"m")]))
    await redis.execute("XDEL", BOX, gone)

    assert await mark(redis, HOLDER, moved, gone, here) == [1, 0, 1]
    assert set(await hash_of(redis, KEYS.marks(LABEL))) == {moved, here}


async def test_a_former_owner_marks_nothing(redis: Connection) -> None:
    """What it believes of its suspects is of the past."""
    owner = await Owner(redis).own()
    entry = await owner.message()

    assert await mark(redis, "00000000000000aa 1699999999999999 ", entry) == [b"fenced"]
    assert await redis.execute("EXISTS", KEYS.marks(LABEL)) == 0


async def fire(redis: Connection, holder: str = HOLDER, at_most: int = 200) -> Any:
    """Fire what is due."""
    keys = [KEYS.own, KEYS.timers(LABEL), KEYS.timer_values(LABEL), BOX]
    return await scripts.run(redis, scripts.load("fire"), keys, [LABEL, holder, at_most])


async def test_what_is_due_moves_to_the_mailbox_once(redis: Connection) -> None:
    """In the order in which it was due; the next due time is told."""
    await Owner(redis).own()
    now = await now_ms(redis)
    batch = Batch().special(b"b", message="2", due=str(now - 10)).special(b"a", message="1", due=str(now - 20))
    await batch.special(b"c", message="3", due=str(now + 60_000)).send(redis)
    await redis.execute("DEL", BOX)

    moved, following, told = await fire(redis)
    assert (moved, int(following)) == (2, now + 60_000)
    assert 0 <= int(told) - now < 10_000
    assert await entries(redis, BOX) == [b"a", b"b"]
    assert (await fire(redis))[0] == 0
    assert await hash_of(redis, KEYS.timer_values(LABEL)) == {b"3": b"c"}


async def test_a_flood_of_timers_is_fired_in_pieces(redis: Connection) -> None:
    """One that is due already is told as the next."""
    await Owner(redis).own()
    now = await now_ms(redis)
    batch = Batch()
    for number in range(5):
        batch.special(str(number).encode(), message=str(number), due=str(now - 100 + number))
    await batch.send(redis)

    moved, following, _ = await fire(redis, at_most=3)
    assert (moved, int(following)) == (3, now - 97)
    assert (await fire(redis, at_most=3))[:2] == [2, b""]
    assert await redis.execute("EXISTS", KEYS.timers(LABEL), KEYS.timer_values(LABEL)) == 0


async def test_a_former_owner_fires_nothing(redis: Connection) -> None:
    """The present one does."""
    await Batch().special(b"a", message="1", due="1").send(redis)

    assert await fire(redis) == [b"fenced"]
    assert await redis.execute("ZCARD", KEYS.timers(LABEL)) == 1


async def send_item(redis: Connection, holder: str = HOLDER) -> Any:
    """Send two items of a streaming reply."""
    return await scripts.run(redis, scripts.load("stream_item"), [KEYS.own, KEYS.inbox("in")], [LABEL, holder, 4, b"x", 4, b"y"])


async def test_items_reach_an_inbox_while_the_shard_is_owned(redis: Connection) -> None:
    """1: sent. 0: fenced. -1: nobody reads any more."""
    await Owner(redis).own()
    assert await send_item(redis) == -1
    assert await redis.execute("EXISTS", KEYS.inbox("in")) == 0

    await inbox(redis)
    assert await send_item(redis) == 1
    assert await send_item(redis, "00000000000000aa 1699999999999999 ") == 0
    assert [fields for _, fields in await redis.execute("XRANGE", KEYS.inbox("in"), "-", "+")] == [[b"4", b"x", b"4", b"y"]]


async def test_a_parked_message_goes_back_once(redis: Connection) -> None:
    """Whoever else looks at the same moment finds it gone."""
    owner = await Owner(redis).own()
    await owner.commit(park(b"1", 10), park(b"2", 10))
    first, second = await ids(redis, KEYS.parked)
    keys, args = [KEYS.parked, BOX, KEYS.mailbox(OTHER)], [first, b"1", second, b"2"]

    assert await scripts.run(redis, scripts.load("put_back"), keys, args) == 2
    assert await scripts.run(redis, scripts.load("put_back"), keys, args) == 0
    assert (await entries(redis, BOX), await entries(redis, KEYS.mailbox(OTHER))) == ([b"1"], [b"2"])
    assert await redis.execute("XLEN", KEYS.parked) == 0


async def test_a_parked_message_is_given_up_once(redis: Connection) -> None:
    """And counted where the dead letters are full."""
    owner = await Owner(redis).own()
    await owner.commit(park(b"1", 10))
    (entry,) = await ids(redis, KEYS.parked)
    await redis.execute("XADD", KEYS.dead, "*", "d", "older")
    keys = [KEYS.parked, KEYS.dead, KEYS.dead_lost, KEYS.parked]
    args: list[Argument] = [entry, 1, 0, "", b"", "d", b"1", "r", "unknown"]

    assert await scripts.run(redis, scripts.load("expire_parked"), keys, args) == 1
    assert await scripts.run(redis, scripts.load("expire_parked"), keys, args) == 0
    assert await entries(redis, KEYS.dead) == [b"1"]
    assert await redis.execute("GET", KEYS.dead_lost) == b"1"


async def test_a_parked_message_that_is_given_up_frees_its_key(redis: Connection) -> None:
    """Those who waited under it are told."""
    owner = await Owner(redis).own()
    await inbox(redis)
    await Batch("1").special(b"1", record="r", waiter="in 1").send(redis)
    await Batch("2").special(b"1", record="r", waiter="gone 2").send(redis)
    await owner.commit(park(b"1", 10))
    (entry,) = await ids(redis, KEYS.parked)
    keys = [KEYS.parked, KEYS.dead, KEYS.dead_lost, KEYS.record("r")]
    args: list[Argument] = [entry, 9, 1, "", b"sorry", "d", b"1", "r", "unknown"]

    assert await scripts.run(redis, scripts.load("expire_parked"), keys, args) == 1
    assert [fields for _, fields in await redis.execute("XRANGE", KEYS.inbox("in"), "-", "+")] == [[b"1", b"sorry"]]
    assert await redis.execute("EXISTS", KEYS.record("r"), KEYS.inbox("gone")) == 0


async def test_a_key_that_holds_something_else_costs_what_it_was_for_and_nothing_more(redis: Connection) -> None:
    """A script that ended there would leave what it had written without its sequence, to be written again."""
    owner = await Owner(redis).own()
    entry = await owner.message()
    await redis.execute("SET", KEYS.mailbox(OTHER), "?")
    await redis.execute("SET", KEYS.inbox("odd"), "?")
    await redis.execute("SET", KEYS.record("odd"), "?")
    effects = turn(entry, state=b"S", tells=[(OTHER, b"t"), (LABEL, b"u")], reply=("odd", 7, b"A"))
    operate(effects, "K", (KEYS.record("odd"),), "", 9000, b"A")
    answer = await owner.commit(effects)

    digits, *problems = answer.split(b"\n")
    assert digits == b"0"
    assert len(problems) == 3
    assert all(problem.startswith(b"! ") and b"WRONGTYPE" in problem for problem in problems)
    assert await entries(redis, BOX) == [b"u"]
    (letter,) = await redis.execute("XRANGE", KEYS.dead, "-", "+")
    assert letter[1][:4] == [b"d", b"t", b"r", b"mailbox_refused"]
    assert await owner.commit(turn(state=b"T")) == b"0"


async def test_a_client_cannot_delay_more_than_a_shard_may_hold(redis: Connection) -> None:
    """What waits for its time takes as much memory as what waits for its turn."""
    batch = Batch(shard=3)
    for n in range(4):
        batch.special(b"late", message=str(n), due="+60000")

    assert await batch.send(redis) == [(3, "full", b"shard 3 3")]
    assert await redis.execute("ZCARD", KEYS.timers(LABEL)) == 3
