"""What a shard's callers see when it moves: handoff at a join and a leave, takeover after SIGKILL.

One actor per shard is asked again and again; each turn says which runner ran it and when.
The gap of a shard is the time between the last turn on its old owner and the first on its
new one. The pause between the asks of one actor is in it, so it is an upper bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncGenerator

from actors.client import Client
from actors.ids import shard_of
from actors.settings import Settings
from benchmarks.app import Beacon, Beat
from benchmarks.figures import Curve, Figure, Plot, Section, at_most, distribution, figure, percentile
from benchmarks.processes import runner
from benchmarks.stage import PARITY, Stage

LEASE = 3.0
PAUSE = 0.02
HANDOFF_CEILING_MS = at_most(250)
TAKEOVER_CEILING_S = at_most(LEASE + 2)


async def measure(stage: Stage) -> Section:
    """Join, leave and kill, round after round, under a steady load on every shard."""
    settings = Settings(shards=PARITY, lease=LEASE)
    joins: list[float] = []
    leaves: list[float] = []
    takeovers: list[float] = []
    async with stage.ours(settings=settings) as ours, _beacons(ours.client) as beacons:
        for number in range(stage.rounds):
            async with runner(stage.url, f"leaver-{number}", settings) as leaver:
                stage.say("a join")
                joins += [gap * 1e3 for gap in await beacons.arrived(leaver.name)]
                stage.say("a leave")
                before = beacons.of(leaver.name)
                leaver.terminate()
                await leaver.gone()
                leaves += [gap * 1e3 for gap in await beacons.moved(before, leaver.name)]
            async with runner(stage.url, f"victim-{number}", settings) as victim:
                await beacons.arrived(victim.name)
                stage.say("a kill")
                before = beacons.of(victim.name)
                killed = time.monotonic()
                victim.kill()
                await victim.gone()
                await beacons.moved(before, victim.name)
                takeovers += [beacons.latest_first(shard) - killed for shard in before]
    figures: list[Figure] = []
    for name, gaps in (("join", joins), ("leave", leaves)):
        figures += [
            figure(f"handoff gap at a {name}: p50", "ms", [percentile(gaps, 50)]),
            figure(f"handoff gap at a {name}: p99", "ms", [percentile(gaps, 99)], bound=HANDOFF_CEILING_MS, note=f"{len(gaps)} shards"),
        ]
    figures += [
        figure(f"takeover after SIGKILL, lease {LEASE:g} s: p50", "s", [percentile(takeovers, 50)]),
        figure(
            f"takeover after SIGKILL, lease {LEASE:g} s: p99",
            "s",
            [percentile(takeovers, 99)],
            bound=TAKEOVER_CEILING_S,
            note=f"{len(takeovers)} shards, {stage.rounds} kills",
        ),
    ]
    plots = [
        Plot(
            name="handoff",
            title="Handoff gap of a shard",
            x="ms",
            y="share of shards",
            curves=[Curve(label="join", points=distribution(joins)), Curve(label="leave", points=distribution(leaves))],
        ),
        Plot(
            name="takeover",
            title=f"From SIGKILL to a shard's first turn elsewhere (lease {LEASE:g} s)",
            x="s",
            y="share of shards",
            curves=[Curve(label="takeover", points=distribution(takeovers))],
        ),
    ]
    return Section(name="movement", title="Handoff and takeover", figures=figures, plots=plots)


class Beacons:
    """One actor per shard, asked without end."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._runs: dict[int, list[tuple[str, float, float]]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self.keys = _one_key_per_shard()

    def of(self, name: str) -> list[int]:
        """Return the shards whose last turn ran on ``name``."""
        return [shard for shard, runs in self._runs.items() if runs and runs[-1][0] == name]

    def latest_first(self, shard: int) -> float:
        """Return when the first turn of the shard's present run on one runner began."""
        return self._runs[shard][-1][1]

    async def arrived(self, name: str) -> list[float]:
        """Wait until ``name`` runs its part of the shards; return the gaps that made."""
        share = PARITY // 2
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.of(name)) >= share)
        return [self._gap(shard) for shard in self.of(name)]

    async def moved(self, shards: list[int], name: str) -> list[float]:
        """Wait until none of ``shards`` runs on ``name``; return the gaps that made."""
        async with self._changed:
            await self._changed.wait_for(lambda: not set(shards) & set(self.of(name)))
        return [self._gap(shard) for shard in shards]

    async def ask(self, shard: int) -> None:
        """Ask the shard's actor again and again, until cancelled."""
        ref = self._client.get(Beacon, self.keys[shard]).beat.options(timeout=60)
        while True:
            beat: Beat = await ref()
            runs = self._runs[shard]
            if runs and runs[-1][0] == beat.runner:
                runs[-1] = (beat.runner, runs[-1][1], beat.at)
            else:
                async with self._changed:
                    runs.append((beat.runner, beat.at, beat.at))
                    self._changed.notify_all()
            await asyncio.sleep(PAUSE)

    async def everyone(self) -> None:
        """Wait until each has been answered once."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._runs) == len(self.keys) and all(self._runs.values()))

    def _gap(self, shard: int) -> float:
        (_, _, last), (_, first, _) = self._runs[shard][-2:]
        return first - last


@contextlib.asynccontextmanager
async def _beacons(client: Client) -> AsyncGenerator[Beacons]:
    beacons = Beacons(client)
    tasks = [asyncio.ensure_future(beacons.ask(shard)) for shard in range(len(beacons.keys))]
    try:
        await beacons.everyone()
        yield beacons
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _one_key_per_shard() -> list[str]:
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < PARITY:
        key = f"beacon-{number}"
        keys.setdefault(shard_of("Beacon", key, PARITY, "default").index, key)
        number += 1
    return [keys[shard] for shard in range(PARITY)]
