"""The documentation as data: its pages, their blocks of code, links, headings and generated sections."""

from __future__ import annotations

import re
import textwrap
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
SCRIPTS = ROOT / "actors/_redis/scripts"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]+)\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """One fenced block."""

    page: str
    line: int
    language: str
    """The first word behind the fence."""
    name: str
    """The rest of it: which script or example the block is of."""
    text: str

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the block says it is in its first line, such as ``# bank.py``."""
        first = self.text.partition("\n")[0]
        found = re.fullmatch(r"# ([\w/]+\.py)\b.*", first)
        return None if found is None else found[1]


class Page:
    """One page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        """The fenced blocks, in order."""
        blocks: list[Block] = []
        for found in _FENCE.finditer(self.text):
            language, _, name = found["info"].strip().partition(" ")
            line = self.text.count("\n", 0, found.start()) + 2
            blocks.append(Block(self.name, line, language, name.strip(), textwrap.dedent(found["text"])))
        return blocks

    @cached_property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def links(self) -> list[str]:
        """The targets of all links."""
        return [found["target"] for found in _LINK.finditer(self.prose)]

    @cached_property
    def anchors(self) -> set[str]:
        """The anchors of all headings, as GitHub makes them."""
        return {anchor(found["text"]) for found in _HEADING.finditer(self.prose)}

    @cached_property
    def code(self) -> list[str]:
        """What stands between backticks in the prose."""
        return _CODE.findall(self.prose)

    def section(self, name: str) -> str:
        """Return a generated section, without its marks."""
        return self.text[slice(*self._span(name))]

    def with_section(self, name: str, text: str) -> str:
        """Return the page's text with a section replaced."""
        start, end = self._span(name)
        return self.text[:start] + text + self.text[end:]

    def _span(self, name: str) -> tuple[int, int]:
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        start = self.text.index(begin) + len(begin)
        return start, self.text.index(end, start)


def anchor(heading: str) -> str:
    """Return the anchor of a heading."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def pages() -> list[Page]:
    """Return every page there is."""
    paths = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
    return [Page(path) for path in paths]
