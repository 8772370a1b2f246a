"""What ``/metrics`` shows of a runner beside its meters: asked when somebody asks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from actors.cli.store import Depth, SystemStore
from actors.telemetry import metrics

if TYPE_CHECKING:
    from actors._redis.connection import Connection, Server
    from actors._redis.keys import Keys
    from actors._runner.runner import Runner
    from actors.clock import Clock
    from actors.telemetry.hooks import Telemetry


def watch_runner(telemetry: Telemetry, runner: Runner, clock: Clock) -> None:
    """Let a scrape see what ``runner`` holds. Call it once it has started."""
    watch = telemetry.watch
    watch(metrics.SHARDS_OWNED, lambda: Counter(shard.group for shard in runner.host.held_shards()))
    watch(metrics.RESIDENT_ACTORS, lambda: runner.statistics().resident)
    watch(metrics.TURNS_RUNNING, lambda: runner.statistics().running)
    watch(metrics.QUEUED, lambda: runner.statistics().queued)
    watch(metrics.STREAMS_RUNNING, lambda: runner.statistics().streams)
    watch(metrics.PENDING_ASKS, lambda: runner.statistics().calls)
    watch(metrics.COMMANDS_SENT, lambda: runner.statistics().redis_commands)
    watch(metrics.COMMITS_RETRIED, lambda: runner.statistics().retried_commits)
    watch(metrics.LEASE_LEFT, lambda: runner.lease_trusted_until - clock.boottime())
    watch(metrics.MEMBERS, lambda: runner.placement.statistics().members)


class Depths:
    """What waits in a runner's shards, by four commands a scrape on a connection of its own."""

    def __init__(self, server: Server, keys: Keys, runner: Runner) -> None:
        self._server = server
        self._keys = keys
        self._runner = runner
        self._connection: Connection | None = None
        self._depths: list[Depth] = []
        self._counts = (0, 0, 0)

    def watch(self, telemetry: Telemetry) -> None:
        """Let a scrape see it."""
        telemetry.before_scrape(self.refresh)
        telemetry.watch(metrics.MAILBOX_DEPTH, lambda: sum(depth.mailbox for depth in self._depths))
        telemetry.watch(metrics.BACKLOG_DEPTH, lambda: sum(depth.backlog for depth in self._depths))
        telemetry.watch(metrics.OLDEST_AGE, lambda: max((depth.oldest_age or 0.0 for depth in self._depths), default=0.0))
        telemetry.watch(metrics.DEAD_LETTERS_KEPT, lambda: self._counts[0])
        telemetry.watch(metrics.PARKED, lambda: self._counts[2])

    async def refresh(self) -> None:
        """Ask Redis. Raises :class:`~actors._redis.faults.RedisFault`; the numbers stay what they were."""
        if self._connection is None or self._connection.closed:
            self._connection = await self._server.connect("scrape", timeout=2.0)
        store = SystemStore(self._connection, self._keys)
        self._depths = await store.depths([shard.label for shard in self._runner.host.held_shards()])
        self._counts = await store.counts()

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
