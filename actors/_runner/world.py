"""What the parts of one runner share: its seams, its settings, and each other.

Built once by the host. The parts are few and know each other by what they do; nothing
here decides anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from actors._mailbox.calls import Calls
    from actors._mailbox.commit import Ledger
    from actors._mailbox.committer import Committer
    from actors._mailbox.inbox import Inbox
    from actors._redis.channel import Channel
    from actors._redis.keys import Keys
    from actors._runner.asks import TurnClient
    from actors._runner.backlogs import Backlogs
    from actors._runner.closing import Closing
    from actors._runner.cycles import Cycles
    from actors._runner.deadlines import Deadlines
    from actors._runner.dispatch import Dispatch
    from actors._runner.engine import Engine
    from actors._runner.failures import Failures
    from actors._runner.loading import Loader
    from actors._runner.parking import Parking
    from actors._runner.redis_clock import RedisClock
    from actors._runner.settlement import Settlement
    from actors._runner.shard import OwnedShard
    from actors._runner.stepping import Stepper
    from actors._runner.streaming import Streams
    from actors._runner.suspects import Suspects
    from actors._runner.threads import Threads
    from actors._runner.turn import Turn
    from actors._timers.service import Timers
    from actors.actor import ActorSpec
    from actors.client import ConnectedClient
    from actors.clock import Clock
    from actors.context import Context
    from actors.ids import IdSource, RunnerId
    from actors.settings import Settings
    from actors.telemetry.hooks import Telemetry


class Trust(Protocol):
    """Whether this runner may act as an owner."""

    @property
    def until(self) -> float:
        """Boottime at which trust ends, unless it is renewed."""
        ...

    def trusted(self) -> bool:
        """Nobody else can have its shards yet."""
        ...


class World:
    """The runner's parts, by name."""

    loop: asyncio.AbstractEventLoop
    runner: RunnerId
    keys: Keys
    settings: Settings
    specs: Mapping[str, ActorSpec]
    clock: Clock
    random: Random
    telemetry: Telemetry
    lease: Trust
    shards: dict[str, OwnedShard]
    """Shards served now, by label."""
    full: dict[str, tuple[float, int]]
    """Shards that had no room lately: when that was seen (boottime), and how many messages they held."""
    strict: bool = False
    """Check what costs too much in production: that ``read_only`` turns change nothing."""
    tick_seconds: float = 1.0

    redis_clock: RedisClock
    state: Channel
    """Loads, marks, timers, streams: everything that is neither a commit, a read nor a send."""
    client: ConnectedClient
    ids: IdSource
    inbox: Inbox
    calls: Calls
    committer: Committer
    stepper: Stepper
    engine: Engine
    dispatch: Dispatch
    settlement: Settlement
    failures: Failures
    deadlines: Deadlines
    cycles: Cycles
    loader: Loader
    backlogs: Backlogs
    suspects: Suspects
    closing: Closing
    streams: Streams
    timers: Timers
    parking: Parking
    threads: Threads

    lose: Callable[[Ledger, str], None]
    """Drop a shard that is not ours any more."""
    start_over: Callable[[Ledger, Mapping[bytes, str]], None]
    """Drop a shard's memory and acquire it anew, remembering what Redis refused of it."""
    drained: Callable[[OwnedShard], None]
    """Something of a draining shard has ended."""

    crash: Callable[[BaseException], None]
    """A part of the runner is broken: it ends, loudly."""
    room: Callable[[], None]
    """Some messages have run: let readers that stopped for want of room go on."""
    client_of: Callable[[Turn], TurnClient]
    context_of: Callable[[Turn], Context]

    def label_of(self, actor_type: str, key: str) -> str:
        """Return the label of an actor's shard."""
        return self.client.shards.label(actor_type, key)
