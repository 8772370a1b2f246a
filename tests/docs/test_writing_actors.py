"""The examples of the page on writing actors run, one after another in one file, and its own project does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.actor import RESERVED, ActorOptions
from actors.message import CallOptions, message
from tests.docs.pages import DOCS, Page

PAGE = Page(DOCS / "writing-actors.md")
PYTHON = [block for block in PAGE.blocks if block.language == "python"]


@pytest.mark.slow
def test_the_examples_pass(tmp_path: Path) -> None:
    """With the plugin that comes with the package."""
    (tmp_path / "test_page.py").write_text("\n\n".join(block.text for block in PYTHON if block.file is None))
    quiet = ["-p", "no:asyncio", "-p", "no:anyio", "-p", "no:cacheprovider"]

    _run(["-W", "error", "-m", "pytest", "-q", *quiet, "test_page.py"], tmp_path, {})


@pytest.mark.server
@pytest.mark.slow
def test_the_programs_run(tmp_path: Path, redis_url: str) -> None:
    """The one that has a runner inside, and then, beside a runner, the client."""
    for block in PYTHON:
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
    environment = {"ACTORS_REDIS_URL": redis_url, "ACTORS_HTTP_PORT": "0"}

    assert _run(["inside.py"], tmp_path, environment) == "1\n"
    runner = [sys.executable, "-m", "actors.cli", "run", "hello:system"]
    with subprocess.Popen(runner, cwd=tmp_path, env=_environment() | environment, stdin=subprocess.DEVNULL) as process:
        try:
            said = [_run(["say.py"], tmp_path, environment) for _ in range(2)]
        finally:
            process.terminate()
        assert process.wait(timeout=40) == 0
    assert said == ["1\n", "2\n"]


def test_the_tables_leave_nothing_out() -> None:
    """What an actor has, and what can be set for a type, a message and a call."""
    tables = "\n".join(line for line in PAGE.text.splitlines() if line.startswith("|"))
    options = {*ActorOptions.__struct_fields__, "name", "shard_group", *CallOptions.__struct_fields__, *_keywords(message)}

    assert [name for name in sorted(options) if f"`{name}=`" not in tables] == []
    taken = PAGE.prose.partition("## Names that are taken")[2]
    assert [name for name in sorted(RESERVED) if f"`{name}`" not in taken] == []


def _keywords(decorator: object) -> set[str]:
    from typing import get_overloads

    overloads = get_overloads(decorator)  # type: ignore[arg-type]
    return {name for each in overloads for name in each.__annotations__ if name not in {"fn", "return"}}


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("ACTORS_", "PYTEST_"))}


def _run(arguments: list[str], folder: Path, environment: dict[str, str]) -> str:
    command = [sys.executable, *arguments]
    finished = subprocess.run(
        command, cwd=folder, env=_environment() | environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
