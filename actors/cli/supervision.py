"""What the parent of several runner processes does when one of them ends."""

from __future__ import annotations

from typing import Final, NamedTuple

SETTLED_AFTER: Final = 60.0
"""A process that ran this long, in seconds, ended for a new reason: its failures are counted from none."""

LONGEST_WAIT: Final = 30.0
"""Longest wait before a restart, in seconds."""

HOPELESS_AFTER: Final = 5
"""Failures in a row after which the parent stops calling itself live: a fresh pod may do better."""

_USAGE: Final = 2


class Restart(NamedTuple):
    """Start it again, after ``wait`` seconds; it has failed ``failures`` times in a row."""

    wait: float
    failures: int


class Ended(NamedTuple):
    """Leave it: it was asked to end."""


class GiveUp(NamedTuple):
    """End all: the same command would fail again at once."""

    why: str


def after_exit(*, code: int, ran_for: float, failures: int, stopping: bool) -> Restart | Ended | GiveUp:
    """Return what to do after a process has ended with ``code`` (below zero: by that signal)."""
    if stopping:
        return Ended()
    if code == _USAGE:
        return GiveUp("it cannot be started like this")
    if code == 0:  # somebody asked that one process to end, as one does to replace it
        return Restart(0.0, 0)
    failures = 1 if ran_for >= SETTLED_AFTER else failures + 1
    return Restart(min(LONGEST_WAIT, 0.5 * 2 ** (failures - 1)), failures)


def told(code: int) -> str:
    """Return an exit code in words."""
    return f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
