"""Every example is a program that runs as it is and does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SAYS = {
    "counter": r"from \d+ to \d+, each number once: True\n",
    "bank": r"refused: 1,000,000 asked for, 75 there\nalice 75, bob 30; 105 more than before\n",
    "chat_room": r"ann: anybody here\?\nbob: message 0\nbob: message 1\nbob: message 2\nall three heard the same: True\n",
    "rate_limiter": r"30 at once: 10 allowed, the others in 0\.\d s\nafter waiting: allowed\n",
    "iot_twin": r"online at 64\.5 °C after 3 reports\n0\.5 s later: offline\n",
    "web": (
        r"click-1 200 \{'left': 2\}\nclick-1 200 \{'left': 2\}\nclick-2 200 \{'left': 1\}\n"
        r"click-3 200 \{'left': 0\}\nclick-4 409 \{'error': 'lamp is sold out'\}\n"
    ),
}


def test_no_example_is_left_out() -> None:
    """A new example comes with what it prints."""
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__", "server"}

    assert examples == set(SAYS)


@pytest.mark.server
@pytest.mark.parametrize("name", SAYS)
def test_an_example_does_what_it_says(name: str, redis_url: str) -> None:
    """On the server that ACTORS_REDIS_URL names."""
    assert re.fullmatch(SAYS[name], _output(name, {"ACTORS_REDIS_URL": redis_url}))


@pytest.mark.server
def test_an_example_needs_no_server() -> None:
    """Without ACTORS_REDIS_URL it brings its own."""
    assert re.fullmatch(SAYS["counter"], _output("counter", {}))


def _output(name: str, variables: dict[str, str]) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ACTORS_")}
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}"],
        cwd=ROOT,
        env=environment | {"ACTORS_DURABILITY": "memory"} | variables,  # the tests' server saves nothing, and runners would say so
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout
