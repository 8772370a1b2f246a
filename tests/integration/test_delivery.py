"""A message that was stored is run, once, in its place, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from actors._mailbox.dead_letters import DeadLetters
from actors._redis.connection import SyncConnection
from actors.client import Client
from actors.errors import AskTimeout, ClusterError, IdempotencyConflict, MailboxFull, PersistenceFailed, RunnerUnavailable
from actors.system import replaced
from tests.integration.cast import Counter, Notes
from tests.integration.fleet import ROOT, Fleet, RunnerProcess, eventually, until
from tests.integration.profile_new import Likes, Profile
from tests.integration.system import KEYS, system

pytestmark = pytest.mark.server


async def run_program(*arguments: str) -> tuple[int, str]:
    """Run one of the programs beside this file to its end; return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_stored_tell_survives_its_sender_and_every_runner(fleet: Fleet, client: Client) -> None:
    """What was acknowledged is in Redis, and nowhere else it could die with."""
    (first,) = await fleet.start("r0")
    first.freeze()
    code, said = await run_program("tests.integration.sender", fleet.url, "50")
    first.kill()
    await first.ended()
    await fleet.start("r1")

    notes = client.get(Notes, "sender")
    assert code == -signal.SIGKILL
    assert said == "stored 50\n"
    assert await notes.read() == [str(number) for number in range(50)]


async def test_messages_queued_behind_a_slow_one_outlive_its_runner_in_order(fleet: Fleet, client: Client, tmp_path: Path) -> None:
    """The slow one had started and the others were in memory: all run elsewhere, once, in order."""
    gate = tmp_path / "gate"
    (first,) = await fleet.start("r0")
    notes = client.get(Notes, "n")
    await notes.write.tell("slow", str(gate))
    for line in ("1", "2", "3"):
        await notes.write.tell(line)
    await client.get(Counter, "c").add()
    first.kill()
    await first.ended()
    gate.touch()
    await fleet.start("r1")

    assert await notes.write("4") == 5
    assert await notes.read() == ["slow", "1", "2", "3", "4"]


async def test_one_idempotency_key_is_one_execution_also_across_a_restart(
    fleet: Fleet, client: Client, redis: SyncConnection, tmp_path: Path
) -> None:
    """The second caller joins the first one's run, dies with nobody, and hears the same reply; later ones hear it too."""
    gate = tmp_path / "gate"
    (first,) = await fleet.start("r0", idempotency_ttl=3)
    counter = client.get(Counter, "c").add.options(idempotency_key="k")
    calls = [asyncio.create_task(counter(1, str(gate)))]
    await until(lambda: bool(redis.execute("KEYS", KEYS.record("*"))), what="the record of the first call")
    async with system.connect(fleet.url) as other:
        calls.append(asyncio.create_task(other.get(Counter, "c").add.options(idempotency_key="k")(1, str(gate))))
        receipt = await counter.tell(1, str(gate))
        first.kill()
        await first.ended()
        await fleet.start("r1", idempotency_ttl=3)
        gate.touch()
        replies = await asyncio.gather(*calls)
    assert receipt.duplicate
    assert replies == [1, 1]
    assert await counter(1, str(gate)) == 1
    with pytest.raises(IdempotencyConflict):
        await counter(2, str(gate))
    assert await client.get(Counter, "c").value() == 1

    await eventually(lambda: counter(1, str(gate)), lambda value: value == 2)  # after its time to live it is a key like any other
    assert await client.get(Counter, "c").value() == 2


async def test_a_failing_message_holds_back_its_actor_alone_and_its_replay_runs(
    fleet: Fleet, client: Client, dead_letters: DeadLetters, tmp_path: Path
) -> None:
    """Those behind it wait for its last attempt and then run in order; replayed after the cause is gone, it runs."""
    gate = tmp_path / "gate"
    await fleet.start("r0")
    notes, other = client.get(Notes, "n"), client.get(Notes, "other")
    await notes.stumble.tell("m1", str(gate))
    for line in ("m2", "m3"):
        await notes.write.tell(line)

    assert await other.write("at once") == 1
    assert await notes.write("m4") == 3
    letters = [letter async for letter in dead_letters.list()]
    assert [(letter.reason, letter.attempts, letter.method) for letter in letters] == [("attempts", 5, "stumble")]
    gate.touch()
    assert await dead_letters.replay(letters) == 1
    await eventually(notes.read, lambda lines: len(lines) == 4)
    assert await notes.read() == ["m2", "m3", "m4", "m1"]
    assert await dead_letters.count() == 0


