"""Messages told together, and what became of each.

Most are simply appended, and then nothing is kept of them but a count: a receipt is made
for each when the last has its outcome. Whatever else happened to one is noted as it comes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors._mailbox.calls import failure, refusal
from actors._mailbox.outcomes import Code, Outcome
from actors._mailbox.sender import Item, Result, Special
from actors.errors import ClusterError, PersistenceFailed
from actors.message import Outgoing, Receipt

if TYPE_CHECKING:
    from actors._redis.channel import Channel
    from actors.telemetry.hooks import SendSpan


class Group:
    """Messages sent together, until the last of them has its outcome."""

    __slots__ = ("done", "items", "left", "results", "spans", "special")

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self.left = count
        self.results: list[Receipt | ClusterError | None] = [None] * count
        self.items: list[Told] = []
        self.spans: list[SendSpan] = []
        self.special = False
        """Whether any result is not a plain receipt."""

    def note(self, index: int, result: Receipt | ClusterError) -> None:
        """Note one result that is not a plain receipt."""
        self.special = True
        self.results[index] = result
        self.one_less()

    def one_less(self) -> None:
        """One more has its outcome."""
        self.left -= 1
        if not self.left:
            if not self.done.done():
                self.done.set_result(None)
            for span in self.spans:
                span.end()

    def expire(self, timeout: float, channel: Channel) -> None:
        """Nobody waits longer: what has no outcome yet is unknown, what has not left is taken back."""
        fault = channel.last_fault
        problem = str(fault) if fault is not None and not channel.up else "it has not answered"
        for item in self.items:
            item.withdrawn = True
        if not self.done.done():
            self.done.set_exception(PersistenceFailed(problem=problem, waited=timeout))

    def finish(self) -> list[Receipt | ClusterError]:
        """Return the results in order."""
        results = self.results
        for item in self.items:
            if results[item.index] is None:
                results[item.index] = Receipt(item.message_id, duplicate=False)
        return [result for result in results if result is not None]


class Told(Item):
    """One message of a group."""

    __slots__ = ("call", "group", "index", "message_id")

    def __init__(
        self,
        label: str,
        payload: bytes,
        special: Special | None,
        group: Group,
        index: int,
        call: Outgoing,
        message_id: str,
    ) -> None:
        self.label = label
        self.payload = payload
        self.special = special
        self.withdrawn = False
        self.group = group
        self.index = index
        self.call = call
        self.message_id = message_id

    def settle(self, outcome: Result) -> None:
        """See :meth:`Item.settle`."""
        group = self.group
        if outcome is None:
            group.left -= 1
            if not group.left:
                group.left = 1
                group.one_less()
            return
        call = self.call
        address = call.address
        if not isinstance(outcome, Outcome):
            group.note(self.index, failure(outcome, address.type, address.key, call.method))
        elif outcome.code is Code.DONE:
            group.note(self.index, Receipt(outcome.done[0], duplicate=True))
        elif outcome.code is Code.JOINED:
            group.note(self.index, Receipt(outcome.detail.decode(), duplicate=True))
        else:
            idempotency_key = call.options.idempotency_key or ""
            error = refusal(outcome, address.type, address.key, call.method, self.label, idempotency_key)
            group.note(self.index, error)
