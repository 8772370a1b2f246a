"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Output = Literal["table", "json"]


def show(rows: Sequence[Mapping[str, Any]], output: Output, *, empty: str, columns: Sequence[str] = ()) -> None:
    """Print ``rows``: as a JSON array with all their fields, or as a table of ``columns`` (all, if none are named).

    ``empty`` is what a person is told when there are none.
    """
    if output == "json":
        print_json(list(rows))
        return
    if not rows:
        print(empty)
        return
    names = list(columns) or list(rows[0])
    cells = [[text_of(row.get(name)) for name in names] for row in rows]
    if sys.stdout.isatty():
        _rich_table(names, cells)
        return
    # Not a terminal: nothing is cut off, so that grep and awk see it all.
    widths = [max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(names)]
    for row in (names, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show_one(record: Mapping[str, Any], output: Output) -> None:
    """Print one thing: as a JSON object, or as one line a field."""
    if output == "json":
        print_json(record)
        return
    width = max(len(name) for name in record)
    for name, value in record.items():
        text = _pretty(value) if isinstance(value, dict | list) and value else text_of(value)
        lines = text.splitlines() or [""]
        print(f"{name.ljust(width)}  {lines[0]}")
        for line in lines[1:]:
            print(" " * (width + 2) + line)


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON. What JSON has no form for becomes text."""
    print(_pretty(value))


def text_of(value: Any) -> str:
    """Return a value as one cell."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.1f}"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(text_of(item) for item in cast("Sequence[Any]", value)) or "-"
        case _:
            return str(value)


def age(seconds: float | None) -> str | None:
    """Return a length of time as people say it: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    if seconds is None:
        return None
    for limit, size, unit in ((10, 1, "s"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0):.1f} s" if limit == 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def confirmed(question: str, *, yes: bool) -> bool:
    """Return whether to go on with something that cannot be taken back. Without a terminal only ``--yes`` says so."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def _pretty(value: Any) -> str:
    try:
        encoded = msgspec.json.encode(value, enc_hook=str)
    except (TypeError, ValueError):  # keys that are no text, or halves of surrogate pairs
        encoded = msgspec.json.encode(plain(value))
    return msgspec.json.format(encoded, indent=2).decode()


def plain(value: Any) -> Any:
    """Return ``value`` with everything in it in a form that JSON has."""
    anything = value
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return value.encode(errors="backslashreplace").decode()
        case bytes():
            return value.decode(errors="backslashreplace")
        case dict():
            return {plain(name) if isinstance(name, str | bytes) else str(name): plain(item) for name, item in anything.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in cast("Iterable[Any]", value)]
        case _:
            return str(value)


def _rich_table(names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(names):
        number = all(row[place].replace(",", "").replace(".", "").replace("-", "").isdigit() or row[place] == "-" for row in cells)
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
