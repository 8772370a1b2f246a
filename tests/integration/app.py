"""One runner of the tests' system, as a process: ``python -m tests.integration.app --url … --name …``.

What happens is told on standard output, a JSON object a line: ``{"event": "ready", …}`` once
it serves its shards, each event of the runner as it happens, ``ended`` at the end. SIGTERM
drains; the end of standard input ends it at once, so that it never outlives its parent.
Settings come from ``ACTORS_…`` variables, as for any runner.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import signal
import sys
import time
from typing import Any

import msgspec
import uvloop

from actors._redis.connection import TcpServer
from actors.settings import from_environment
from actors.telemetry.events import Event
from actors.telemetry.logs import EventLog, configure
from actors.telemetry.recorder import Recorder
from tests.integration import bank, cast
from tests.integration.system import system

__all__ = ["bank", "cast"]


def tell(event: str, **fields: Any) -> None:
    """Write one line to the parent."""
    line = msgspec.json.encode({"event": event, "at": time.clock_gettime(time.CLOCK_BOOTTIME), **fields}, enc_hook=repr)
    os.write(sys.stdout.fileno(), line + b"\n")  # in one piece: the lease's thread tells events too


def tell_event(event: Event) -> None:
    """Hand an event to the parent."""
    tell(type(event).__name__, **event.fields())


async def run(url: str, name: str) -> None:
    """Run until told to end."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_reader(sys.stdin.fileno(), lambda: os._exit(3))
    settings = from_environment(system.settings, os.environ)
    runner = system.build_runner(TcpServer.from_url(url), name=name, settings=settings, telemetry=Recorder(sinks=[EventLog(), tell_event]))
    async with runner:
        tell("ready", incarnation=runner.id.incarnation)
        await told.wait()
        tell("draining")
    tell("ended")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", choices=["old", "new"], default="new")
    arguments = parser.parse_args()
    importlib.import_module(f"tests.integration.profile_{arguments.version}")
    configure("text", constant={"runner": arguments.name})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:
        loop_runner.run(run(arguments.url, arguments.name))
