"""One runner of the measured application as a process: ``python -m benchmarks.runner URL NAME SETTINGS``.

Prints ``ready`` once it serves, drains at SIGTERM. The same as ``actor-runner run`` without
its listener for probes and its logs, so that what is measured is the runner.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import msgspec
import uvloop

from actors._runner.memory import settle_collector
from actors.settings import Settings
from benchmarks.app import system


async def run(url: str, name: str, settings: Settings) -> None:
    """Serve until SIGTERM, then drain."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with system.runner(url, name=name, settings=settings):
        print("ready", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    settle_collector()
    uvloop.run(run(sys.argv[1], sys.argv[2], msgspec.json.decode(sys.argv[3], type=Settings)))
