"""Output: whole for programs, readable for people."""

from __future__ import annotations

import json

import pytest

from actors.cli.console import age, plain, show, show_one, text_of

ROWS = [{"name": "pod-1", "shards": 1234, "note": None}, {"name": "pod-\ud800", "shards": 5, "note": "x" * 300}]


def test_json_has_every_field_of_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, "json", empty="none", columns=["name"])

    assert json.loads(capsys.readouterr().out) == [ROWS[0], {**ROWS[1], "name": "pod-\\ud800"}]


def test_without_a_terminal_nothing_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    show([ROWS[0], {**ROWS[1], "name": "pod-2"}], "table", empty="none")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "shards", "note"]
    assert lines[1].split() == ["pod-1", "1,234", "-"]
    assert "x" * 300 in lines[2]


def test_nothing_is_said_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    show([], "table", empty="no dead letters")
    show([], "json", empty="no dead letters")

    assert capsys.readouterr().out == "no dead letters\n[]\n"


def test_one_thing_is_a_line_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"key": "alice", "state": {"balance": 3}}, "table")

    assert capsys.readouterr().out == 'key    alice\nstate  {\n         "balance": 3\n       }\n'


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, None), (-1, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (65, "65 s"), (600, "10 min"), (7200, "2 h"), (864_000, "10 d")],
)
def test_times_as_people_say_them(seconds: float | None, said: str | None) -> None:
    assert age(seconds) == said


def test_anything_becomes_json() -> None:
    assert plain({b"\xff": {1, 2}, ("a", 1): object}) == {"\\xff": [1, 2], "('a', 1)": "<class 'object'>"}


def test_cells() -> None:
    assert [text_of(value) for value in (None, "", True, 1.25, 1000, ["a", 2], [])] == ["-", "-", "yes", "1.2", "1,000", "a, 2", "-"]
