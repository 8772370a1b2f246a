"""``python -m benchmarks``: measure, show, write.

Without ``--redis`` an embedded server with an append-only file is started. A server that is
given must be one that nobody else uses meanwhile; only keys of the measurements are touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import uvloop
from cyclopts import App, Parameter
from rich.console import Console

from actors._redis.embedded import EmbeddedServer, bundled_server
from benchmarks import cost, hot_actor, idle, latency, memory, movement, placement, population, scaling, streaming, throughput
from benchmarks.figures import Section
from benchmarks.report import Report, broken, machine, show, write
from benchmarks.stage import Stage

RESULTS = Path(__file__).parent / "results"

MEASUREMENTS: dict[str, Callable[[Stage], Awaitable[Section]]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "hot-actor": hot_actor.measure,
    "population": population.measure,
    "streaming": streaming.measure,
    "scaling": scaling.measure,
    "movement": movement.measure,
    "memory": memory.measure,
    "cost": cost.measure,
    "idle": idle.measure,
    "placement": placement.measure,
}

app = App(name="python -m benchmarks", help="Measure the framework beside the bare loop.")


@app.default
def measure(
    *names: str,
    redis: str | None = None,
    rounds: int = 5,
    quick: bool = False,
    scale: float = 1.0,
    out: Annotated[Path, Parameter(help="Where the figures and plots go.")] = RESULTS,
) -> int:
    """Run the measurements.

    Parameters
    ----------
    names
        Which: throughput, latency, hot-actor, population, streaming, scaling, movement, memory,
        cost, idle, placement. All, if none is named.
    redis
        The URL of a server to use instead of an embedded one.
    rounds
        How often each figure is taken, in turns with the bare loop's. The median counts.
    quick
        One round of a tenth: shows that everything works, and an order of magnitude.
    scale
        Spend this fraction of the usual numbers of messages and actors.

    Returns 1 if a figure does not keep its bound.
    """
    unknown = set(names) - set(MEASUREMENTS)
    console = Console()
    if not console.is_terminal:
        console.width = 140
    if unknown:
        console.print(f"No measurement is called {', '.join(sorted(unknown))}. There are: {', '.join(MEASUREMENTS)}.")
        return 2
    if quick:
        rounds, scale = 1, scale / 10
    with contextlib.ExitStack() as stack:
        url = redis or stack.enter_context(EmbeddedServer(executable=bundled_server())).url
        report = uvloop.run(_run([name for name in MEASUREMENTS if not names or name in names], url, rounds, scale, console))
    write(report, out)
    failures = broken(report)
    for line in failures:
        console.print(f"[bold red]{line.name}[/]: {line.value:g} {line.unit}, ratio {line.ratio}, must be {line.bound}")
    console.print(f"Written to {out}.")
    return 1 if failures else 0


async def _run(names: list[str], url: str, rounds: int, scale: float, console: Console) -> Report:
    sections: list[Section] = []
    with console.status("") as status:
        for number, name in enumerate(names, start=1):

            def say(what: str, number: int = number, name: str = name) -> None:
                status.update(f"[{number}/{len(names)}] {name}: {what}")

            section = await MEASUREMENTS[name](Stage(url, rounds=rounds, scale=scale, say=say))
            show(section, console)
            sections.append(section)
    return Report(machine=await machine(url), rounds=rounds, scale=scale, sections=sections)


if __name__ == "__main__":
    app()
