"""What README shows runs as it stands: its programs are taken from the page and run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder with the page's Python files, each named by its first line."""
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL):
        name = block.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(block)
    return tmp_path


@pytest.mark.server
@pytest.mark.slow
def test_the_client_talks_to_the_runner(pages: Path, redis_url: str) -> None:
    """``actor-runner run bank:system`` in one terminal, ``python client.py`` in another."""
    environment = _environment() | {"ACTORS_REDIS_URL": redis_url, "ACTORS_HTTP_PORT": "0"}
    with subprocess.Popen([SCRIPTS / "actor-runner", "run", "bank:system"], cwd=pages, env=environment, stdin=subprocess.DEVNULL) as runner:
        try:
            said = _run([sys.executable, "client.py"], pages, environment)
        finally:
            runner.send_signal(signal.SIGTERM)
        assert runner.wait(timeout=40) == 0

    assert said == "116 10000\n"


def test_the_test_passes_without_a_server(pages: Path) -> None:
    """With the plugin that comes with the package, and no other."""
    said = _run([sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:anyio", "test_bank.py"], pages, _environment())

    assert "1 passed" in said


def test_the_two_commands_are_there_word_for_word() -> None:
    """CI takes the second one from the page."""
    commands = re.findall(r"^python3 -m venv \.venv && (.*)$", README.read_text(), flags=re.MULTILINE)

    assert commands == [
        ".venv/bin/pip install -q '.[embedded]' && .venv/bin/actor-runner demo",
        ".venv/bin/pip install -q -e '.[dev]' && .venv/bin/pytest -n 2",
    ]


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("ACTORS_", "PYTEST_"))}


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
