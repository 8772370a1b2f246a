"""Reading the mailboxes of up to 64 shards by one blocking read.

Theory of operation. All streams of a read share one consumer group, named by this
runner's incarnation, the reader and its *generation*. An owner that was replaced finds
its group gone (NOGROUP), and such a read took nothing. A read whose answer never came is
another matter: it may have taken entries, or may take them yet. So after it the
generation goes up: a fenced script replaces the group on all streams of the reader by the
next one's, each starting behind the last entry this epoch has read there. What the lost
read took is read again, a late one gets NOGROUP, and nothing goes astray.

A shard joins by the same step: the new generation's group includes its stream, and the
old group's end on any stream ends the blocked read at once, so that it need not be
waited out. A shard that leaves takes its group with it by its release; the read ends with
NOGROUP, and the reader reads on with what it still has.

Reads are without acknowledgement: an entry is gone when the commit deletes it, and
nobody ever looks at a pending list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from actors._mailbox.commit import Ledger
from actors._redis.channel import Channel
from actors._redis.faults import NoGroup, RedisFault, Refused, Unknown
from actors.backoff import Backoff

MAX_STREAMS = 64
"""Streams of one blocking read: blocking costs the server time in proportion."""

BLOCK = 2.0
"""Longest a read waits in Redis, so that a dead connection is noticed."""

_ENTRIES = 1000
_EAGER = 64
_MOST, _LEAST = 500, 16


class ReadTarget(Protocol):
    """Who gets what was read."""

    def entries(self, streams: Sequence[tuple[Ledger, Sequence[Any]]], count: int) -> None:
        """Take in the entries of several shards."""
        ...

    def ready(self) -> bool:
        """Whether there is room for more; if not, :meth:`Reader.go_on` is called when there is."""
        ...


Regroup = Callable[[str, int, Sequence[Ledger]], Awaitable["Sequence[bool] | None"]]
"""Give the streams of (reader, generation, ledgers) their next group. Per ledger whether it is ours; None: taken."""


class Reader:
    """Reads the mailboxes of some shards."""

    def __init__(
        self,
        name: str,
        incarnation: str,
        channel: Channel,
        target: ReadTarget,
        *,
        regroup: Regroup,
        lost: Callable[[Ledger], None],
        backoff: Backoff,
    ) -> None:
        self.name = name
        self.shards: dict[bytes, Ledger] = {}
        self.generation = 0
        self.regroups = 0
        self._incarnation = incarnation
        self._channel = channel
        self._target = target
        self._regroup = regroup
        self._lost = lost
        self._backoff = backoff
        self._reading = False
        self._paused = False
        self._stale = True
        self._task: asyncio.Task[None] | None = None
        self._command: tuple[Any, ...] = ()
        self._asked: dict[bytes, Ledger] = {}
        self._count = 32
        self._changed = True
        self._closed = False
        self._loop = asyncio.get_running_loop()

    @property
    def group(self) -> str:
        """The name of the next generation's group."""
        return f"{self._incarnation}.{self.name}.{self.generation + 1}"

    async def attach(self, ledgers: Sequence[Ledger]) -> None:
        """Read these shards too, from the next generation on. Returns when it is in force."""
        for ledger in ledgers:
            self.shards[ledger.mailbox.encode()] = ledger
        self._renew()
        task = self._task
        if task is not None:
            await asyncio.shield(task)

    def detach(self, ledger: Ledger) -> None:
        """Read this shard no more."""
        if self.shards.get(ledger.mailbox.encode()) is ledger:
            del self.shards[ledger.mailbox.encode()]
            self._changed = True

    def go_on(self) -> None:
        """There is room again."""
        if self._paused:
            self._paused = False
            self._read()

    async def close(self) -> None:
        """Stop reading."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _renew(self) -> None:
        """Go to the next generation."""
        self._stale = True
        if self._task is None and not self._closed:
            self._task = self._loop.create_task(self._next_generation(), name=f"reader {self.name}")

    async def _next_generation(self) -> None:
        attempt = 0
        try:
            while self._stale and self.shards and not self._closed:
                self._stale = False
                self.generation += 1
                ledgers = list(self.shards.values())
                try:
                    ours = await self._regroup(self.name, self.generation, ledgers)
                except RedisFault:
                    # Perhaps applied, perhaps later: the next generation stands above either.
                    self._stale = True
                    attempt += 1
                    await asyncio.sleep(self._backoff.delay(attempt))
                    continue
                if ours is None:
                    self._stale = True
                    continue
                self.regroups += 1
                for ledger, is_ours in zip(ledgers, ours, strict=True):
                    if not is_ours and self.shards.get(ledger.mailbox.encode()) is ledger:
                        self.detach(ledger)
                        self._lost(ledger)
        finally:
            self._task = None
        self._changed = True
        self._read()

    def _read(self) -> None:
        if self._reading or self._task is not None or self._closed or not self.shards:
            return
        if not self._target.ready():
            self._paused = True
            return
        if self._changed:
            self._changed = False
            self._build()
        self._reading = True
        self._channel.submit(self._command, self._on_read)

    def _build(self) -> None:
        # An answer belongs to the ledgers its read was sent for: a shard may be acquired anew while it is on its way,
        # and the next epoch begins at the mailbox' start, not behind what an earlier one has read.
        self._asked = dict(self.shards)
        streams = list(self._asked)
        self._command = (
            "XREADGROUP",
            "GROUP",
            f"{self._incarnation}.{self.name}.{self.generation}",
            "r",
            "COUNT",
            self._count,
            "BLOCK",
            int(BLOCK * 1000),
            "NOACK",
            "STREAMS",
            *streams,
            *[b">"] * len(streams),
        )

    def _on_read(self, reply: Any) -> None:
        self._reading = False
        if self._closed:
            return
        if isinstance(reply, list):
            self._take(reply)  # pyright: ignore[reportUnknownArgumentType] # as hiredis makes it
        elif reply is None:
            self._read()
        elif isinstance(reply, NoGroup):
            if self._task is not None:
                return  # the new generation's doing, and it reads on when it is in force
            if self._changed:
                self._read()  # a shard has left; the others' groups stand
            else:
                self._renew()
        elif isinstance(reply, (Unknown, Refused)):
            self._channel.when_up(self._renew)
        elif isinstance(reply, RedisFault):
            # A demoted or misbehaving server: another connection may lead to a better one.
            self._channel.drop()
            self._channel.when_up(lambda: self._loop.call_later(self._backoff.delay(1), self._renew))

    def _take(self, reply: list[Any]) -> None:
        shards = self._asked
        streams: list[tuple[Ledger, Sequence[Any]]] = []
        count = 0
        for mailbox, entries in reply:
            ledger = shards.get(mailbox)
            if ledger is not None:
                streams.append((ledger, entries))
                count += len(entries)
        wanted = max(_LEAST, min(_MOST, _ENTRIES // max(1, len(reply))))
        if wanted > self._count * 2 or wanted * 2 < self._count:
            self._count = wanted
            self._changed = True
        if count >= _EAGER:
            # Much to do here: let the server prepare the next batch meanwhile.
            self._read()
            self._target.entries(streams, count)
            self._read()
        else:
            if count:
                self._target.entries(streams, count)
            self._read()
