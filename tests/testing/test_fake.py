"""The fake's connections: blocking, and everything that goes wrong on demand.

That it answers like a real server is shown by the suite in tests/redis, which runs on both.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from actors._redis import scripts
from actors._redis.connection import Connection
from actors._redis.faults import (
    Disconnected,
    NoScript,
    OutOfMemory,
    ReadOnly,
    RedisFault,
    Refused,
    TimedOut,
    Unblocked,
    Unknown,
)
from actors.testing.fake import FakeServer
from actors.testing.faults import Action, Call, Delays, Disconnects, DropsReply, DropsRequest, ExecutesLate, Fails
from tests.testing.virtual import in_virtual_time


async def fault_of(command: asyncio.Future[Any]) -> RedisFault:
    """Return the fault that a command ended in."""
    with pytest.raises(RedisFault) as caught:
        await command
    return caught.value


def now() -> float:
    """Virtual time."""
    return asyncio.get_running_loop().time()


# ---------------------------------------------------------------------------------------
# Blocking


@in_virtual_time
async def test_a_block_passes_in_virtual_time() -> None:
    """Exactly."""
    connection = await FakeServer().connect("inbox", timeout=10)

    assert await connection.execute("XREAD", "BLOCK", 2000, "STREAMS", "s", "$") is None
    assert now() == 2.0


@in_virtual_time
async def test_readers_of_one_stream_are_woken_in_their_order() -> None:
    """First come, first served; the others go on waiting."""
    server = FakeServer()
    server.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    readers = [await server.connect("read", timeout=10) for _ in range(3)]
    reads = [reader.execute("XREADGROUP", "GROUP", "g", "c", "BLOCK", 5000, "STREAMS", "s", ">") for reader in readers]
    assert server.blocked() == server.blocked("", "read") == 3
    assert server.blocked("somebody else") == 0
    await asyncio.sleep(1)
    server.execute("XADD", "s", "1-1", "d", "x")

    assert await reads[0] == [[b"s", [[b"1-1", [b"d", b"x"]]]]]
    assert now() == 1
    assert await reads[1] is None
    assert await reads[2] is None
    assert now() == 5


@in_virtual_time
async def test_a_read_is_woken_by_a_script_s_write() -> None:
    """As by any other."""
    server = FakeServer()
    connection = await server.connect("inbox", timeout=10)
    read = connection.execute("XREAD", "BLOCK", 5000, "STREAMS", "s", "$")
    await asyncio.sleep(1)
    server.execute("EVAL", "redis.call('XADD', KEYS[1], '1-1', 'd', 'x')", 1, "s")

    assert await read == [[b"s", [[b"1-1", [b"d", b"x"]]]]]
    assert now() == 1


@in_virtual_time
async def test_closing_a_connection_ends_its_blocked_read() -> None:
    """The server forgets it, and leaves the entries to others."""
    server = FakeServer()
    server.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    connection = await server.connect("read", timeout=10)
    read = connection.execute("XREADGROUP", "GROUP", "g", "c", "BLOCK", 5000, "STREAMS", "s", ">")
    await connection.close()
    assert isinstance(await fault_of(read), Unknown)

    server.execute("XADD", "s", "1-1", "d", "x")
    await asyncio.sleep(1)
    assert server.execute("XPENDING", "s", "g")[0] == 0


@in_virtual_time
async def test_a_role_change_ends_blocked_reads() -> None:
    """With the server's own word for it."""
    server = FakeServer()
    connection = await server.for_owner("r1").connect("read", timeout=10)
    read = connection.execute("XREAD", "BLOCK", 5000, "STREAMS", "s", "$")
    await asyncio.sleep(1)
    server.faults.unblock("r1")

    assert isinstance(await fault_of(read), Unblocked)
    assert not connection.closed


# ---------------------------------------------------------------------------------------
# Partitions, pauses, deaths


