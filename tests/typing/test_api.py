"""Types of the public API come out right, in mypy and in pyright, with no stubs and no plugin."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
API = Path(__file__).with_name("api.py")
REFUSED = Path(__file__).with_name("refused.py")

# Syntax of Python 3.12, which the package's own range does not allow in a file.
PEP_695 = """
from collections.abc import AsyncIterator
from typing import Annotated, assert_type

import msgspec

from actors import Actor, ActorSystem, Client, message

system = ActorSystem("x")
type Cents = Annotated[int, msgspec.Meta(ge=0)]
type Key = str


class BoxState[T](msgspec.Struct):
    items: list[T] = []


class Box[T](Actor[BoxState[T]]):
    @message
    async def put(self, item: T) -> int:
        self.state.items.append(item)
        return 1

    @message
    async def all(self) -> AsyncIterator[T]:
        for item in self.state.items:
            yield item

    @message
    async def pay(self, cents: Cents, key: Key = "x") -> Cents:
        return cents


@system.actor
class IntBox(Box[int]): ...


async def uses(client: Client) -> None:
    box = client.get(IntBox, "b")
    await box.put("x")  # E
    assert_type(await box.put(1), int)
    async for item in box.all():
        assert_type(item, int)
    assert_type(await box.pay(3), Cents)
    await box.pay("x")  # E
    await client.get(Box[str], "x").put(3)  # E
"""

Complaints = Mapping[int, list[str]]


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    """The file without its first line, which keeps everybody else's checks from complaining."""
    path = tmp_path / "refused.py"
    path.write_text("\n" + REFUSED.read_text().partition("\n")[2])
    return path


@pytest.fixture
def pep_695(tmp_path: Path) -> Path:
    path = tmp_path / "pep_695.py"
    path.write_text("# pyright: strict\n" + PEP_695)
    return path


def mypy(path: Path, version: str) -> Complaints:
    """What mypy says of each line of a file."""
    command = [
        *(tool("mypy"), "--strict", "--enable-error-code", "unused-awaitable", "--config-file", "", "--python-version", version),
        *(
            "--python-executable",
            sys.executable,
            "--no-error-summary",
            "--no-pretty",
            "--cache-dir",
            ".mypy_cache/public-api",
            "--explicit-package-bases",
            str(path),
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={"MYPYPATH": str(ROOT), "PATH": ""})
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[int, list[str]] = defaultdict(list)
    for line in done.stdout.splitlines():
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        if match and Path(match[1]).name == path.name:  # the folder may be that of an earlier run, out of the cache
            found[int(match[2])].append(match[3])
    return found


def pyright(path: Path, version: str) -> Complaints:
    """What pyright says of each line of a file."""
    command = [tool("pyright"), "--outputjson", "--pythonversion", version, "--pythonpath", sys.executable, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[int, list[str]] = defaultdict(list)
    for complaint in json.loads(done.stdout)["generalDiagnostics"]:
        if complaint["severity"] == "error":
            found[complaint["range"]["start"]["line"] + 1].append(complaint["message"])
    return found


def tool(name: str) -> str:
    path = shutil.which(name, path=f"{Path(sys.executable).parent}") or shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def marked(path: Path, checker: str) -> set[int]:
    """The lines that ``checker`` must refuse."""
    lines = path.read_text().splitlines()
    return {n for n, line in enumerate(lines, 1) if re.search(rf"# E(?::{checker})?(?:$| )", line)}


def differences(path: Path, checker: str, complaints: Complaints) -> list[str]:
    lines = path.read_text().splitlines()
    expected = marked(path, checker)
    accepted = [f"{n} is not refused: {lines[n - 1].strip()}" for n in sorted(expected - set(complaints))]
    refused = [f"{n} is refused: {lines[n - 1].strip()}: {said[0]}" for n, said in sorted(complaints.items()) if n not in expected]
    return accepted + refused


CHECKERS = {"mypy": mypy, "pyright": pyright}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_the_public_api_types(checker: str) -> None:
    assert differences(API, checker, CHECKERS[checker](API, "3.11")) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_wrong_is_refused(checker: str, refused: Path) -> None:
    assert differences(refused, checker, CHECKERS[checker](refused, "3.11")) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_it_types_in_the_syntax_of_python_3_12(checker: str, pep_695: Path) -> None:
    assert differences(pep_695, checker, CHECKERS[checker](pep_695, "3.12")) == []


def test_both_kinds_of_line_are_looked_at() -> None:
    """A test that found no marks would pass for ever."""
    assert len(marked(REFUSED, "mypy")) > 40
    assert len(marked(REFUSED, "pyright")) > 40
