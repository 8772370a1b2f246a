"""Which source files have changed: by their modification times, looked at again and again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MOST_FILES: Final = 5000
"""Files looked at; a folder with more is not a project's."""

_SKIPPED: Final = frozenset({"node_modules", "__pycache__", "site-packages"})


def seen(root: Path) -> dict[str, int]:
    """Return the modification time of each Python file below ``root``, without hidden folders and environments."""
    times: dict[str, int] = {}
    for path in _files(root):
        try:
            times[path] = os.stat(path).st_mtime_ns  # noqa: PTH116 - thousands of them, twice a second
        except OSError:  # gone since it was listed
            continue
        if len(times) >= MOST_FILES:
            break
    return times


def changes(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Return the files that were changed, added or removed."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _files(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _SKIPPED and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - thousands of paths a look: strings
        )
        yield from (os.path.join(folder, name) for name in names if name.endswith(".py"))  # noqa: PTH118 - as above