@in_virtual_time
async def test_a_partition_lets_nothing_through_and_only_time_tells() -> None:
    """The command is unknown to its caller, and was not applied; others are not concerned."""
    server = FakeServer()
    cut = await server.for_owner("r1").connect("commit", timeout=2)
    whole = await server.for_owner("r2").connect("commit", timeout=2)
    server.faults.partition("r1")
    write = cut.execute("SET", "k", "r1")
    assert await whole.execute("SET", "k", "r2") == b"OK"
    assert isinstance(await fault_of(write), TimedOut)
    assert 2 <= now() < 2.2
    assert cut.closed

    with pytest.raises(Refused, match="did not answer"):
        await server.for_owner("r1").connect("commit", timeout=2)
    server.faults.heal("r1")
    again = await server.for_owner("r1").connect("commit", timeout=2)
    assert await again.execute("GET", "k") == b"r2"


@in_virtual_time
async def test_a_partition_can_be_of_one_purpose() -> None:
    """Renewals get through while commits do not, or the other way round."""
    server = FakeServer().for_owner("r1")
    server.server.faults.partition("r1", "commit")
    control = await server.connect("control", timeout=2)

    assert await control.execute("PING") == b"PONG"
    with pytest.raises(Refused):
        await server.connect("commit", timeout=2)


@in_virtual_time
async def test_a_read_blocked_across_a_partition_takes_what_nobody_hears_of() -> None:
    """The server does not know that its client is gone. This is why reads have generations."""
    server = FakeServer()
    server.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    connection = await server.for_owner("r1").connect("read", timeout=10)
    read = connection.execute("XREADGROUP", "GROUP", "g", "c", "BLOCK", 5000, "STREAMS", "s", ">")
    await asyncio.sleep(1)
    server.faults.partition("r1")
    server.execute("XADD", "s", "1-1", "d", "x")
    await asyncio.sleep(1)
    server.faults.heal("r1")

    assert isinstance(await fault_of(read), TimedOut)
    assert server.execute("XPENDING", "s", "g")[0] == 1


@in_virtual_time
async def test_what_was_sent_into_a_partition_can_still_arrive() -> None:
    """A closed socket's buffer is sent all the same: late writes are what fences are for."""
    server = FakeServer()
    connection = await server.for_owner("r1").connect("commit", timeout=2)
    server.faults.partition("r1")
    write = connection.execute("SET", "k", "late")
    assert isinstance(await fault_of(write), TimedOut)
    assert server.execute("GET", "k") is None

    server.faults.heal("r1", late=True)
    assert server.execute("GET", "k") == b"late"


@in_virtual_time
async def test_a_paused_client_sends_and_hears_nothing_until_it_goes_on() -> None:
    """Nor do its time-outs pass: it is as if it had no time at all."""
    server = FakeServer()
    client = server.for_owner("r1")
    connection = await client.connect("commit", timeout=2)
    answered = connection.execute("SET", "a", 1)
    server.faults.pause("r1")
    held = connection.execute("SET", "b", 1)
    connecting = asyncio.create_task(client.connect("send", timeout=2))
    await asyncio.sleep(60)
    assert server.execute("EXISTS", "a", "b") == 1
    assert not answered.done()
    assert not connecting.done()

    server.faults.resume("r1")
    assert await answered == b"OK"
    assert await held == b"OK"
    assert not connection.closed
    await connecting


@in_virtual_time
async def test_a_killed_client_reaches_nothing_any_more() -> None:
    """Whatever is left of it in this process; another of its name may come."""
    server = FakeServer()
    client = server.for_owner("r1")
    lost: list[RedisFault] = []
    connection = await client.connect("commit", timeout=2, on_lost=lost.append)
    write = connection.execute("SET", "k", 1)
    server.faults.kill("r1")
    assert isinstance(await fault_of(write), Disconnected)
    assert server.execute("GET", "k") == b"1"
    assert [type(fault) for fault in lost] == [Disconnected]
    with pytest.raises(Refused):
        await client.connect("commit", timeout=2)
    with pytest.raises(Refused):
        client.connect_sync("lease", timeout=2)

    server.faults.revive("r1")
    assert await (await client.connect("commit", timeout=2)).execute("PING") == b"PONG"


@in_virtual_time
async def test_a_restarted_server_has_its_data_and_no_scripts() -> None:
    """As one that reads back its log."""
    server = FakeServer()
    connection = await server.connect("commit", timeout=2)
    await connection.execute("SET", "k", 1)
    sha = await connection.execute("SCRIPT", "LOAD", "return 1")
    server.stop()
    assert isinstance(await fault_of(connection.execute("PING")), Refused)
    with pytest.raises(Refused):
        await server.connect("commit", timeout=2)

    server.start()
    again = await server.connect("commit", timeout=2)
    assert await again.execute("GET", "k") == b"1"
    assert isinstance(await fault_of(again.execute("EVALSHA", sha, 0)), NoScript)


@in_virtual_time
async def test_history_can_be_lost() -> None:
    """A failover to a replica that lagged behind: what was acknowledged since is gone, streams and expiries included."""
    server = FakeServer()
    server.execute("SET", "k", "old", "EX", 60)
    server.execute("XADD", "s", "1-1", "d", "x")
    snapshot = server.snapshot()
    server.execute("SET", "k", "new")
    server.execute("XADD", "s", "1-2", "d", "y")
    server.execute("SET", "later", 1)
    server.restore(snapshot)
    server.execute("XADD", "s", "1-3", "d", "z")

    assert server.execute("GET", "k") == b"old"
    assert server.execute("EXISTS", "later") == 0
    assert [id_ for id_, _ in server.execute("XRANGE", "s", "-", "+")] == [b"1-1", b"1-3"]
    await asyncio.sleep(61)
    assert server.execute("EXISTS", "k") == 0
    server.restore(snapshot)
    assert server.execute("XLEN", "s") == 1


# ---------------------------------------------------------------------------------------
# Named faults


async def connected(server: FakeServer, purpose: str = "commit") -> Connection:
    """Return a connection with a time-out of one second."""
    return await server.connect(purpose, timeout=1)


@in_virtual_time
async def test_a_command_can_fail_before_it_is_applied() -> None:
    """With the fault it is told to fail with; each caller gets its own exception."""
    server = FakeServer()
    connection = await connected(server)
    full = OutOfMemory("OOM command not allowed")
    injection = server.faults.inject(Fails(full), name="SET", times=2)
    first, second = await fault_of(connection.execute("SET", "k", 1)), await fault_of(connection.execute("SET", "k", 1))

    assert type(first) is type(second) is OutOfMemory
    assert first is not second
    assert injection.hits == 2
    assert server.execute("EXISTS", "k") == 0
    assert await connection.execute("SET", "k", 1) == b"OK"


@in_virtual_time
async def test_a_lost_reply_leaves_the_command_applied_and_unknown() -> None:
    """And the connection useless: what comes behind cannot be matched any more."""
    server = FakeServer()
    connection = await connected(server)
    server.faults.inject(DropsReply())
    first, second = connection.execute("SET", "a", 1), connection.execute("SET", "b", 1)

    assert isinstance(await fault_of(first), TimedOut)
    assert isinstance(await fault_of(second), TimedOut)
    assert server.execute("EXISTS", "a", "b") == 2


@in_virtual_time
async def test_a_lost_request_leaves_nothing_applied_and_as_unknown() -> None:
    """The caller cannot tell the two apart."""
    server = FakeServer()
    connection = await connected(server)
    server.faults.inject(DropsRequest(), when=lambda call: call.command[1:2] == (b"a",))
    first, second = connection.execute("SET", "a", 1), connection.execute("SET", "b", 1)

    assert isinstance(await fault_of(first), TimedOut)
    assert isinstance(await fault_of(second), TimedOut)
    assert server.execute("EXISTS", "a", "b") == 0


@pytest.mark.parametrize("breaks", [Disconnects(applied=True), Disconnects(applied=False)])
@in_virtual_time
async def test_a_connection_can_break_on_either_side_of_a_command(breaks: Disconnects) -> None:
    """At once, and with the same fault."""
    server = FakeServer()
    connection = await connected(server)
    server.faults.inject(breaks)
    write = connection.execute("SET", "a", 1)

    assert isinstance(await fault_of(write), Disconnected)
    assert now() == 0
    assert server.execute("EXISTS", "a") == int(breaks.applied)


