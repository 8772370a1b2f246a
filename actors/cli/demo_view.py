"""What the demo shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from rich.console import Console, RenderableType
    from rich.live import Live

    from actors.cli.audit import Audit
    from actors.cli.process import RunnerProcess

BARS: Final = "▁▂▃▄▅▆▇█"


class View(Protocol):
    """What the play tells."""

    def phase(self, text: str) -> None: ...
    def say(self, text: str) -> None: ...
    def runners(self, runners: Sequence[RunnerProcess]) -> None: ...
    def shards(self, counts: Mapping[str, int]) -> None: ...
    def handled(self, runner: str, turns: int | None) -> None: ...
    def killed(self, runner: str) -> None: ...
    def sent(self, transfers: int) -> None: ...
    def waiting(self, messages: int) -> None: ...
    def refresh(self) -> None: ...
    def result(self, found: Audit, *, took: float, lease: float, unknown: int) -> None: ...


class Numbers:
    """What has been told so far; both views draw from it."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.phase_now = ""
        self.pids: dict[str, int | None] = {}
        self.owned: dict[str, int] = {}
        self.turns: dict[str, int] = {}
        self.dead: set[str] = set()
        self.transfers = 0
        self.depth = 0
        self.rates: deque[float] = deque([0.0], maxlen=40)
        self._last = (self.began, 0)

    def phase(self, text: str) -> None:
        self.phase_now = text

    def runners(self, runners: Sequence[RunnerProcess]) -> None:
        self.pids = {runner.name: runner.pid for runner in runners}

    def shards(self, counts: Mapping[str, int]) -> None:
        self.owned = dict(counts)

    def handled(self, runner: str, turns: int | None) -> None:
        if turns:
            self.turns[runner] = turns

    def killed(self, runner: str) -> None:
        self.dead.add(runner)

    def sent(self, transfers: int) -> None:
        self.transfers = transfers

    def waiting(self, messages: int) -> None:
        self.depth = messages

    def tick(self) -> None:
        """Take the rate of turns since the last tick."""
        now, total = time.monotonic(), sum(self.turns.values())
        then, before = self._last
        if now > then:
            self.rates.append(max(0.0, (total - before) / (now - then)))
            self._last = (now, total)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began


class PlainView(Numbers):
    """A line when something happens, and one every second."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 1.0

    def phase(self, text: str) -> None:
        super().phase(text)
        self.say(text)

    def say(self, text: str) -> None:
        print(f"{self.elapsed:5.1f} s  {text}", flush=True)

    def refresh(self) -> None:
        self.tick()
        if self.elapsed >= self._next:
            self._next = self.elapsed + 1.0
            owned = ", ".join(f"{name} {self.owned.get(name, 0)}" for name in self.pids)
            self.say(f"  {self.transfers:,} transfers acknowledged, {self.rates[-1]:,.0f} turns/s, {self.depth:,} wait; shards: {owned}")

    def result(self, found: Audit, *, took: float, lease: float, unknown: int) -> None:
        for name, value in verdict(found, took=took, lease=lease, unknown=unknown):
            self.say(f"{name:<24} {value}")


class LiveView(Numbers):
    """A table that is drawn anew while things happen."""

    def __init__(self, live: Live, console: Console) -> None:
        super().__init__()
        self._live = live
        self._console = console
        self._audit: RenderableType | None = None

    def phase(self, text: str) -> None:
        super().phase(text)
        self._draw()

    def say(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(f"{self.elapsed:5.1f} s  {text}"))

    def refresh(self) -> None:
        self.tick()
        self._draw()

    def result(self, found: Audit, *, took: float, lease: float, unknown: int) -> None:
        from rich.table import Table
        from rich.text import Text

        self.phase_now = "done"
        table = Table(title="Audit", title_justify="left", show_header=False)
        for name, value in verdict(found, took=took, lease=lease, unknown=unknown):
            table.add_row(name, Text(value, style="bold"))
        table.add_row("all in all", Text("passed", style="bold green") if found.clean else Text("FAILED", style="bold red"))
        self._audit = table
        self._draw()

    def _draw(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(expand=False)
        for name in ("runner", "process", "state", "shards", "turns"):
            table.add_column(name, justify="right" if name in {"process", "shards", "turns"} else "left")
        for name, pid in self.pids.items():
            dead = name in self.dead
            state = Text("killed", style="bold red") if dead else Text("up", style="green")
            shards = self.owned.get(name, 0)
            table.add_row(name, str(pid), state, f"{'█' * (shards // 2)} {shards}", f"{self.turns.get(name, 0):,}")
        top = max(*self.rates, 1.0)
        line = "".join(BARS[min(len(BARS) - 1, int(rate / top * len(BARS)))] for rate in self.rates)
        return Group(
            Text(f"{self.elapsed:5.1f} s  {self.phase_now}", style="bold"),
            table,
            Text(f"transfers acknowledged {self.transfers:,}   messages waiting {self.depth:,}"),
            Text(f"turns/s {line} {self.rates[-1]:,.0f}"),
            *([self._audit] if self._audit is not None else []),
        )


def verdict(found: Audit, *, took: float, lease: float, unknown: int) -> list[tuple[str, str]]:
    """Return the audit as lines."""
    lines = [
        ("transfers acknowledged", f"{found.transfers:,}"),
        ("lost", f"{len(found.lost):,}"),
        ("doubled", f"{len(found.doubled):,}"),
        ("takeover", f"{took:.1f} s (lease {lease:g} s)"),
        ("money", "all there" if found.money == 0 else f"{found.money:+,}"),
    ]
    if unknown:
        lines.insert(1, ("of unknown outcome", f"{unknown:,}, {len(found.halves):,} of them done by half"))
    return lines


@contextlib.contextmanager
def open_view() -> Generator[View]:
    """Open the view that fits standard output."""
    if not sys.stdout.isatty():
        yield PlainView()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield LiveView(live, console)
