"""What the pages refer to is there: links, files, tests, settings, metrics, commands, and the lines of the scripts."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from actors._redis.keys import Keys
from actors.settings import PREFIX, Settings
from tests.docs import tables
from tests.docs.pages import DOCS, ROOT, SCRIPTS, Block, Page, pages

PAGES = pages()
BY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
GUARANTEES = sorted(path for path in (DOCS / "guarantees").glob("*.md") if path.name != "README.md")
URLS = {"ACTORS_REDIS_URL", "ACTORS_POSTGRES_URL"}


@BY_PAGE
def test_links_lead_somewhere(page: Page) -> None:
    """To a page that is there, and to a heading of it."""
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme:
            assert (parts.scheme, bool(parts.hostname)) == ("https", True), link
            continue
        target = (page.path.parent / parts.path).resolve() if parts.path else page.path
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in Page(target).anchors, link


@BY_PAGE
def test_files_and_tests_are_there(page: Page) -> None:
    """A name in backticks that begins with a folder of the repository is a file of it, a name behind :: something defined in it."""
    for code in page.code:
        if not re.match(r"(actors|tests|examples|benchmarks|docs)/[\w/.*-]+", code):
            continue
        name, _, symbol = code.partition("::")
        path = ROOT / name
        assert path.exists(), f"{code} in {page.name}"
        if symbol:
            assert symbol in _defined(path), f"{code} in {page.name}"


@BY_PAGE
def test_settings_and_metrics_are_there(page: Page) -> None:
    """A variable belongs to a setting, a metric is one that a scrape shows."""
    known = {PREFIX + name.upper() for name in Settings.__struct_fields__} | URLS
    assert set(re.findall(r"\bACTORS_[A-Z_]+\b", page.text)) <= known

    shown = {row[0] for row in tables.families()}
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bactors_[a-z_]+\b", page.text)}
    assert {name for name in named if name not in shown} == set()


def _lua() -> list[Block]:
    return [block for page in PAGES for block in page.blocks if block.language == "lua"]


@pytest.mark.parametrize("block", _lua(), ids=lambda block: f"{block.where} {block.name}")
def test_a_quoted_script_reads_like_this(block: Block) -> None:
    """Its lines stand together in the script, but for their indentation."""
    quoted = [line.strip() for line in block.text.splitlines() if line.strip()]
    script = [line.strip() for line in (SCRIPTS / block.name).read_text(encoding="utf-8").splitlines() if line.strip()]

    assert any(script[at : at + len(quoted)] == quoted for at in range(len(script))), block.where


@pytest.mark.parametrize("path", GUARANTEES, ids=lambda path: path.stem)
def test_a_guarantee_says_what_why_what_not_and_who_shows_it(path: Path) -> None:
    """And it is in the list of all."""
    page = Page(path)

    assert page.prose.count("**Promise.**") == 1
    assert "what-it-does-not-promise" in page.anchors
    assert "shown-by" in page.anchors
    shown = page.prose.partition("## Shown by")[2]
    assert len(re.findall(r"^- `tests/", shown, flags=re.MULTILINE)) >= 3
    assert path.name in Page(DOCS / "guarantees/README.md").links


def test_every_key_is_in_the_table() -> None:
    """What a system keeps in Redis, each under its prefix."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    keys = Keys("s")
    whole = [value for value in (getattr(keys, name) for name in Keys.__slots__) if isinstance(value, str)]
    made = [keys.mailbox("x"), keys.held("x"), keys.marks("x"), keys.timers("x"), keys.timer_values("x"), keys.streams("x")]
    prefixes = {name.removeprefix(keys.tag).strip(":").partition(":")[0] for name in whole + made} - {""}

    assert {prefix for prefix in prefixes if not re.search(rf"^\| `{prefix}[:`]", text, flags=re.MULTILINE)} == set()


def test_every_setting_is_documented() -> None:
    """An undocumented one would be an empty cell."""
    assert all(row.rstrip(" |").rpartition("|")[2].strip() for row in tables.settings().splitlines()[2:])
    assert msgspec.structs.fields(Settings)


def test_nothing_is_left_to_be_written() -> None:
    """A page says what is, or nothing."""
    assert [page.name for page in PAGES if re.search(r"\b(TODO|FIXME|TBD)\b", page.text)] == []


def _defined(path: Path) -> set[str]:
    found: set[str] = set()

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found.add(prefix + name)
                    walk(child, f"{prefix}{name}.")
                case _:
                    continue

    walk(ast.parse(path.read_text(encoding="utf-8")), "")
    return found
