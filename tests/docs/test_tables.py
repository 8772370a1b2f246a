"""The tables that are made from the code are what the code says now."""

from __future__ import annotations

import re

import pytest

from tests.docs import tables
from tests.docs.pages import ROOT, Page

HINT = "run: python -m tests.docs.tables"
BY_NAME = {"modules", "scripts", "events"}
"""Tables in which only the first column is compared: what is said beside it is the docstring's, at the time of writing."""

SECTIONS = [(name, section) for name, sections in tables.SECTIONS.items() for section, _ in sections]


@pytest.mark.parametrize(("page", "section"), SECTIONS)
def test_a_generated_table_is_current(page: str, section: str) -> None:
    """A name, default, limit or outcome that changes shows here."""
    make = dict(tables.SECTIONS[page])[section]
    written, made = Page(ROOT / page).section(section), make()

    if section in BY_NAME:
        written, made = _names(written), _names(made)
    assert written == made, HINT


def test_the_layers_are_those_of_one_contract() -> None:
    """The page draws what is enforced."""
    layers = tables.layers()

    assert layers.index("cli") < layers.index("_runner") < layers.index("_mailbox") < layers.index("_redis") < layers.index("wire")


def _names(table: str) -> str:
    return "\n".join("".join(found) for found in re.findall(r"^\| (`[^`]+`) \||^\*\*(`[^`]+`)", table, flags=re.MULTILINE))
