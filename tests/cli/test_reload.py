"""Reload: what a developer saves is seen, what a tool writes is not."""

from __future__ import annotations

import os
from pathlib import Path

from actors.cli.reload import changes, seen


def test_a_saved_an_added_and_a_removed_file_are_seen(tmp_path: Path) -> None:
    for name in ("saved.py", "removed.py", "kept.py"):
        (tmp_path / name).write_text("")
    before = seen(tmp_path)

    os.utime(tmp_path / "saved.py", ns=(1, 1))
    (tmp_path / "removed.py").unlink()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "added.py").write_text("")

    changed = [Path(path).name for path in changes(before, seen(tmp_path))]
    assert changed == ["added.py", "removed.py", "saved.py"]


def test_environments_caches_and_other_files_are_not_looked_at(tmp_path: Path) -> None:
    """A virtual environment has 10,000 files, and nobody edits them."""
    (tmp_path / "app.py").write_text("")
    (tmp_path / "data.json").write_text("")
    for folder in (".git", "__pycache__", "node_modules", "env"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "inside.py").write_text("")
    (tmp_path / "env" / "pyvenv.cfg").write_text("")

    assert [Path(path).name for path in seen(tmp_path)] == ["app.py"]