async def test_messages_wait_their_turn_behind_a_backoff_also_across_a_takeover(fleet: Fleet, client: Client, tmp_path: Path) -> None:
    """m1 backs off, m2 waits behind it, the owner dies: m1, then m2."""
    gate = tmp_path / "gate"
    (first,) = await fleet.start("r0")
    notes = client.get(Notes, "n")
    await notes.stumble.tell("m1", str(gate))
    await notes.write.tell("m2")
    await first.event("HandlerFailed")
    first.kill()
    await first.ended()
    gate.touch()
    await fleet.start("r1")

    assert await notes.write("m3") == 3
    assert await notes.read() == ["m1", "m2", "m3"]


@pytest.mark.chaos
async def test_a_message_that_kills_its_process_does_so_no_more_often_than_the_limit_allows(
    fleet: Fleet, client: Client, dead_letters: DeadLetters
) -> None:
    """Then it is a dead letter. Its neighbours, which died with it, are not charged for it: all of them run, once."""
    limit = 2
    neighbours = [client.get(Notes, f"n{number}") for number in range(40)]
    (runner,) = await fleet.start("r0", crash_limit=limit)
    runner.freeze()
    for round_ in ("1", "2"):
        await client.send(*[notes.write.message(round_) for notes in neighbours])
        if round_ == "1":
            await client.get(Notes, "bad").perish.tell("never")
    runner.thaw()
    deaths = 0
    while not runner.count("DeadLettered"):
        await runner.ended()
        deaths += 1
        runner = await fleet.launch(f"r{deaths}", crash_limit=limit)
        await survives_or_dies(runner)

    assert deaths <= limit + 1
    (letter,) = [letter async for letter in dead_letters.list()]
    assert (letter.reason, letter.key) == ("crashes", "bad")
    for notes in neighbours:
        assert await notes.read() == ["1", "2"]
    assert await client.get(Notes, "bad").write("alive") == 1


async def test_what_is_full_says_so_with_limit_and_depth_and_takes_messages_again_when_drained(
    fleet: Fleet, client: Client, tmp_path: Path
) -> None:
    """A client is refused, at once; what was taken before runs."""
    gate = tmp_path / "gate"
    await fleet.start("r0", mailbox_capacity=10)
    settings = replaced(system.settings, backlog_capacity=50, shard_capacity=120)
    async with system.build_client(client._server, settings=settings) as narrow:  # type: ignore[attr-defined]
        counter = narrow.get(Counter, "c")
        await counter.add.tell(0, str(gate))
        taken = 0
        with pytest.raises(MailboxFull) as refused:
            while taken < 1000:
                await counter.add.tell()
                taken += 1
        assert (refused.value.scope, refused.value.limit) == ("actor", 50)
        assert refused.value.depth >= 50
        gate.touch()
        await eventually(lambda: client.get(Counter, "c").value(), lambda value: value == taken)
        await counter.add.tell()
        assert await counter.value() == taken + 1


async def test_what_no_runner_knows_waits_for_one_that_does(fleet: Fleet, client: Client) -> None:
    """Messages to a type and to a method of the next version, sent while only the old one runs."""
    (old,) = await fleet.start("old", version="old")
    likes, profile = client.get(Likes, "l"), client.get(Profile, "p")
    assert await profile.rename("one") == "old"
    await likes.like.tell()
    await profile.reach.tell("one@example.org")
    await old.event("MessagesParked", where=lambda event: event["actor_type"] == "Likes")
    await old.event("MessagesParked", where=lambda event: event["method"] == "reach")
    await fleet.start("new")
    old.terminate()
    assert await old.ended() == 0

    await eventually(likes.like, lambda count: count >= 2)
    await eventually(profile.all, lambda all_: all_.email == "one@example.org")


async def test_an_older_version_keeps_the_field_it_does_not_know(fleet: Fleet, client: Client) -> None:
    """In a rolling deploy the old code commits a state that the new code wrote: the new field is still there."""
    profile = client.get(Profile, "p")
    (new,) = await fleet.start("new")
    await profile.reach("one@example.org")
    new.terminate()
    await new.ended()
    (old,) = await fleet.start("old", version="old")
    assert await profile.rename("two") == "old"
    old.terminate()
    await old.ended()
    await fleet.start("new")

    state = await profile.all()
    assert (state.name, state.email) == ("two", "one@example.org")


