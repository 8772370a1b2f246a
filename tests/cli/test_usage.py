"""What the user meets first: help at once, and errors that say what to do."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from actors.cli.main import COMMANDS
from tests.cli.conftest import ROOT, Shell


def test_help_comes_at_once(offline: Shell) -> None:
    """Under 400 ms. Counted in processor time: what it takes on the clock of a busy machine says more about that."""
    took: list[float] = []
    text = ""
    for _ in range(5):
        began = _spent()
        text = offline("--help")
        took.append(_spent() - began)

    assert all(name in text for name, _, _ in COMMANDS)
    assert min(took) < 0.4, took


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from actors.cli.main import build; build()(['--help'], result_action='return_value')\n"
        "heavy = {'msgspec', 'redis', 'uvloop', 'prometheus_client', 'opentelemetry', 'actors.system', 'asyncio'} & set(sys.modules)\n"
        "assert heavy <= {'asyncio'}, heavy"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [name for name, _, _ in COMMANDS])
def test_every_command_explains_itself(command: str, offline: Shell) -> None:
    assert f"actor-runner {command}" in offline(command, "--help")


def test_every_setting_is_in_the_help_of_run(offline: Shell) -> None:
    text = offline("run", "--help")

    assert "--drain-timeout" in text
    assert "ACTORS_DRAIN_TIMEOUT" in text
    assert "[default: 25]" in text


def test_the_version_is_told(offline: Shell) -> None:
    assert offline("--version").strip()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rn"], 'Did you mean "run"?'),
        (["run"], "TARGET"),
        (["run", "bank:system", "--leese", "3"], "Did you mean --lease?"),
        (["run", "bank:system", "--lease", "long"], "--lease"),
        (["run", "bank:system", "--redis", "redis://x", "--lease", "-1"], "lease is -1.0"),
        (["run", "bank:system", "--processes", "0"], "--processes must be at least 1"),
        (["run", "bank:system"], "ACTORS_REDIS_URL"),
        (["check", "bnk:system"], "did you mean bank?"),
        (["check", "bank:sistem"], "did you mean bank:system?"),
        (["check", "bank"], "did you mean bank:system?"),
        (["check", "bank:"], "give module:attribute"),
        (["check", "bank:number"], "not an ActorSystem"),
        (["check", "bank:Account"], "is a class"),
        (["shards"], "which system?"),
        (["shards", "--system", "bank"], "which Redis?"),
        (["shards", "show", "--system", "bank", "--redis", "redis://x", "nope"], "expected group.index"),
        (["shards", "move", "--system", "bank", "--redis", "redis://x", "default.1"], "shards move module:system default.17 NAME"),
        (["actors", "--system", "bank", "--redis", "redis://x"], "actors module:system [TYPE] KEY"),
        (["reshard", "--system", "bank", "--redis", "redis://x", "many"], "no number of shards"),
        (["schema", "bank:system", "Acount"], "it has Account"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: list[str], said: str, offline: Shell) -> None:
    assert said in offline(*arguments, code=2)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nowhere_to_be_found", "it needs nowhere_to_be_found"),
        ("x = 1 / 0", "broken.py:1: x = 1 / 0"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "ends the program when it is imported"),
    ],
)
def test_an_error_in_the_module_is_shown_where_it_is(source: str, said: str, offline: Shell, folder: Path) -> None:
    (folder / "broken.py").write_text(source)

    assert said in offline("check", "broken:system", code=2)


def test_a_variable_that_does_not_fit_is_named(offline: Shell) -> None:
    assert "ACTORS_LEASE" in offline("run", "bank:system", code=2, environ={"ACTORS_LEASE": "soon"})