@in_virtual_time
async def test_a_delay_keeps_the_order() -> None:
    """On the way there and on the way back."""
    server = FakeServer()
    connection = await connected(server)
    server.faults.inject(Delays(request=0.25, reply=0.5), name="SET")
    done: list[tuple[Any, float]] = []
    connection.submit(("SET", "k", 1), lambda reply: done.append((reply, now())))
    connection.submit(("GET", "k"), lambda reply: done.append((reply, now())))
    assert server.execute("EXISTS", "k") == 0
    await asyncio.sleep(0.3)
    assert server.execute("EXISTS", "k") == 1
    await asyncio.sleep(1)

    assert done == [(b"OK", 0.75), (b"1", 0.75)]


@in_virtual_time
async def test_a_delayed_reply_always_comes() -> None:
    """Also where something else wakes the loop at its moment but for the last bit."""
    server = FakeServer()
    connection = await connected(server)
    server.faults.inject(Delays(reply=0.02), times=None)

    async def wake_often() -> None:
        while True:  # noqa: ASYNC110 - nothing is waited for but time
            await asyncio.sleep(0.002)

    waking = asyncio.ensure_future(wake_often())
    for _ in range(100):
        await asyncio.sleep(0.002)
        before = now()
        await connection.execute("PING")
        assert now() - before == pytest.approx(0.02)
    waking.cancel()


@in_virtual_time
async def test_a_delay_longer_than_patience_is_applied_all_the_same() -> None:
    """The caller has given up, closed and perhaps sent it again elsewhere."""
    server = FakeServer()
    connection = await connected(server)
    server.faults.inject(Delays(request=5))
    write = connection.execute("SET", "k", 1)
    assert isinstance(await fault_of(write), TimedOut)
    assert server.execute("EXISTS", "k") == 0

    await asyncio.sleep(5)
    assert server.execute("EXISTS", "k") == 1


@in_virtual_time
async def test_a_command_can_execute_when_nobody_expects_it() -> None:
    """Before the time-out or long after it, the caller hears nothing of it."""
    server = FakeServer()
    connection = await connected(server)
    server.faults.inject(ExecutesLate(0.5))
    write = connection.execute("INCR", "k")
    assert isinstance(await fault_of(write), TimedOut)
    assert server.execute("GET", "k") == b"1"

    connection = await connected(server)
    server.faults.inject(ExecutesLate(30))
    write = connection.execute("INCR", "k")
    await fault_of(write)
    assert server.execute("GET", "k") == b"1"
    await asyncio.sleep(30)
    assert server.execute("GET", "k") == b"2"


