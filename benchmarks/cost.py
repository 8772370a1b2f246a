"""What one message costs in commands and bytes, counted by a proxy before Redis."""

from __future__ import annotations

from benchmarks.figures import Section, at_most, figure
from benchmarks.proxy import Traffic, counting
from benchmarks.stage import BATCH, Stage

SINGLE_CEILING = at_most(5)
BATCH_CEILING = at_most(0.2)

RESIDENT = 100
"""Actors that are awake already."""


async def measure(stage: Stage) -> Section:
    """Single asks one after the other, then full batches, end to end: client and runner together."""
    asks = stage.size(1_000, least=100)
    tells = stage.size(50_000, least=10 * BATCH)
    async with counting(stage.url) as proxy:
        async with stage.ours(url=proxy.url) as ours:
            for key in range(RESIDENT):
                await ours.ask(key)
            stage.say("counting single asks")
            proxy.reset()
            for number in range(asks):
                await ours.ask(number % RESIDENT)
            single = proxy.traffic()
            proxy.reset()
            for number in range(asks):
                await ours.ask(RESIDENT + number)
            cold = proxy.traffic()
            await ours.tell_all(range(BATCH))
            stage.say("counting full batches")
            proxy.reset()
            await ours.tell_all([number % 1_000 for number in range(tells)])
            batch = proxy.traffic()
        async with stage.bare(url=proxy.url) as bare:
            for key in range(RESIDENT):
                await bare.ask(key)
            stage.say("counting the bare loop's")
            proxy.reset()
            for number in range(asks):
                await bare.ask(number % RESIDENT)
            bare_single = proxy.traffic()
    return Section(
        name="cost",
        title="Commands and bytes per message",
        figures=[
            figure("commands per single ask", "commands", [single.total / asks], bound=SINGLE_CEILING, note=_named(single, asks)),
            figure(
                "commands per single ask that activates",
                "commands",
                [cold.total / asks],
                bound=SINGLE_CEILING,
                note=f"idle reads included: {_named(cold, asks)}",
            ),
            figure("commands per single ask, bare loop", "commands", [bare_single.total / asks], note=_named(bare_single, asks)),
            figure("commands per message at full batch", "commands", [batch.total / tells], bound=BATCH_CEILING, note=_named(batch, tells)),
            figure("bytes per single ask, to and from Redis", "B", [(single.sent + single.received) / asks]),
            figure("bytes per single ask, bare loop", "B", [(bare_single.sent + bare_single.received) / asks]),
            figure("bytes per message at full batch", "B", [(batch.sent + batch.received) / tells]),
        ],
    )


def _named(traffic: Traffic, messages: int) -> str:
    most = sorted(traffic.commands.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{name} {count / messages:.3g}" for name, count in most)
