"""The table, the JSON and the plots."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Plot, Section


class Machine(msgspec.Struct, frozen=True):
    """Where the figures were taken."""

    when: str
    system: str
    processor: str
    cores: int
    python: str
    server: str
    persistence: str
    versions: dict[str, str]


class Report(msgspec.Struct, frozen=True):
    """Everything one run found."""

    machine: Machine
    rounds: int
    scale: float
    sections: list[Section]


async def machine(url: str) -> Machine:
    """Describe this machine and the server at ``url``."""
    client: Any = redis.asyncio.from_url(url)
    info: dict[str, Any] = await client.info()
    fsync: dict[str, str] = await client.config_get("appendfsync")
    await client.aclose()
    return Machine(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        python=sys.version.split()[0],
        server=f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}",
        persistence=f"append-only file, fsync {fsync.get('appendfsync', '?')}" if info["aof_enabled"] else "none",
        versions={name: version(name) for name in ("redis-actors", "redis", "hiredis", "msgspec", "uvloop")},
    )


def show(section: Section, console: Console) -> None:
    """Print one table."""
    table = Table(title=section.title, title_justify="left", title_style="bold", header_style="dim")
    table.add_column("what")
    for heading in ("actors", "bare loop", "ratio", "bound"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for line in section.figures:
        table.add_row(
            line.name,
            f"{_number(line.value)} {line.unit}",
            "" if line.bare is None else _number(line.bare),
            "" if line.ratio is None else f"{line.ratio:.2f}×",
            _bound(line),
            line.note,
        )
    console.print(table)


def write(report: Report, folder: Path) -> None:
    """Write ``figures.json`` and one picture per plot into ``folder``.

    Sections that this run did not measure stay as an earlier run left them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "figures.json"
    measured = {section.name for section in report.sections}
    if path.exists():
        earlier = msgspec.json.decode(path.read_bytes(), type=Report)
        kept = [section for section in earlier.sections if section.name not in measured]
        report = msgspec.structs.replace(report, sections=[*report.sections, *kept])
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    for section in report.sections:
        if section.name in measured:
            for plot in section.plots:
                _draw(plot, folder / f"{plot.name}.png")


def broken(report: Report) -> list[Figure]:
    """Return the figures that do not keep their bound."""
    return [line for section in report.sections for line in section.figures if line.kept is False]


def _draw(plot: Plot, path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend

    picture, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for curve in plot.curves:
        axes.plot([x for x, _ in curve.points], [y for _, y in curve.points], marker=".", label=curve.label)
    if plot.log_x:
        axes.set_xscale("log", base=2)
    if plot.log_y:
        axes.set_yscale("log")
    axes.set_title(plot.title)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    picture.savefig(path, dpi=110)
    plt.close(picture)


def _bound(line: Figure) -> str:
    if line.bound is None:
        return ""
    return f"[green]{line.bound}[/]" if line.kept else f"[bold red]{line.bound}[/]"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
