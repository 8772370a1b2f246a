"""Looking at a running system, and acting on it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import DEADLINE, Shell

pytestmark = pytest.mark.server


def bank(shell: Shell, program: str) -> Any:
    """Run a program in the application's folder, with a client, and return its last line as JSON."""
    source = (
        "import asyncio, json\nfrom bank import Account, system\n"
        "async def main():\n    async with system.connect() as client:\n"
        "        alice, bob = client.get(Account, 'alice'), client.get(Account, 'bob')\n"
        + "\n".join(f"        {line}" for line in program.splitlines())
        + "\nasyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=shell.folder, env=shell.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


def soon(fact: Callable[[], Any]) -> Any:
    """Wait until something is true."""
    deadline = time.monotonic() + DEADLINE
    while not (found := fact()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
    return found


def test_an_actor_is_found_by_its_key(shell: Shell) -> None:
    shell.start("run", "bank:system", "--name", "pod-1").ready()
    bank(shell, "await alice.deposit(5)\nawait alice.deposit.options(after=3600).tell(1)")

    (alice,) = shell.json("actors", "bank:system", "alice")
    assert alice["actor"] == "Account/alice"
    assert alice["owner"] == "pod-1"
    assert alice["owner_alive"]
    assert alice["state"] == {"balance": 5}
    assert alice["waiting"] == 0
    assert alice["last_error"] is None
    assert [(message["method"], 3500 < message["due_in"] <= 3600) for message in alice["delayed"]] == [("deposit", True)]
    (same,) = shell.json("actors", "show", "--system", "bank", "Account", "alice")
    assert (same["shard"], same["state"]) == (alice["shard"], alice["state"])
    assert "5" in shell("actors", "bank:system", "Account", "alice")
    assert shell.json("actors", "list", "bank:system") == [{"type": "Account", "key": "alice"}]
    assert "nothing is known of an actor with key 'nobody'" in shell("actors", "bank:system", "nobody", code=1)
    assert "has no actor type Acount" in shell("actors", "bank:system", "Acount", "alice", code=2)


def test_what_waits_while_nobody_runs_is_seen(shell: Shell) -> None:
    """The first question of a night: is it there, and why does nothing happen?"""
    runner = shell.start("run", "bank:system", "--name", "pod-1").ready()
    assert runner.end() == 0
    bank(shell, "await client.send(*(alice.deposit.message(1) for _ in range(3)))")

    (alice,) = shell.json("actors", "bank:system", "alice")
    assert alice["owner"] is None
    assert (alice["in_mailbox"], alice["in_backlog"]) == (3, 0)
    assert [message["method"] for message in alice["next"]] == ["deposit"] * 3
    assert "nobody" in shell("actors", "bank:system", "alice")
    (row,) = shell.json("shards", "bank:system", "--waiting")
    assert (row["shard"], row["state"], row["mailbox"]) == (alice["shard"], "free", 3)
    assert row["oldest_age"] > 0


def test_a_failing_actor_tells_why(shell: Shell) -> None:
    shell.start("run", "bank:system", "--max-attempts", "1").ready()
    bank(shell, "await alice.fail.tell()")

    alice = soon(lambda: (found := shell.json("actors", "bank:system", "Account", "alice")[0])["last_error"] and found)
    assert "no idea" in alice["last_error"]
    assert alice["dead_letters"] == 1


def test_a_deleted_state_stays_deleted(shell: Shell) -> None:
    """The owner has the actor in memory, and would write it back with its next commit."""
    shell.start("run", "bank:system").ready()
    assert bank(shell, "print(await alice.deposit(5))") == 5

    assert "say --yes" in shell("actors", "delete", "bank:system", "Account", "alice", code=1)
    assert "is deleted" in shell("actors", "delete", "bank:system", "Account", "alice", "--yes")

    assert bank(shell, "print(await alice.deposit(1))") == 1
    assert "no stored state" in shell("actors", "delete", "bank:system", "Account", "nobody", "--yes")


def test_a_shard_is_moved(shell: Shell) -> None:
    for name in ("pod-0", "pod-1"):
        shell.start("run", "bank:system", "--name", name).ready()
    rows = soon(lambda: (rows := shell.json("shards", "bank:system")) and all(row["owner"] == row["assigned"] for row in rows) and rows)
    shard = next(row["shard"] for row in rows if row["owner"] == "pod-0")

    assert f"{shard} goes from pod-0 to pod-1" in shell("shards", "move", "bank:system", shard, "pod-1")
    soon(lambda: shell.json("shards", "show", "bank:system", shard)["owner"] == "pod-1")

    assert "already" in shell("shards", "move", "bank:system", shard, "pod-1")
    assert "pod-9 is not among" in shell("shards", "move", "bank:system", shard, "pod-9", code=1)
    assert "there is no shard default.99" in shell("shards", "show", "bank:system", "default.99", code=1)


def test_a_runner_is_drained_and_comes_back(shell: Shell) -> None:
    for name in ("pod-0", "pod-1"):
        shell.start("run", "bank:system", "--name", name).ready()

    def shards() -> dict[str, int]:
        return {row["runner"]: row["shards"] for row in shell.json("runners", "bank:system")}

    soon(lambda: shards() == {"pod-0": 8, "pod-1": 8})
    shell("runners", "drain", "bank:system", "pod-0")
    soon(lambda: shards() == {"pod-0": 0, "pod-1": 16})
    assert [row["state"] for row in shell.json("runners", "bank:system")] == ["draining", "up"]
    assert bank(shell, "print(await alice.deposit(1))") == 1

    assert "the only runner" in shell("runners", "drain", "bank:system", "pod-1", code=1)
    assert "no runner is called pod-7" in shell("runners", "drain", "bank:system", "pod-7", code=1)
    shell("runners", "resume", "bank:system", "pod-0")
    soon(lambda: shards() == {"pod-0": 8, "pod-1": 8})


def test_check_says_what_is_wrong(shell: Shell) -> None:
    well = shell.json("check", "bank:system")
    assert well["problems"] == []
    assert {row["message"] for row in well["messages"]} == {"deposit", "balance", "fail", "hang"}
    shell.start("run", "bank:system", "--name", "pod-1").ready()

    assert "runners: pod-1" in shell("check", "bank:system")
    assert "recorded with 16" in shell("check", "bank:system", "--shards", "32", code=1)
    assert "Redis cannot be used" in shell("check", "bank:system", "--redis", "redis://127.0.0.1:1", code=1)
    assert "has no actors" in shell("check", "bank:empty", "--offline", code=1)


def test_the_number_of_shards_is_changed(shell: Shell) -> None:
    runner = shell.start("run", "bank:system").ready()
    assert bank(shell, "print(await alice.deposit(5))") == 5
    assert "is alive" in shell("reshard", "bank:system", "32", "--yes", code=1)
    assert runner.end() == 0
    bank(shell, "await client.send(*(client.get(Account, f'k{n}').deposit.message(n) for n in range(50)))")

    assert "has 32 shards" in shell("reshard", "bank:system", "32", "--yes")

    assert "recorded with 32" in shell("run", "bank:system", code=1)
    shell.start("run", "bank:system", "--shards", "32").ready()
    program = "print([await alice.balance(), *[await client.get(Account, f'k{n}').balance() for n in range(50)]])"
    assert bank(shell, program) == [5, *range(50)]


def test_the_schema_names_every_message(shell: Shell) -> None:
    schema = json.loads(shell("schema", "bank:system"))

    assert set(schema["actors"]["Account"]["messages"]) == {"deposit", "balance", "fail", "hang"}


def test_dead_letters_are_looked_at_replayed_and_purged(shell: Shell) -> None:
    """The cause is mended, and what it broke goes through: one by one, by kind, or all."""
    bank_file = shell.folder / "bank.py"
    broken = bank_file.read_text()
    runner = shell.start("run", "bank:system", "--max-attempts", "1").ready()
    bank(shell, "for key in ('a', 'b', 'c'): await client.get(Account, key).fail.tell()\nawait alice.fail.tell()")
    soon(lambda: len(shell.json("dead-letters", "bank:system")) == 4)

    rows = shell.json("dead-letters", "list", "bank:system", "--key", "b")
    assert [(row["actor"], row["method"], row["attempts"]) for row in rows] == [("Account/b", "fail", 1)]
    one = shell.json("dead-letters", "show", "--system", "bank", rows[0]["id"])
    assert "no idea" in one["error"]
    assert one["arguments"] == {}
    assert "Account/alice" in shell("dead-letters", "bank:system")
    assert "no dead letter is like that" in shell("dead-letters", "bank:system", "--method", "deposit")

    runner.end()
    bank_file.write_text(broken.replace('raise RuntimeError("no idea")', "self.state.balance += 1000"))
    shell.start("run", "bank:system").ready()
    assert "1 replayed" in shell("dead-letters", "replay", "bank:system", rows[0]["id"])
    soon(lambda: bank(shell, "print(await client.get(Account, 'b').balance())") == 1000)
    assert "1 purged" in shell("dead-letters", "purge", "bank:system", "--key", "c", "--yes")
    assert "2 replayed" in shell("dead-letters", "replay", "bank:system", "--all")
    soon(lambda: bank(shell, "print([await client.get(Account, k).balance() for k in ('a', 'b', 'c', 'alice')])") == [1000, 1000, 0, 1000])

    assert shell.json("dead-letters", "bank:system") == []
    assert "there is no dead letter" in shell("dead-letters", "replay", "bank:system", rows[0]["id"], code=1)
    assert "which dead letters?" in shell("dead-letters", "replay", "bank:system", code=2)
    assert "do not go together" in shell("dead-letters", "purge", "bank:system", "--all", "--key", "a", code=2)
    assert "is no id" in shell("dead-letters", "show", "bank:system", "first", code=2)
    assert "say --yes" in shell("dead-letters", "purge", "bank:system", "--all", code=1)
