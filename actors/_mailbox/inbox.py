"""The stream on which answers reach one client.

The client creates its inbox, renews its life while it reads, and trims what it has read;
a reply never re-creates one, so that a dead client leaves nothing behind. Reading
continues after a lost connection from the last entry seen, hence nothing is missed and
nothing is handed out twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from actors._redis import scripts
from actors._redis.channel import Channel
from actors._redis.faults import NotApplied, RedisFault, Refused, Unknown
from actors._redis.keys import Keys
from actors.backoff import Backoff
from actors.clock import Clock

LIFE = 60.0
"""Seconds an inbox outlives its client's last sign of life."""

BLOCK = 2.0
"""Longest a read waits in Redis, so that a dead connection is noticed."""

TRIM_EVERY = 64
"""Entries read between two trims; a commit's answers to one client are one entry."""

_COUNT = 500
_DIGITS = 20

Waiter = Callable[[bytes], None]
"""Called with each answer to one call. It takes itself off the inbox when that was the last."""


class Inbox:
    """Reads the answers to one client and hands each to whoever made the call."""

    def __init__(self, channel: Channel, keys: Keys, client: str, *, clock: Clock, backoff: Backoff) -> None:
        self.client = client
        self.waiting: dict[int, Waiter] = {}
        self.entries = 0
        self.late = 0
        self._key = keys.inbox(client)
        self._script = scripts.load("inbox")
        self._channel = channel
        self._clock = clock
        self._backoff = backoff
        self._last = b"0-0"
        self._trimmed = 0
        self._renewed = 0.0
        self._attempt = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Create the inbox and start reading it."""
        connection = await self._channel.until_up()
        await scripts.run(connection, self._script, [self._key], [int(LIFE * 1000)])
        self._renewed = self._clock.boottime()
        self._read()

    def close(self) -> None:
        """Stop. The inbox goes with its life, or at once if Redis can be told."""
        self._closed = True
        if self._channel.connection is not None:
            self._channel.submit(("DEL", self._key), _ignore)
        self.waiting.clear()

    def _read(self) -> None:
        if self._closed:
            return
        now = self._clock.boottime()
        if now - self._renewed > LIFE / 4:
            self._renewed = now
            # By its text, and before the read: a server that has lost the inbox has lost its scripts too, and what is
            # sent behind a blocking read waits for it, while every answer that comes meanwhile is gone.
            self._channel.submit(("EVAL", self._script.text, 1, self._key, int(LIFE * 1000)), self._on_renewed)
        if self.entries - self._trimmed >= TRIM_EVERY:
            self._trimmed = self.entries
            self._channel.submit(("XTRIM", self._key, "MINID", self._last), _ignore)
        self._channel.submit(("XREAD", "COUNT", _COUNT, "BLOCK", int(BLOCK * 1000), "STREAMS", self._key, self._last), self._on_read)

    def _on_renewed(self, reply: Any) -> None:
        if reply == 0:
            # It expired while this process stood still, or the server lost it. The new one's ids may be lower.
            self._last = b"0-0"

    def _on_read(self, reply: Any) -> None:
        if reply is None:
            self._attempt = 0
            self._read()
        elif isinstance(reply, list):
            self._attempt = 0
            waiting = self.waiting
            entries = cast("list[tuple[bytes, list[bytes]]]", reply[0][1])
            for entry_id, fields in entries:
                self._last = entry_id
                self.entries += 1
                for at in range(0, len(fields), 2):
                    number = fields[at]
                    waiter = waiting.get(int(number)) if number.isdigit() and len(number) < _DIGITS else None
                    if waiter is None:
                        self.late += 1
                    else:
                        waiter(fields[at + 1])
            self._read()
        elif not self._closed:
            self._attempt += 1
            delay = self._backoff.delay(self._attempt)
            self._renewed = -LIFE  # another server may not have it: that is found out with the next read
            if isinstance(reply, (Unknown, Refused)):
                self._channel.when_up(lambda: self._loop.call_later(delay, self._read))
            elif isinstance(reply, (NotApplied, RedisFault)):
                self._loop.call_later(delay, self._read)


def _ignore(reply: Any) -> None:
    """Nothing depends on the answer: the next renewal or trim does the same again."""
