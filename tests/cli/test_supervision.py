"""Restarts: soon for a crash, later and later for one that repeats, never for a wrong command."""

from __future__ import annotations

import pytest

from actors.cli.supervision import LONGEST_WAIT, SETTLED_AFTER, Ended, GiveUp, Restart, after_exit, told


@pytest.mark.parametrize(
    ("code", "ran_for", "failures", "stopping", "expected"),
    [
        (0, 100.0, 0, True, Ended()),
        (-9, 100.0, 0, True, Ended()),
        (2, 0.1, 0, False, GiveUp("it cannot be started like this")),
        (0, 100.0, 3, False, Restart(0.0, 0)),
        (1, 0.1, 0, False, Restart(0.5, 1)),
        (-9, 0.1, 1, False, Restart(1.0, 2)),
        (1, 0.1, 40, False, Restart(LONGEST_WAIT, 41)),
        (1, SETTLED_AFTER, 40, False, Restart(0.5, 1)),
    ],
)
def test_what_follows_an_exit(code: int, ran_for: float, failures: int, stopping: bool, expected: object) -> None:  # noqa: FBT001 - a table
    assert after_exit(code=code, ran_for=ran_for, failures=failures, stopping=stopping) == expected


def test_an_exit_in_words() -> None:
    assert told(-9) == "was ended by signal 9"
    assert told(1) == "exited with code 1"
