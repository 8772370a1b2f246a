"""Errors as the user sees them: what is wrong, what to do, and the exit code."""

from __future__ import annotations

import pytest

from actors._redis.faults import RedisFault
from actors.cli.failure import Failure, Usage, explain
from actors.errors import ConfigurationError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Failure("the audit failed", "look at the log"), 1, "error: the audit failed\n  look at the log"),
        (Usage("no such system"), 2, "error: no such system"),
        (ConfigurationError(setting="lease", problem="is -1", hint="Set it above 0"), 1, "lease is -1"),
        (RedisFault("connection refused"), 1, "connection refused"),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [Usage("deep")])]), 2, "error: deep"),
    ],
)
def test_what_is_foreseen_is_told_without_a_traceback(error: Exception, code: int, said: str) -> None:
    told = explain(error)

    assert told is not None
    assert told.code == code
    assert said in told.text


@pytest.mark.parametrize("error", [KeyError("x"), ExceptionGroup("tasks", [Usage("a"), KeyError("b")])])
def test_a_bug_of_ours_keeps_its_traceback(error: Exception) -> None:
    assert explain(error) is None
