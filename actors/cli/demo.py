"""``actor-runner demo``: the first minute.

An embedded server, three runner processes and a stream of bank transfers. One runner is
killed with SIGKILL in the middle of it; the others take over when its lease has ended.
Then an audit of every single transfer: lost, doubled, halved, or all there.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from actors.cli.failure import Failure
from actors.cli.where import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.cli.audit import Audit
    from actors.cli.demo_view import View
    from actors.cli.process import RunnerProcess
    from actors.cli.store import SystemStore
    from actors.client import Client
    from actors.ids import ShardId
    from actors.message import Outgoing

TARGET: Final = "actors.cli.demo_bank:system"
RUNNERS: Final = ("runner-1", "runner-2", "runner-3")
ACCOUNTS: Final = 200
READY_WITHIN: Final = 30.0
"""How long the runners may take to own all shards, in seconds."""
SETTLED_WITHIN: Final = 20.0
"""How long the last transfers may take, in seconds."""


def demo(
    *,
    seconds: Annotated[float, Parameter(help="How long transfers go on before the kill, and after the takeover, together.")] = 10.0,
    rate: Annotated[int, Parameter(help="Transfers a second.")] = 500,
    lease: Annotated[float, Parameter(help="Seconds without a sign of life after which the others take over.")] = 3.0,
    redis: Annotated[str | None, Parameter(help="A server to use instead of an embedded one; the system is called demo.")] = None,
) -> int:
    """Watch transfers survive the death of a runner: an embedded server, three runners, one SIGKILL, an audit."""
    from actors.cli.demo_view import open_view

    with open_view() as view, tempfile.TemporaryDirectory(prefix="actors-demo-") as folder:
        try:
            found = run(_demo(view, Path(folder), seconds=seconds, rate=rate, lease=lease, redis=redis))
        except KeyboardInterrupt:
            view.say("stopped")
            raise
        except Exception:
            view.say("stopped")
            for log in sorted(Path(folder).glob("*.log")):
                view.say(f"the end of {log.name}:\n{log.read_text(errors='replace')[-3000:]}")
            raise
    return 0 if found.clean else 1


async def _demo(view: View, folder: Path, *, seconds: float, rate: int, lease: float, redis: str | None) -> Audit:
    from actors._redis.embedded import EmbeddedServer

    if redis is not None:
        return await _with_server(view, folder, seconds=seconds, rate=rate, lease=lease, url=redis)
    view.phase("starting a server")
    server = EmbeddedServer(directory=folder / "redis")
    await asyncio.to_thread(server.start)
    view.say(f"a server of our own listens on {server.url} (process {server.pid})")
    try:
        return await _with_server(view, folder, seconds=seconds, rate=rate, lease=lease, url=server.url)
    finally:
        await asyncio.to_thread(server.stop)


async def _with_server(view: View, folder: Path, *, seconds: float, rate: int, lease: float, url: str) -> Audit:
    from actors.cli.demo_bank import system
    from actors.cli.process import RunnerProcess

    environ = {**os.environ, "ACTORS_LEASE": str(lease), "ACTORS_LOG_FORMAT": "text"}
    runners = [RunnerProcess(name, [TARGET, "--redis", url], socket=folder / f"{name}.sock", environ=environ) for name in RUNNERS]
    view.phase("starting three runners")
    try:
        for runner in runners:
            with (folder / f"{runner.name}.log").open("wb") as log:
                await runner.start(output=log.fileno())
        view.runners(runners)
        async with system.connect(url) as client:
            scene = _Scene(view, runners, client, url=url, rate=rate, lease=lease)
            return await scene.play(seconds)
    finally:
        await asyncio.gather(*(_end(runner) for runner in runners if runner.starts))


class _Scene:
    """The play itself, once the processes are started."""

    def __init__(self, view: View, runners: Sequence[RunnerProcess], client: Client, *, url: str, rate: int, lease: float) -> None:
        self._view = view
        self._runners = runners
        self._client = client
        self._url = url
        self._rate = rate
        self._lease = lease
        self._random = random.Random()
        self._run = f"{self._random.getrandbits(32):08x}"  # a server that was given may hold the accounts of an earlier demo
        self._numbers = 0
        self._acknowledged: set[int] = set()
        self._unknown: set[int] = set()
        self._enough = asyncio.Event()

    async def play(self, seconds: float) -> Audit:
        from actors.cli.where import Place, connected

        view = self._view
        async with connected(Place("demo", self._url, None)) as (connection, keys):
            from actors._placement.store import PlacementStore
            from actors.cli.store import SystemStore

            self._placement = PlacementStore(connection, keys)
            store = SystemStore(connection, keys)
            await self._all_owned()
            view.say(f"ready: 64 shards of accounts on three runners; {self._rate} transfers a second")
            view.phase("transfers go on")
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(store))
                sending = tasks.create_task(self._send())
                await asyncio.sleep(seconds / 2)
                took = await self._kill(self._runners[1])
                view.phase("transfers go on with two runners")
                await asyncio.sleep(seconds / 2)
                self._enough.set()
                await sending
                view.phase("the last transfers arrive")
                await self._settled(store)
                watching.cancel()
        view.waiting(0)
        view.phase("audit")
        found = await self._audit()
        view.result(found, took=took, lease=self._lease, unknown=len(self._unknown))
        return found

    async def _all_owned(self) -> None:
        """Wait until the three runners own all shards, evenly."""
        began = time.monotonic()
        while True:
            counts = await self._counts()
            if len(counts) == len(RUNNERS) and sum(counts.values()) == 64 and max(counts.values()) - min(counts.values()) <= 1:
                self._view.shards(counts)
                return
            if any(runner.pid is None for runner in self._runners) or time.monotonic() - began > READY_WITHIN:
                raise Failure("the runners did not come up", "what they logged stands above")
            await asyncio.sleep(0.1)

    async def _counts(self) -> dict[str, int]:
        """Return how many shards each runner owns, by name."""
        names = {member.incarnation: member.name for member in await self._placement.members()}
        counts: dict[str, int] = {}
        for record in (await self._placement.records()).values():
            if record.owner is not None:
                name = names.get(record.owner, "?")
                counts[name] = counts.get(name, 0) + 1
        return counts

    async def _send(self) -> None:
        """Send transfers at the rate until it is enough, and return when the last is answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as batches:
            while not self._enough.is_set():
                due = int((time.monotonic() - began) * self._rate) - self._numbers
                if due > 0:
                    batches.create_task(self._batch(due))
                await asyncio.sleep(0.02)

    async def _batch(self, count: int) -> None:
        from actors.cli.demo_bank import Account
        from actors.errors import ClusterError, PartialSend

        numbers = range(self._numbers, self._numbers + count)
        self._numbers += count
        messages: list[Outgoing] = []
        for number in numbers:
            sender, receiver = self._random.sample(range(ACCOUNTS), 2)
            account = self._client.get(Account, f"{self._run}-{sender}")
            messages.append(account.transfer.message(f"{self._run}-{receiver}", self._random.randint(1, 100), number))
        try:
            await self._client.send(*messages)
        except PartialSend as error:
            for number, result in zip(numbers, error.results, strict=True):
                (self._unknown if isinstance(result, Exception) else self._acknowledged).add(number)
        except ClusterError:
            self._unknown.update(numbers)
        else:
            self._acknowledged.update(numbers)
        self._view.sent(len(self._acknowledged))

    async def _kill(self, runner: RunnerProcess) -> float:
        """Kill a runner and return how long it took until every account of its shards answered again."""
        incarnations = {member.name: member.incarnation for member in await self._placement.members()}
        theirs = {shard for shard, record in (await self._placement.records()).items() if record.owner == incarnations[runner.name]}
        pid = runner.pid
        runner.send(signal.SIGKILL)
        began = time.monotonic()
        self._view.killed(runner.name)
        self._view.say(f"{runner.name} (process {pid}) was killed with SIGKILL; it owned {len(theirs)} shards")
        self._view.phase("one runner is dead; its lease runs out")
        await asyncio.gather(*(self._answers(shard) for shard in theirs))
        took = time.monotonic() - began
        self._view.say(f"all {len(theirs)} shards run again after {took:.1f} s (lease {self._lease:g} s)")
        return took

    async def _answers(self, shard: ShardId) -> None:
        """Wait until an account in ``shard`` has answered."""
        from actors.cli.demo_bank import Account
        from actors.ids import shard_of

        number = next(n for n in range(10_000) if shard_of("Account", f"probe-{n}", 64, "default") == shard)
        await self._client.get(Account, f"probe-{number}").balance.options(timeout=60.0)()

    async def _watch(self, store: SystemStore) -> None:
        """Keep the view true."""
        while True:
            self._view.shards(await self._counts())
            labels = [f"default.{n}" for n in range(64)]
            self._view.waiting(sum(depth.mailbox + depth.backlog for depth in await store.depths(labels)))
            for runner in self._runners:
                self._view.handled(runner.name, handled(await runner.metrics()) if runner.pid is not None else None)
            self._view.refresh()
            await asyncio.sleep(0.25)

    async def _settled(self, store: SystemStore) -> None:
        """Wait until nothing waits any more."""
        labels = [f"default.{n}" for n in range(64)]
        deadline = time.monotonic() + SETTLED_WITHIN
        while any(depth.mailbox or depth.backlog for depth in await store.depths(labels)):
            if time.monotonic() > deadline:
                raise Failure(f"transfers still wait {SETTLED_WITHIN:g} s after the last was sent", "what the runners logged stands above")
            await asyncio.sleep(0.05)

    async def _audit(self) -> Audit:
        from actors.cli.audit import audit
        from actors.cli.demo_bank import OPENING, Account

        statements = await asyncio.gather(*(self._client.get(Account, f"{self._run}-{n}").statement() for n in range(ACCOUNTS)))
        return audit(self._acknowledged, self._unknown, statements, opening=OPENING)


def handled(metrics: bytes) -> int:
    """Return the turns that a runner's metrics count."""
    return sum(int(float(line.rpartition(b" ")[2])) for line in metrics.splitlines() if line.startswith(b"actors_messages_handled_total{"))


async def _end(runner: RunnerProcess) -> None:
    """End a runner process, gently at first."""
    runner.send(signal.SIGTERM)
    try:
        async with asyncio.timeout(5):
            await runner.wait()
    except TimeoutError:
        runner.send(signal.SIGKILL)
        await runner.wait()
