"""The items of one streaming reply, as its reader takes them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from actors._mailbox.calls import failure, refusal
from actors._mailbox.outcomes import Outcome
from actors._mailbox.sender import Item, Result
from actors.errors import AskTimeout, ClusterError
from actors.wire.reply import is_notice, read_notice

if TYPE_CHECKING:
    from actors.message import Outgoing


class Requested(Item):
    """The request of a streaming reply."""

    __slots__ = ("_call", "_items")

    def __init__(self, label: str, payload: bytes, items: Items, call: Outgoing) -> None:
        super().__init__(label, payload)
        self._items = items
        self._call = call

    def settle(self, outcome: Result) -> None:
        """See :meth:`Item.settle`."""
        self._items.sent(self._call, self.label, outcome)


class Items:
    """Bodies of a streaming reply that have come and were not taken yet."""

    __slots__ = ("_bodies", "_error", "_loop", "_notice", "_wake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bodies: deque[bytes] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._error: ClusterError | None = None
        self._notice: ClusterError | None = None

    def put(self, body: bytes) -> None:
        """One more has come."""
        if is_notice(body):
            self._notice = read_notice(body)
            return
        self._bodies.append(body)
        self._notify()

    def sent(self, call: Outgoing, label: str, outcome: Result) -> None:
        """What became of the request."""
        if outcome is None:
            return
        address = call.address
        if isinstance(outcome, Outcome):
            self._error = refusal(outcome, address.type, address.key, call.method, label)
        else:
            self._error = failure(outcome, address.type, address.key, call.method)
        self._notify()

    async def next(self, call: Outgoing, timeout: float) -> bytes:
        """Wait for the next body; ``AskTimeout`` if it takes longer than ``timeout``."""
        while not self._bodies:
            if self._error is not None:
                raise self._error
            self._wake = self._loop.create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._wake
            except TimeoutError:
                address = call.address
                raise self._notice or AskTimeout(
                    timeout=timeout, seconds=timeout, actor_type=address.type, key=address.key, method=call.method
                ) from None
        return self._bodies.popleft()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
