"""Where measurements run: one server, empty of what earlier ones left, and the two contenders on it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import redis.asyncio

from actors._redis.keys import Keys
from actors.client import Client
from actors.ids import ShardId
from actors.settings import Settings
from benchmarks import bare_loop
from benchmarks.app import Account, system
from benchmarks.load import Figures, closed_loop
from benchmarks.processes import Child, bare_runner, runners

BATCH = bare_loop.BATCH

PARITY = 64
"""The bare loop's number of streams."""


class Ours:
    """The measured application, with one client, doing what the bare loop does."""

    def __init__(self, client: Client, control: redis.asyncio.Redis, settings: Settings, processes: Sequence[Child]) -> None:
        keys = Keys(system.name)
        self.client = client
        self.processes = processes
        self._control = control
        self._mailboxes = [keys.mailbox(ShardId("default", index).label) for index in range(settings.shards)]

    async def tell_all(self, keys: Sequence[int]) -> None:
        """Send one message to each of ``keys``, a batch at a time, and return when every mailbox is empty."""
        get, send = self.client.get, self.client.send
        for start in range(0, len(keys), BATCH):
            await send(*[get(Account, f"a{key}").deposit.message(1) for key in keys[start : start + BATCH]])
        await self.drained()

    async def drained(self) -> None:
        """Return when every mailbox is empty: what was sent has been committed."""
        while await self._waiting():  # noqa: ASYNC110 - only Redis knows
            await asyncio.sleep(0.01)

    async def tell(self, key: int) -> object:
        """Return once the message is durable."""
        return await self.client.get(Account, f"a{key}").deposit.tell(1)

    async def ask(self, key: int) -> object:
        """Return the reply."""
        return await self.client.get(Account, f"a{key}").deposit(1)

    async def _waiting(self) -> int:
        async with self._control.pipeline(transaction=False) as pipeline:
            for mailbox in self._mailboxes:
                pipeline.xlen(mailbox)
            return sum(await pipeline.execute())


class Stage:
    """What every measurement is given."""

    def __init__(self, url: str, *, rounds: int, scale: float, say: Callable[[str], None]) -> None:
        self.url = url
        self.rounds = rounds
        """How often each figure is taken; the median counts."""
        self.say = say
        """Shows what is being done."""
        self._scale = scale

    def size(self, full: int, *, least: int = 1) -> int:
        """Return how many messages or actors to spend where a full run spends ``full``."""
        return max(least, int(full * self._scale))

    def seconds(self, full: float, *, least: float = 0.3) -> float:
        """Return how long to look where a full run looks ``full`` seconds."""
        return max(least, full * self._scale)

    @contextlib.asynccontextmanager
    async def ours(self, *, count: int = 1, settings: Settings | None = None, url: str | None = None) -> AsyncGenerator[Ours]:
        """Run ``count`` runners and a client, from an empty start, until the block ends."""
        chosen = settings or Settings(shards=PARITY)
        await self.clear()
        control = redis.asyncio.from_url(self.url)
        try:
            async with runners(url or self.url, count, chosen) as processes, system.connect(url or self.url) as client:
                yield Ours(client, control, chosen, processes)
        finally:
            await control.aclose()
            await self.clear()

    @contextlib.asynccontextmanager
    async def bare(self, *, url: str | None = None) -> AsyncGenerator[bare_loop.Caller]:
        """Run the bare loop and a caller of it, from an empty start, until the block ends."""
        await bare_loop.clear(self.url)
        async with bare_runner(url or self.url), bare_loop.Caller(url or self.url, secrets.token_hex(4)).open() as caller:
            yield caller
        await bare_loop.clear(self.url)

    async def clear(self) -> None:
        """Remove everything the measured application keeps in Redis, and nothing else."""
        client = redis.asyncio.from_url(self.url)
        pattern = Keys(system.name).tag + "*"
        async for key in client.scan_iter(match=pattern, count=1000):
            await client.unlink(key)
        await client.aclose()

    async def in_turns(self, ours: Callable[[], Awaitable[float]], bare: Callable[[], Awaitable[float]]) -> tuple[list[float], list[float]]:
        """Take one value of each per round, in turns, after one of each that does not count.

        A machine's speed drifts over minutes; two values taken next to each other have seen the same machine.
        """
        await ours()
        await bare()
        pairs = [(await ours(), await bare()) for _ in range(self.rounds)]
        return [one for one, _ in pairs], [other for _, other in pairs]


async def load_in_turns(
    stage: Stage, ours: Callable[[int], Awaitable[object]], bare: Callable[[int], Awaitable[object]], calls: int, callers: int
) -> tuple[list[Figures], list[Figures]]:
    """The same closed loop over both contenders, round by round."""
    seen_ours: list[Figures] = []
    seen_bare: list[Figures] = []
    await closed_loop(ours, max(callers, calls // 4), callers)
    await closed_loop(bare, max(callers, calls // 4), callers)
    for _ in range(stage.rounds):
        seen_ours.append(await closed_loop(ours, calls, callers))
        seen_bare.append(await closed_loop(bare, calls, callers))
    return seen_ours, seen_bare


def spread(call: Callable[[int], Awaitable[object]]) -> Callable[[int], Awaitable[object]]:
    """Return ``call`` with its number scattered over the bare loop's number of actors."""
    return lambda number: call(number * 7919 % bare_loop.ACTORS)
