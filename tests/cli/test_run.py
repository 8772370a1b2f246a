"""``run`` as an operator has it: ready, drained, killed, several at once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors._placement.membership import Member, encode
from actors._redis.connection import TcpServer
from actors._redis.keys import Keys
from actors.client import Client
from tests.cli.conftest import Shell

pytestmark = pytest.mark.server


def send(url: str, use: Callable[[Client, type[Any]], Awaitable[Any]]) -> Any:
    """Talk to the bank from outside."""
    from actors.actor import Actor
    from actors.message import message
    from actors.system import ActorSystem

    system = ActorSystem("bank")

    @system.actor
    class Account(Actor[None]):
        @message
        async def deposit(self, amount: int) -> int: ...  # type: ignore[empty-body]
        @message
        async def hang(self) -> None: ...
        @message
        async def fail(self) -> None: ...

    async def main() -> Any:
        async with system.connect(url) as client:
            return await use(client, Account)

    return asyncio.run(main())


def test_a_runner_is_ready_serves_and_drains(shell: Shell, redis_url: str) -> None:
    runner = shell.start("run", "bank:system", "--name", "pod-1").ready()

    assert send(redis_url, lambda client, account: client.get(account, "alice").deposit(5)) == 5
    (row,) = shell.json("runners", "bank:system")
    assert (row["runner"], row["state"], row["shards"]) == ("pod-1", "up", 16)
    assert row["http"].endswith(f":{runner.port}")
    assert runner.get("/livez")[0] == 200
    status, text = runner.get("/metrics")
    assert status == 200
    assert 'actors_messages_handled_total{actor="Account",method="deposit",runner="pod-1",system="bank"} 1.0' in text
    assert 'actors_shards_owned{group="default",runner="pod-1",system="bank"} 16.0' in text
    assert "actors_mailbox_depth" in text
    assert runner.end() == 0
    assert shell.json("runners", "bank:system") == []


def test_ctrl_c_drains_too(shell: Shell) -> None:
    runner = shell.start("run", "bank:system").ready()

    assert runner.end(signal.SIGINT) == 0


def test_a_second_signal_ends_it_at_once(shell: Shell, redis_url: str) -> None:
    """An operator who asks twice does not want to wait for a handler that hangs."""
    runner = shell.start("run", "bank:system").ready()
    send(redis_url, lambda client, account: client.get(account, "alice").hang.tell())
    runner.until(
        lambda: "actors_turns_running" in (text := runner.get("/metrics")[1]) and "turns_running{runner" in text and "} 1.0" in text
    )

    runner.process.send_signal(signal.SIGTERM)
    runner.until(lambda: "drain" in runner.log)
    began = time.monotonic()

    assert runner.end() == 1
    assert time.monotonic() - began < 5
    assert "told twice" in runner.log


def test_what_hangs_is_cut_at_the_drain_time(shell: Shell, redis_url: str) -> None:
    runner = shell.start("run", "bank:system", "--drain-timeout", "1").ready()
    send(redis_url, lambda client, account: client.get(account, "alice").hang.tell())

    began = time.monotonic()

    assert runner.end() == 0
    assert time.monotonic() - began < 10


def test_told_to_end_while_it_waits_for_its_name(shell: Shell) -> None:
    """A pod that is replaced before it was ready goes in peace."""
    shell.start("run", "bank:system", "--name", "pod-1").ready().process.kill()
    second = shell.start("run", "bank:system", "--name", "pod-1")
    assert second.port

    assert second.end() == 0


def test_a_name_that_is_taken_is_refused(shell: Shell) -> None:
    shell.start("run", "bank:system", "--name", "pod-1").ready()

    said = shell("run", "bank:system", "--name", "pod-1", code=1)

    assert "'pod-1' belongs to a live runner" in said


def test_a_port_that_is_taken_is_named(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = shell("run", "bank:system", "--http-port", str(port), code=1)

    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "--http-port" in said


def test_without_a_redis_it_says_so(shell: Shell) -> None:
    said = shell("run", "bank:system", "--redis", "redis://127.0.0.1:1", code=1)

    assert "127.0.0.1:1" in said
    assert "Traceback" not in said


def test_a_system_without_actors_is_refused(shell: Shell) -> None:
    assert "has no actor types" in shell("run", "bank:empty", code=1)


def test_several_processes_are_one_runner_to_probes(shell: Shell) -> None:
    parent = shell.start("run", "bank:system", "--name", "pod", "--processes", "2").ready()

    rows = {row["runner"]: row for row in shell.json("runners", "bank:system")}
    assert rows.keys() == {"pod-0", "pod-1"}
    text = parent.get("/metrics")[1]
    for name in rows:
        assert f'actors_shards_owned{{group="default",runner="{name}",system="bank"}} 8.0' in text
        assert f'process_cpu_seconds_total{{runner="{name}"}}' in text

    os.kill(rows["pod-0"]["pid"], signal.SIGKILL)
    parent.until(lambda: parent.get("/readyz")[0] == 503)
    assert parent.get("/livez")[0] == 200
    parent.ready()
    assert "pod-0 was ended by signal 9; it starts again" in parent.log

    assert parent.end() == 0
    assert [row for row in shell.json("runners", "bank:system") if row["runner"] != "?"] == []  # beside what the dead one left


def test_children_do_not_outlive_their_parent(shell: Shell) -> None:
    parent = shell.start("run", "bank:system", "--name", "pod", "--processes", "2").ready()
    pids = [row["pid"] for row in shell.json("runners", "bank:system")]

    parent.end(signal.SIGKILL)

    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, "a child is still there"
        time.sleep(0.05)
    assert shell.json("runners", "bank:system") == []  # and they have left in order


def test_a_command_that_cannot_work_is_not_started_again_and_again(shell: Shell, folder: Path) -> None:
    parent = shell.start("run", "bank:system", "--processes", "2", "--name", "pod").ready()
    (folder / "bank.py").write_text("raise RuntimeError('changed')")
    (row, *_) = shell.json("runners", "--system", "bank")
    os.kill(row["pid"], signal.SIGKILL)

    assert parent.process.wait(30) == 1
    assert "it cannot be started like this" in parent.log


def test_logs_carry_the_context_of_the_handler(shell: Shell, redis_url: str) -> None:
    runner = shell.start("run", "bank:system", "--name", "pod-1", "--log-format", "json", "--max-attempts", "1").ready()

    with pytest.raises(Exception, match="no idea"):
        send(redis_url, lambda client, account: client.get(account, "alice").fail())

    runner.until(lambda: '"event":"HandlerFailed"' in runner.log)
    (line,) = [line for line in runner.log.splitlines() if '"event":"HandlerFailed"' in line]
    for part in ('"runner":"pod-1"', '"system":"bank"', '"actor":"Account/alice"', '"actor_method":"fail"', '"actor_epoch":"'):
        assert part in line


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_runner_that_lost_its_name_ends_by_itself(shell: Shell, redis_url: str) -> None:
    """Loudly, so that it is replaced; never as a second one of that name."""
    runner = shell.start("run", "bank:system", "--name", "pod-1").ready()

    async def take_the_name() -> None:
        connection = await TcpServer.from_url(redis_url).connect("control", timeout=5)
        usurper = Member(name="pod-1", incarnation="f" * 16)
        await connection.execute("HSET", Keys("bank").members, "pod-1", encode(usurper))
        await connection.close()

    asyncio.run(take_the_name())

    assert runner.process.wait(30) == 1
    assert "the runner ends" in runner.log
