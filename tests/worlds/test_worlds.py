"""Whole worlds, each from one seed: everything goes wrong at once, and every promise holds.

A failure names its profile and seed; ``live(profile, seed)`` shows it again, the same each time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.worlds.world import PROFILES, live

FEW = 4
MANY = 250


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of lines about what was meant to go wrong help nobody."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_promise_holds(profile: str) -> None:
    """Nothing acknowledged is lost, nothing takes effect twice, order is kept, all is drained, and nothing is left behind."""
    _look_at(profile, range(FEW))


KNOWN = {
    "poison": "seed 223: a message that waits on an ask of a poisoned actor is charged with the deaths, too",
    "rollback": "seed 159: an item of a streaming reply comes twice after Redis has lost history",
}
"""What many seeds still find. Each is a promise not kept yet, and not part of the sample that CI runs."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(profile, marks=pytest.mark.xfail(reason=KNOWN[profile], strict=False) if profile in KNOWN else ())
        for profile in PROFILES
    ],
)
def test_every_promise_holds_many_times(profile: str) -> None:
    """The same, over many seeds."""
    _look_at(profile, range(FEW, MANY))


def _look_at(profile: str, seeds: range) -> None:
    for seed in seeds:
        wrong = live(profile, seed)
        assert not wrong, f"live({profile!r}, {seed}): " + "\n".join(wrong)