@in_virtual_time
async def test_a_late_read_takes_entries_nobody_hears_of() -> None:
    """It does not block any more, it takes what is there."""
    server = FakeServer()
    server.execute("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    connection = await connected(server, "read")
    server.faults.inject(ExecutesLate(3))
    await fault_of(connection.execute("XREADGROUP", "GROUP", "g", "c", "BLOCK", 500, "STREAMS", "s", ">"))
    server.execute("XADD", "s", "1-1", "d", "x")
    await asyncio.sleep(5)

    assert server.execute("XPENDING", "s", "g")[0] == 1


@in_virtual_time
async def test_faults_find_their_commands() -> None:
    """By owner, purpose, command, script, or any predicate; after some that are spared; as often as told."""
    server = FakeServer()
    connection = await server.for_owner("r1").connect("commit", timeout=1)
    name = scripts.names()[0]
    script = scripts.load(name)
    server.execute("SCRIPT", "LOAD", script.text)
    missing = server.faults.inject(Fails(ReadOnly("READONLY")), owner="r2", times=None)
    aimed = server.faults.inject(Fails(ReadOnly("READONLY")), owner="r1", purpose="commit", script=name, skip=1)
    await asyncio.gather(*[connection.execute("EVALSHA", script.sha, 0) for _ in range(3)], return_exceptions=True)
    assert aimed.hits == 1
    assert missing.hits == 0

    all_gets = server.faults.inject(Fails(ReadOnly("READONLY")), name="GET", times=None)
    for _ in range(5):
        await fault_of(connection.execute("GET", "k"))
    server.faults.withdraw(all_gets)
    assert all_gets.hits == 5
    assert await connection.execute("GET", "k") is None


@in_virtual_time
async def test_a_connect_can_go_wrong_too() -> None:
    """Under the name CONNECT."""
    server = FakeServer()
    for action in (Fails(Refused("no")), Disconnects(applied=False), DropsRequest()):
        server.faults.inject(action, name="CONNECT")
        with pytest.raises(Refused):
            await connected(server)

    server.faults.inject(Delays(request=0.5), name="CONNECT")
    before = now()
    await connected(server)
    assert now() - before == 0.5


@pytest.mark.parametrize(
    ("action", "fault", "applied"),
    [
        (Fails(ReadOnly("READONLY")), ReadOnly, 0),
        (DropsRequest(), TimedOut, 0),
        (DropsReply(), TimedOut, 1),
        (ExecutesLate(9), TimedOut, 1),
        (Disconnects(applied=True), Disconnected, 1),
        (Disconnects(applied=False), Disconnected, 0),
    ],
)
def test_a_sync_connection_meets_the_same_faults(action: Action, fault: type[RedisFault], applied: int) -> None:
    """At once: there is no time a thread could wait here."""
    server = FakeServer()
    connection = server.for_owner("r1").connect_sync("lease", timeout=1)
    server.faults.inject(action, owner="r1", purpose="lease")
    with pytest.raises(fault):
        connection.execute("SET", "k", 1)

    assert server.execute("EXISTS", "k") == applied
    assert connection.closed == issubclass(fault, Unknown)


def test_a_sync_connection_is_cut_off_like_any_other() -> None:
    """Partition, pause and death reach the lease's thread as well."""
    server = FakeServer()
    client = server.for_owner("r1")
    for off, on in (
        (server.faults.partition, server.faults.heal),
        (server.faults.pause, server.faults.resume),
        (server.faults.kill, server.faults.revive),
    ):
        connection = client.connect_sync("lease", timeout=1)
        off("r1")
        with pytest.raises(Unknown):
            connection.execute("PING")
        with pytest.raises(Refused):
            client.connect_sync("lease", timeout=1)
        on("r1")
        assert client.connect_sync("lease", timeout=1).execute("PING") == b"PONG"


@in_virtual_time
async def test_a_thread_s_write_wakes_a_read() -> None:
    """A sync connection may be used from any thread."""
    server = FakeServer()
    reader = await server.connect("inbox", timeout=10)
    writer = server.connect_sync("lease", timeout=1)
    for n in range(1, 51):
        read = reader.execute("XREAD", "BLOCK", 5000, "STREAMS", "s", f"{n - 1}-0")
        await asyncio.to_thread(writer.execute, "XADD", "s", f"{n}-0", "d", "x")

        assert await read == [[b"s", [[b"%d-0" % n, [b"d", b"x"]]]]]
    assert now() < 5


def test_chance_replays_from_its_seed() -> None:
    """A failing seed must fail again: the whole world hangs on one random source and virtual time."""

    def world(seed: int) -> list[tuple[float, str]]:
        random = Random(seed)
        trace: list[tuple[float, str]] = []

        def decide(_call: Call) -> Action | None:
            chances: list[Action | None] = [
                None,
                None,
                None,
                DropsReply(),
                Disconnects(applied=True),
                Delays(random.random(), random.random()),
            ]
            return random.choice(chances)

        async def client(server: FakeServer, name: str) -> None:
            for n in range(20):
                try:
                    connection = await server.for_owner(name).connect("commit", timeout=0.5)
                    await connection.execute("XADD", "s", "*", "d", f"{name}{n}")
                    trace.append((now(), f"{name} {n}"))
                    await connection.close()
                except RedisFault as fault:
                    trace.append((now(), f"{name} {n} {type(fault).__name__}"))

        @in_virtual_time
        async def whole() -> None:
            server = FakeServer()
            server.faults.decide = decide
            await asyncio.gather(*[client(server, name) for name in "abc"])
            trace.extend((0.0, str(entry)) for entry in server.execute("XRANGE", "s", "-", "+"))

        whole()
        return trace

    assert world(1) == world(1)
    assert world(1) != world(2)
