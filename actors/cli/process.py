"""One runner as a process of its own, seen from its parent."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

from actors.telemetry.health import Check, Verdict
from actors.telemetry.http import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROBE_TIMEOUT: Final = 2.0


class RunnerProcess:
    """``actor-runner run`` in a child, answering probes on a unix socket.

    The child drains when its standard input ends: it does not outlive its parent,
    however that went. It has a session of its own, so that Ctrl-C reaches only the
    parent, which asks each child to drain once.
    """

    def __init__(self, name: str, arguments: Sequence[str], *, socket: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.socket = str(socket)
        self._arguments = (sys.executable, "-m", "actors.cli", "run", *arguments, "--child", self.socket)
        self._environ = {**environ, "ACTORS_RUNNER_NAME": name}
        self.starts = 0
        """How often it was started."""
        self.started_at = 0.0
        """When it was last started, by the monotonic clock."""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self, *, output: int | None = None) -> None:
        """Start the process. ``output`` is a file descriptor for what it prints; without one it goes where ours goes."""
        self._process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=self._environ,
            start_new_session=True,
        )
        self.starts += 1
        self.started_at = time.monotonic()

    async def wait(self) -> int:
        """Wait for the process to end and return its exit code."""
        assert self._process is not None
        code = await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def probe(self, path: str) -> tuple[Check, ...] | None:
        """Return what the runner says to ``/livez`` or ``/readyz``; ``None`` when it does not answer."""
        try:
            return Verdict.read((await fetch(self.socket, path, timeout=PROBE_TIMEOUT)).body).checks
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return None

    async def ready(self) -> bool:
        """Return whether the runner says it is ready."""
        checks = await self.probe("/readyz")
        return checks is not None and Verdict(checks).ok

    async def metrics(self) -> bytes:
        """Return the runner's metrics; nothing when it does not answer."""
        try:
            return (await fetch(self.socket, "/metrics", timeout=PROBE_TIMEOUT)).body
        except (OSError, TimeoutError):
            return b""
