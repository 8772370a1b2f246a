"""``dev``: save a file, and the runners run it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Running, Shell


def ask(shell: Shell, url: str) -> str:
    program = (
        "import asyncio\nfrom bank import Account, system\n"
        "async def main():\n    async with system.connect() as client:\n        print(await client.get(Account, 'alice').deposit(1))\n"
        "asyncio.run(main())\n"
    )
    environ = {**shell.environ, "ACTORS_REDIS_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=shell.folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    return (done.stdout or done.stderr).strip()


def url_of(dev: Running) -> str:
    return dev.until(lambda: next((part.split("=")[1] for part in dev.log.split() if part.startswith("ACTORS_REDIS_URL=")), ""))


@pytest.mark.slow
@pytest.mark.server
def test_a_saved_file_is_run_and_a_broken_one_is_not(offline: Shell) -> None:
    bank = offline.folder / "bank.py"
    source = bank.read_text()
    dev = offline.start("dev", "bank:system", "--runners", "2", environ={"PYTHONDONTWRITEBYTECODE": "1", "ACTORS_LEASE": "3"})
    url = url_of(dev)
    dev.until(lambda: dev.log.count("is ready after") == 2)
    assert ask(offline, url) == "1"

    bank.write_text(source.replace("+= amount", "+= 10 * amount"))
    dev.until(lambda: dev.log.count("is ready after") == 4)
    assert "bank.py changed" in dev.log
    assert ask(offline, url) == "11"

    bank.write_text(source + "\n1 / 0\n")
    dev.until(lambda: "did not come up with the new code" in dev.log)
    assert "1 / 0" in dev.log
    bank.write_text(source.replace("+= amount", "+= 100 * amount"))
    dev.until(lambda: dev.log.count("is ready after") >= 6)
    assert ask(offline, url) == "111"

    assert dev.end() == 0


@pytest.mark.server
def test_what_is_wrong_from_the_beginning_is_told_at_once(offline: Shell) -> None:
    (offline.folder / "bank.py").write_text("1 / 0")

    assert "1 / 0" in offline("dev", "bank:system", code=2)
