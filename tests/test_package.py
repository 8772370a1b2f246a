"""What is installed is complete: the wheel, not the checkout, is what people run."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    """Scripts in Lua and the marker for type checkers are not Python, and easily forgotten."""
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "actors").rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    packed = {name for name in wheel.namelist() if name.startswith("actors/")}

    assert packed == source
    assert "actors/py.typed" in packed
    assert any(name.endswith(".lua") for name in packed)


def test_the_wheel_brings_the_command_the_plugin_and_the_licence(wheel: zipfile.ZipFile) -> None:
    """By the names that the documentation promises."""
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(wheel.read(name).decode())

    assert dict(points["console_scripts"]) == {"actor-runner": "actors.cli.main:main"}
    assert dict(points["pytest11"]) == {"actors": "actors.testing.plugin"}
    assert [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]


def test_every_extra_that_an_error_or_a_page_names_exists() -> None:
    """A hint to install something must not fail."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert set(extras) >= {"embedded", "workflows", "otel", "web", "test", "dev"}
