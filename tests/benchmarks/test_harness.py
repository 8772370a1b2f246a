"""Every measurement runs, and hands over figures that a table and a file can show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.__main__ import MEASUREMENTS
from benchmarks.report import Report

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parent.parent.parent


def test_every_measurement_runs_on_a_given_server(redis_url: str, tmp_path: Path) -> None:
    """With so few messages that the figures mean nothing, but all of the code."""
    command = [sys.executable, "-m", "benchmarks", "--redis", redis_url, "--rounds", "1", "--scale", "0.01", "--out", str(tmp_path)]

    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)

    assert finished.returncode in {0, 1}, finished.stderr  # 1: a figure missed its bound, as so few may
    report = msgspec.json.decode((tmp_path / "figures.json").read_bytes(), type=Report)
    assert [section.name for section in report.sections] == list(MEASUREMENTS)
    assert all(section.figures for section in report.sections)
    plots = {plot.name for section in report.sections for plot in section.plots}
    assert plots == {path.stem for path in tmp_path.glob("*.png")}


def test_an_unknown_measurement_is_a_usage_error(tmp_path: Path) -> None:
    """Not an empty report."""
    command = [sys.executable, "-m", "benchmarks", "no-such", "--out", str(tmp_path)]

    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert finished.returncode == 2
    assert "throughput" in finished.stdout
    assert not any(tmp_path.iterdir())
