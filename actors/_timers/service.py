"""Fires delayed messages when they are due.

A shard's delayed messages wait in a sorted set; its owner knows only when the first is
due, which is told at acquire, by each firing, and by a nudge in the mailbox when one
comes that is due earlier. So 10⁵ of them cost nothing while they wait.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from actors._redis import scripts
from actors._redis.faults import RedisFault

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World

_AT_ONCE = 200


class Timers:
    """Moves due messages into their mailboxes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._script = scripts.load("fire")
        self._handles: dict[str, asyncio.TimerHandle] = {}
        # By ownership, not by label: a firing whose shard was lost says nothing of the shard acquired anew.
        self._firing: set[OwnedShard] = set()
        self._again: set[OwnedShard] = set()

    def arm(self, shard: OwnedShard, due_ms: float | None) -> None:
        """Set the alarm of a shard; ``None``: nothing waits."""
        self.forget(shard)
        if due_ms is None or not shard.alive:
            return
        delay = max(self._world.redis_clock.boottime(due_ms) - self._world.clock.boottime(), 0.0)
        self._handles[shard.label] = self._world.loop.call_later(delay, self._fire, shard)

    def nudge(self, shard: OwnedShard) -> None:
        """Something is due earlier than what was known."""
        self._fire(shard)

    def forget(self, shard: OwnedShard) -> None:
        """The shard fires nothing more here: it is leaving, or is not ours any more."""
        handle = self._handles.pop(shard.label, None)
        if handle is not None:
            handle.cancel()

    def _fire(self, shard: OwnedShard) -> None:
        label = shard.label
        if not shard.alive or shard.draining:
            return  # the next owner is told when it acquires
        if shard in self._firing:
            self._again.add(shard)
            return
        connection = self._world.state.connection
        if connection is None or not self._world.lease.trusted():
            self._handles[label] = self._world.loop.call_later(0.1, self._fire, shard)
            return
        self._firing.add(shard)
        keys = self._world.keys
        scripts.submit(
            connection,
            self._script,
            [keys.own, keys.timers(label), keys.timer_values(label), shard.mailbox],
            [label, shard.holder, _AT_ONCE],
            functools.partial(self._fired, shard, self._world.clock.boottime()),
        )

    def _fired(self, shard: OwnedShard, asked: float, reply: Any) -> None:
        label = shard.label
        self._firing.discard(shard)
        again = shard in self._again
        self._again.discard(shard)
        if not shard.alive:
            return
        if isinstance(reply, RedisFault):
            self._handles[label] = self._world.loop.call_later(0.1, self._fire, shard)
            return
        if reply[0] == b"fenced":
            self._world.lose(shard, "fenced")
            return
        moved, following, now = reply
        self._world.redis_clock.sample(int(now) / 1000 + 0.0005, asked=asked, heard=self._world.clock.boottime())
        self._world.telemetry.runner.timers += moved
        self.arm(shard, float(following) if following else None)
        if again:
            self._fire(shard)
