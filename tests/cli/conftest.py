"""The command line as a user has it: processes, in a folder with a small application."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

ROOT = Path(__file__).parents[2]

BANK = """
import asyncio
import msgspec
from actors.actor import Actor
from actors.message import message
from actors.system import ActorSystem

system = ActorSystem("bank")
empty = ActorSystem("empty")
number = 3

class AccountState(msgspec.Struct):
    balance: int = 0

@system.actor
class Account(Actor[AccountState]):
    @message
    async def deposit(self, amount: int) -> int:
        self.state.balance += amount
        return self.state.balance

    @message(read_only=True)
    async def balance(self) -> int:
        return self.state.balance

    @message
    async def fail(self) -> None:
        raise RuntimeError("no idea")

    @message
    async def hang(self) -> None:
        await asyncio.sleep(3600)
"""

DEADLINE = 30.0
"""How long anything that is waited for may take, in seconds; a busy machine needs some of it."""


class Shell:
    """Runs ``actor-runner`` in the application's folder."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = environ
        self._started: list[subprocess.Popen[str]] = []

    def __call__(self, *arguments: str, code: int = 0, environ: dict[str, str] | None = None) -> str:
        """Run a command to its end, check its exit code, and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "actors.cli", *arguments],
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        """Run a command with ``-o json`` and return what it printed."""
        return json.loads(self(*arguments, "-o", "json"))

    def start(self, *arguments: str, environ: dict[str, str] | None = None) -> Running:
        """Start a command that goes on."""
        log = self.folder / f"{len(self._started)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "actors.cli", *arguments],
                cwd=self.folder,
                env={**self.environ, **(environ or {})},
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return Running(process, log)

    def close(self) -> None:
        """End all that was started."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Running:
    """A command that goes on."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    @property
    def port(self) -> int:
        """The port of its probes."""

        def announced() -> int:
            head = "probes and metrics are on port "
            return next((int(line.split(head)[1].split(":")[0]) for line in self.log.splitlines() if head in line), 0)

        return self.until(announced)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a GET; status 0 where nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> Running:
        """Wait until it is ready."""
        self.until(lambda: self.get("/readyz")[0] == 200)
        return self

    def until(self, fact: Callable[[], T]) -> T:
        """Wait until something is true of it."""
        deadline = time.monotonic() + DEADLINE
        while not (found := fact()):
            assert time.monotonic() < deadline, f"it did not come to that:\n{self.log}"
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            time.sleep(0.05)
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an application."""
    (tmp_path / "bank.py").write_text(BANK)
    return tmp_path


@pytest.fixture
def offline(folder: Path) -> Iterator[Shell]:
    """A shell without a Redis."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ACTORS_")}
    shell = Shell(folder, {**environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"})
    yield shell
    shell.close()


@pytest.fixture
def shell(offline: Shell, redis_url: str) -> Shell:
    """A shell with a Redis, and settings for tests."""
    offline.environ |= {
        "ACTORS_REDIS_URL": redis_url,
        "ACTORS_HTTP_PORT": "0",
        "ACTORS_HTTP_HOST": "127.0.0.1",
        "ACTORS_SHARDS": "16",
        "ACTORS_LEASE": "3",
    }
    return offline
