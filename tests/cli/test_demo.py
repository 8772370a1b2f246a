"""The first minute, as the newcomer has it."""

from __future__ import annotations

import time

import pytest

from actors.cli.demo import handled
from tests.cli.conftest import Shell


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.chaos
def test_the_demo_ends_in_a_clean_audit(offline: Shell) -> None:
    """Nothing installed, no terminal: three processes, one SIGKILL, nothing lost, nothing doubled, well under a minute."""
    began = time.monotonic()
    told = offline("demo", "--seconds", "4", "--lease", "2")
    took = time.monotonic() - began

    assert "was killed with SIGKILL" in told
    lines = dict(line.split("s  ", 1)[1].rsplit("  ", 1) for line in told.splitlines()[-5:])
    found = {name.strip(): value.strip() for name, value in lines.items()}
    assert (found["lost"], found["doubled"], found["money"]) == ("0", "0", "all there")
    assert int(found["transfers acknowledged"].replace(",", "")) > 500
    assert float(found["takeover"].split()[0]) <= 4.0
    assert took < 60


def test_turns_are_read_off_the_metrics() -> None:
    text = b'# TYPE x counter\nactors_messages_handled_total{a="b c"} 3.0\nactors_messages_handled_total{a="d"} 1e3\nother 7\n'

    assert handled(text) == 1003