async def test_garbage_in_a_mailbox_is_set_aside_and_what_is_behind_it_runs(
    fleet: Fleet, client: Client, redis: SyncConnection, dead_letters: DeadLetters
) -> None:
    """Not msgpack, another version, wrong types, too deep, another shape: each a dead letter with its reason."""
    garbage = {
        "bytes": [b"d", b"\xc1\xff\x00"],
        "version": [b"d", b"\x9a\x63\xa1x\xa1x\xa1x\x80\xa1x\xc0\x00\xc0\x00"],
        "types": [b"d", b"\x94\x01\x02\x03\x04"],
        "depth": [b"d", b"\x91" * 500 + b"\x01"],
        "shape": [b"a", b"1", b"b", b"2"],
        "empty": [b"d", b""],
    }
    (runner,) = await fleet.start("r0", shards=1)
    notes = client.get(Notes, "n")
    await notes.write("before")
    runner.freeze()
    for fields in garbage.values():
        redis.execute("XADD", KEYS.mailbox("default.0"), "*", *fields)
    await notes.write.tell("behind")
    runner.thaw()

    assert await notes.write("last") == 3
    letters = [letter async for letter in dead_letters.list()]
    assert len(letters) == len(garbage)
    assert all(letter.reason and letter.error for letter in letters)
    assert redis.execute("XLEN", KEYS.mailbox("default.0")) == 0


async def test_an_ask_that_nobody_waits_for_any_more_never_runs(fleet: Fleet, client: Client, redis: SyncConnection) -> None:
    """Its deadline passed, or its caller was cancelled, while no runner owned the shard."""
    (first,) = await fleet.start("r0")
    late, cancelled, kept = (client.get(Counter, key) for key in ("late", "cancelled", "kept"))
    assert await late.add(0) + await cancelled.add(0) + await kept.add(0) == 0
    first.kill()
    await first.ended()
    call = asyncio.create_task(cancelled.add(1))
    await kept.add.tell(1)
    with pytest.raises(ClusterError) as missed:
        await late.add.options(timeout=0.3)(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await kept.add.tell(1)
    await fleet.start("r1")

    assert isinstance(missed.value, AskTimeout | RunnerUnavailable)
    assert [await counter.value() for counter in (late, cancelled, kept)] == [0, 0, 2]


@pytest.mark.chaos
async def test_a_turn_that_asked_before_its_process_died_is_told_the_same_again(fleet: Fleet, client: Client, tmp_path: Path) -> None:
    """The callee's effect stands once: the re-run joins the ask it made before."""
    gate = tmp_path / "died"
    (first,) = await fleet.start("r0")
    await client.get(Notes, "callee").write("by hand")
    call = asyncio.create_task(client.get(Notes, "caller").ask_and_perish("callee", str(gate)))
    assert await first.ended() == -signal.SIGKILL
    assert gate.exists()
    await fleet.start("r1")

    assert await call == 2
    assert await client.get(Notes, "callee").read() == ["by hand", "asked by caller"]
    assert await client.get(Notes, "caller").read() == ["callee said 2"]


async def test_a_sender_that_forks_sends_nothing_twice(fleet: Fleet, client: Client) -> None:
    """The child inherits a batch under way and a connection, and leaves both alone."""
    await fleet.start("r0")
    code, said = await run_program("tests.integration.forker", fleet.url, "200")

    assert (code, said) == (0, "child 0\n")
    assert await client.get(Counter, "parent").value() == 200
    assert await client.get(Counter, "child").value() == 200


async def test_a_sender_whose_record_is_gone_says_that_it_does_not_know(fleet: Fleet, client: Client, redis: SyncConnection) -> None:
    """Nothing is sent on a guess; the next send goes out under a new id."""
    await fleet.start("r0")
    counter = client.get(Counter, "c")
    await counter.add.tell()
    (record,) = [key for key in redis.execute("KEYS", KEYS.sender("*")) if redis.execute("GET", key).startswith(b"1 ")]
    redis.execute("DEL", record)
    with pytest.raises(PersistenceFailed) as unknown:
        await counter.add.tell()

    assert unknown.value.outcome == "unknown"
    await counter.add.tell()
    assert await counter.value() == 2


async def test_a_delayed_send_runs_once_when_it_is_due_whoever_has_died_meanwhile(fleet: Fleet, client: Client) -> None:
    """It waits in Redis; the owner at that time fires it."""
    (first,) = await fleet.start("r0")
    notes = client.get(Notes, "n")
    await notes.write("now")
    await notes.write.options(after=2.5).tell("later")
    await notes.write.options(after=0.5).tell("sooner")
    await eventually(notes.read, lambda lines: len(lines) == 2)
    first.kill()
    await first.ended()
    await fleet.start("r1")

    await eventually(notes.read, lambda lines: len(lines) == 3)
    assert await notes.read() == ["now", "sooner", "later"]


async def survives_or_dies(runner: RunnerProcess) -> None:
    """Wait until it has died, or has set a message aside."""
    await until(lambda: not runner.alive or runner.count("DeadLettered") > 0, what="another death, or the dead letter")
