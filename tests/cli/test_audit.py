"""The audit finds what it is there to find: a demo that could not fail would show nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from actors.cli.audit import audit


@dataclass
class Account:
    balance: int = 100
    sent: list[int] = field(default_factory=list[int])
    received: list[int] = field(default_factory=list[int])


def test_all_well() -> None:
    found = audit({1, 2}, {3, 4}, [Account(95, [1, 3], [2]), Account(105, [2], [1, 3])], opening=100)

    assert found.clean
    assert found.transfers == 2


@pytest.mark.parametrize(
    ("accounts", "wrong"),
    [
        ([Account(100), Account(100)], {"lost": (1,)}),
        ([Account(95, [1]), Account(100)], {"lost": (1,), "money": -5}),
        ([Account(90, [1, 1]), Account(110, [], [1, 1])], {"doubled": (1,)}),
        ([Account(95, [1]), Account(110, [], [1, 1])], {"doubled": (1,), "money": 5}),
        ([Account(95, [1], [2]), Account(105, [], [1])], {"halves": (2,)}),
    ],
)
def test_each_thing_that_can_go_wrong_is_found(accounts: list[Account], wrong: dict[str, object]) -> None:
    found = audit({1}, {2}, accounts, opening=100)

    assert not found.clean
    assert {name: value for name, value in found._asdict().items() if name != "transfers" and value} == wrong
