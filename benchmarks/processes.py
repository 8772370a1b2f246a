"""The processes that a measurement starts, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator

import msgspec
import psutil

from actors.settings import Settings

READY = b"ready\n"


class Child:
    """A running process that has said it is ready."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self._process = process
        self._usage = psutil.Process(process.pid)

    @property
    def rss(self) -> int:
        """Resident memory, in bytes."""
        return self._usage.memory_info().rss

    @property
    def cpu_seconds(self) -> float:
        """Processor time used so far, by all threads."""
        times = self._usage.cpu_times()
        return times.user + times.system

    def kill(self) -> None:
        """SIGKILL, without waiting for it to take effect."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask it to drain."""
        self._process.send_signal(signal.SIGTERM)

    async def gone(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()


@contextlib.asynccontextmanager
async def child(name: str, *arguments: str) -> AsyncGenerator[Child]:
    """Run ``python -m`` with ``arguments``, ready, until the block ends. A process that is still there then is killed."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        if await process.stdout.readline() != READY:
            raise RuntimeError(f"{' '.join(arguments)} ended with exit code {await process.wait()} before it was ready")
        yield Child(name, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def runners(url: str, count: int, settings: Settings) -> AsyncGenerator[list[Child]]:
    """Run ``count`` runners of the measured application until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        encoded = msgspec.json.encode(settings).decode()
        yield [
            await stack.enter_async_context(child(f"runner-{number}", "benchmarks.runner", url, f"runner-{number}", encoded))
            for number in range(count)
        ]


@contextlib.asynccontextmanager
async def runner(url: str, name: str, settings: Settings) -> AsyncGenerator[Child]:
    """Run one runner until the block ends."""
    async with child(name, "benchmarks.runner", url, name, msgspec.json.encode(settings).decode()) as process:
        yield process


@contextlib.asynccontextmanager
async def bare_runner(url: str) -> AsyncGenerator[Child]:
    """Run the bare loop's runner until the block ends."""
    async with child("bare", "benchmarks.bare_loop", "runner", url) as process:
        yield process
