"""The code on the pages works: programs run, fragments compile, commands are ones that exist."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cyclopts import CycloptsError

from actors.cli.main import COMMANDS, build
from actors.telemetry.health import Vitals, ready
from tests.docs.pages import DOCS, ROOT, Block, Page, pages

PAGES = pages()
BLOCKS = [block for page in PAGES for block in page.blocks]
PYTHON = [block for block in BLOCKS if block.language == "python"]
TESTS = [block for block in PYTHON if (block.file or "").startswith("test_")]


def _where(block: Block) -> str:
    return block.where


@pytest.mark.parametrize("block", PYTHON, ids=_where)
def test_python_compiles(block: Block) -> None:
    """A fragment as well as a program."""
    compile(block.text, block.where, "exec", dont_inherit=True)


@pytest.mark.slow
@pytest.mark.parametrize("block", TESTS, ids=_where)
def test_a_test_on_a_page_passes(block: Block, tmp_path: Path) -> None:
    """Beside the files of the first page, with the plugin that comes with the package."""
    for program in Page(ROOT / "README.md").blocks:
        if program.language == "python" and program.file is not None:
            (tmp_path / program.file).write_text(program.text)
    assert block.file is not None
    (tmp_path / block.file).write_text(block.text)

    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ACTORS_", "PYTEST_"))}
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:asyncio",
        "-p",
        "no:anyio",
        "-p",
        "no:cacheprovider",
        block.file,
    ]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50, check=False)

    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (line.partition("#")[0].strip(), block.where)
        for block in BLOCKS
        if block.language == "sh"
        for line in block.text.splitlines()
        if line.startswith("actor-runner ")
    ],
)
def test_a_command_is_one_that_exists(command: str, where: str) -> None:
    """With flags that it takes."""
    _, *words = shlex.split(command)
    try:
        build().parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"{where}: {command}: {error}")


def test_every_command_is_in_the_readme() -> None:
    """By its name."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [name for name, _, _ in COMMANDS if f"`actor-runner {name}" not in text and f"`{name}`" not in text] == []


def test_the_manifest_asks_for_probes_that_are_answered() -> None:
    """And gives a pod longer than its runner takes to drain."""
    (block,) = [block for block in Page(DOCS / "operations.md").blocks if block.language == "yaml"]
    manifest = yaml.safe_load(block.text)
    (container,) = manifest["containers"]

    probes = {name: container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
    assert probes == {"livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert manifest["terminationGracePeriodSeconds"] > 25
    assert container["args"][:2] == ["actor-runner", "run"]


def test_the_page_names_all_that_readiness_looks_at() -> None:
    """A check that is added is explained."""
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    words = {"loop": "event loop", "services": "service", "redis": "PING", "lease": "lease", "types": "actor types", "draining": "draining"}
    checks = {check.name for check in ready(Vitals(now=0.0, loop_turned_at=0.0, redis_answered_at=None)).checks}

    assert checks == set(words)
    assert all(word in text for word in words.values())
