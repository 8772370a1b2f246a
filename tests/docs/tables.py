"""The tables of the documentation that are made from the code.

``python -m tests.docs.tables`` writes them into the pages; tests/docs/test_tables.py says
when one of them is not what it would write.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from prometheus_client.core import Metric as Family

from actors.cli.flags import documented
from actors.errors import ClusterError
from actors.settings import PREFIX, Settings
from actors.telemetry import events, metrics
from actors.telemetry.events import Event
from actors.telemetry.metrics import Metric
from actors.telemetry.prometheus import ActorCollector
from actors.telemetry.recorder import Recorder
from tests.docs.pages import DOCS, ROOT, SCRIPTS, Page


def settings() -> str:
    """Every setting: its name, default and docstring."""
    texts = documented()
    rows = [
        (
            f"`{field.name}`",
            _default(field.name, field.default),
            f"`{PREFIX}{field.name.upper()}`",
            _prose(texts[field.name]),
        )
        for field in msgspec.structs.fields(Settings)
    ]
    return _table(("setting", "default", "variable", "what it is"), rows)


def errors() -> str:
    """Every error of the framework, with what a caller may conclude."""
    rows = [
        (
            f"`{cls.__name__}`",
            f"`{cls.reason.value}`",
            _first_sentences(cls.__doc__ or ""),
            "see `results`" if cls.__name__ == "PartialSend" else "yes" if cls.retryable else "no",
            "see `results`" if cls.__name__ == "PartialSend" else f"`{cls.outcome}`",
            ", ".join(f"`{name}`" for name in inspect.signature(cls.__init__).parameters if name != "self"),
        )
        for cls in ClusterError.__subclasses__()
        if cls.__module__ == ClusterError.__module__  # not what tests have made
    ]
    return _table(("error", "`reason`", "when", "`retryable`", "`outcome`", "attributes"), rows)


def measures() -> str:
    """Every metric, with its labels beside ``system`` and ``runner``."""
    rows = [(f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels) or "–", text) for name, kind, labels, text in families()]
    return _table(("metric", "kind", "labels", "what it says"), sorted(rows))


def told() -> str:
    """Every event, with its level."""
    rows = [(f"`{cls.__name__}`", _LEVELS[cls.level], f"{_text_of(cls)}") for cls in _events()]
    return _table(("event", "level", "text"), rows)


def layers() -> str:
    """The layers of the import contract, uppermost first."""
    (contract,) = [each for each in _contracts() if each["type"] == "layers"]
    return "```text\n" + "\n".join(line.replace("(", "").replace(")", "") for line in contract["layers"]) + "\n```\n"


def scripts() -> str:
    """Every Lua script, by the first sentence of its header."""
    rows = [(f"`{path.stem}.lua`", _header(path.read_text(encoding="utf-8"))) for path in sorted(SCRIPTS.glob("*.lua"))]
    return _table(("script", "what it does"), rows)


def modules() -> str:
    """Every folder and module of the package, by the first sentence of its docstring."""
    lines: list[str] = []
    package = ROOT / "actors"
    for folder in [
        package,
        *sorted(path for path in package.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "__pycache__"),
    ]:
        files = sorted(path for path in folder.glob("*.py") if path.name not in {"__init__.py", "__main__.py"})
        if not files:
            continue
        lines += ["", f"**`{folder.relative_to(ROOT)}/`** {_FOLDERS[folder.name]}", "", "| module | what is in it |", "| --- | --- |"]
        for path in files:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            lines.append(f"| `{path.name}` | {_first_sentence(text)} |")
    return "\n".join(lines[1:]) + "\n"


SECTIONS: dict[str, list[tuple[str, Callable[[], str]]]] = {
    "README.md": [("settings", settings)],
    "docs/settings.md": [("settings", settings)],
    "docs/errors.md": [("errors", errors)],
    "docs/operations.md": [("metrics", measures), ("events", told)],
    "docs/architecture.md": [("modules", modules), ("layers", layers), ("scripts", scripts)],
}

_FOLDERS = {
    "actors": "what users write against, and what everything stands on",
    "_mailbox": "sending, reading, committing, answering",
    "_placement": "which runner owns which shard",
    "_redis": "keys, scripts and connections: the only folder that knows Redis' protocol",
    "_runner": "the runner: shards, actors, turns",
    "_timers": "delayed messages",
    "cli": "`actor-runner`",
    "telemetry": "what is counted and told, and where that goes",
    "testing": "the test kit",
    "wire": "how things are written down: envelopes, arguments, replies, states",
}
_LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error"}


def families() -> Iterator[tuple[str, str, list[str], str]]:
    """Yield name, kind, labels and text of every metric that a scrape shows."""
    recorder = Recorder()
    recorder.method("A", "m").failed("x")
    recorder.sending("A", "m").failed("x")
    recorder.sending("A", "m").round_trip.observe(1.0)
    recorder.runner.deactivated("x")
    for event in (
        events.Fenced(shard="", epoch="", operation="x"),
        events.ConnectionLost(purpose="x", server="", error=""),
        events.DeadLettered(actor_type="A", key="", method="m", message_id="", reason="x", attempts=1, error="", shard=""),
    ):
        recorder.emit(event)
    for metric in [value for value in vars(metrics).values() if isinstance(value, Metric)]:
        recorder.watch(metric, lambda metric=metric: {"x": 1.0} if metric.label else 1.0)  # type: ignore[misc]
    family: Family
    for family in ActorCollector(recorder, system="s", runner="r").collect():
        labels = [name for name in family.samples[0].labels if name not in {"system", "runner", "le"}]
        name = family.name + ("_total" if family.type == "counter" and not family.name.endswith("_total") else "")
        yield name, family.type, labels, family.documentation


def _events() -> list[type[Event]]:
    return [cls for cls in Event.__subclasses__() if cls.__module__ == events.__name__]


def _text_of(cls: type[Event]) -> str:
    text = re.sub(r"\{(\w+)(?::[^}]*)?\}", r"*\1*", cls.text).partition("\n")[0]
    return text.replace("|", "\\|").replace("`", "")


def _contracts() -> list[dict[str, Any]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts: list[dict[str, Any]] = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return contracts


def _header(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("-- ") or line.startswith("-- KEYS"):
            break
        lines.append(line.removeprefix("-- "))
    return _first_sentence(" ".join(lines))


def _first_sentence(text: str) -> str:
    joined = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return _prose(re.split(r"(?<=[.!?]) |(?<=[a-z]): (?=\w+ \|)", joined)[0])


def _first_sentences(text: str) -> str:
    return _prose(" ".join(text.split("\n\n", maxsplit=1)[0].split()))


def _prose(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", "\\|").strip()


def _default(name: str, value: Any) -> str:
    if name == "http_port":
        return f"{value}"
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return f"{value}"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def write() -> None:
    """Write every section into its page."""
    for name, sections in SECTIONS.items():
        for section, make in sections:
            page = Page(ROOT / name)
            page.path.write_text(page.with_section(section, make()), encoding="utf-8")
            print(f"{name}: {section}")


if __name__ == "__main__":
    assert DOCS.is_dir()
    write()
