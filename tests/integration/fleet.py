"""Runners as child processes: started, killed, stopped, and asked what has happened to them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

ROOT = Path(__file__).parents[2]

T = TypeVar("T")

Told = dict[str, Any]
"""An event as a runner has told it: its name under ``event``, when under ``at``, and its fields."""


class RunnerProcess:
    """One runner process, from :meth:`start` on."""

    def __init__(self, name: str, url: str, *, log: Path, environ: Mapping[str, str], version: str) -> None:
        self.name = name
        self.events: list[Told] = []
        self.log = log
        self._url = url
        self._environ = environ
        self._version = version
        self._process: asyncio.subprocess.Process
        self._listening: asyncio.Task[None]
        self._news = asyncio.Condition()
        self.frozen = False

    async def start(self) -> None:
        """Start it. :meth:`ready` waits until it serves its shards."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.integration.app", "--url", self._url, "--name", self.name, "--version", self._version),
                cwd=ROOT,
                env={**os.environ, **self._environ},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                limit=1 << 22,
            )
        self._listening = asyncio.create_task(self._listen(), name=f"events of {self.name}")

    async def ready(self, *, within: float = 20.0) -> str:
        """Wait until it serves its first shards; return its incarnation."""
        event = await self.event("ready", within=within)
        return str(event["incarnation"])

    @property
    def incarnation(self) -> str:
        """Its incarnation; it must be ready."""
        return str(next(event["incarnation"] for event in self.events if event["event"] == "ready"))

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self._process.returncode is None

    def count(self, name: str) -> int:
        """Return how many events of this name it has told."""
        return sum(event["event"] == name for event in self.events)

    async def event(self, name: str, *, after: int = 0, within: float = 20.0, where: Callable[[Told], bool] | None = None) -> Told:
        """Wait for an event of this name, beyond the first ``after`` ones, that fits ``where``, and return it."""

        def found() -> list[Told]:
            fitting = [event for event in self.events if event["event"] == name and (where is None or where(event))]
            return fitting[after:]

        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: found() or not self.alive)
        except TimeoutError:
            raise AssertionError(f"{self.name} has not told {name} within {within:g} s; it told {self._told()}") from None
        if not found():
            raise AssertionError(f"{self.name} ended with {self._process.returncode} without {name}; it told {self._told()}")
        return found()[0]

    def kill(self) -> None:
        """SIGKILL it, frozen or not."""
        self._process.kill()

    def freeze(self) -> None:
        """SIGSTOP it: it holds everything and does nothing."""
        self._process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT it."""
        self._process.send_signal(signal.SIGCONT)
        self.frozen = False

    def terminate(self) -> None:
        """SIGTERM it: it drains."""
        self._process.send_signal(signal.SIGTERM)

    async def ended(self, *, within: float = 20.0) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        try:
            async with asyncio.timeout(within):
                code = await self._process.wait()
                await self._listening
        except TimeoutError:
            raise AssertionError(f"{self.name} has not ended within {within:g} s; it told {self._told()}") from None
        return code

    async def close(self) -> None:
        """End it, however it is."""
        if self.alive:
            self._process.kill()
        await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event: Told = msgspec.json.decode(line)
            async with self._news:
                self.events.append(event)
                self._news.notify_all()
        await self._process.wait()
        async with self._news:
            self._news.notify_all()

    def _told(self) -> str:
        names: dict[str, int] = {}
        for event in self.events:
            names[event["event"]] = names.get(event["event"], 0) + 1
        return ", ".join(f"{name} ×{times}" for name, times in names.items()) or "nothing"


class Fleet:
    """The runners of one test."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.runners: list[RunnerProcess] = []
        """All that were ever started."""

    async def start(self, *names: str, url: str | None = None, version: str = "new", **settings: object) -> list[RunnerProcess]:
        """Start runners and wait until each serves. ``settings`` are given to them as ``ACTORS_…`` variables."""
        runners = [await self.launch(name, url=url, version=version, **settings) for name in names]
        await asyncio.gather(*[runner.ready() for runner in runners])
        return runners

    async def launch(self, name: str, *, url: str | None = None, version: str = "new", **settings: object) -> RunnerProcess:
        """Start a runner without waiting for it."""
        runner = RunnerProcess(
            name,
            url or self.url,
            log=self.folder / f"{len(self.runners)}-{name}.log",
            environ={f"ACTORS_{key.upper()}": str(value) for key, value in settings.items()},
            version=version,
        )
        self.runners.append(runner)
        await runner.start()
        return runner

    @property
    def alive(self) -> list[RunnerProcess]:
        """Those whose process is there."""
        return [runner for runner in self.runners if runner.alive]

    async def close(self) -> None:
        """End all, however they are."""
        await asyncio.gather(*[runner.close() for runner in self.runners])

    def logs(self) -> str:
        """What all have logged, for people."""
        return "\n".join(f"===== {runner.log.name}\n{runner.log.read_text(errors='replace')}" for runner in self.runners)


async def until(holds: Callable[[], bool], *, within: float = 10.0, what: str = "it") -> None:
    """Wait until ``holds()``, or fail saying ``what`` did not come true."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within:g} s")
        await asyncio.sleep(0.01)


async def eventually(ask: Callable[[], Awaitable[T]], fits: Callable[[T], bool] = bool, *, within: float = 15.0) -> T:
    """Ask again and again until the answer fits, and return it."""
    deadline = time.monotonic() + within
    while not fits(answer := await ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {within:g} s it is still {answer!r}")
        await asyncio.sleep(0.02)
    return answer
