"""Group commit: one script call at a time, the next batch gathering while it is under way.

What is certain about an answer decides what follows. Applied (now or by an earlier try of
the same batch): the turns are acknowledged. Fenced or a gap: that shard is lost. Nothing
heard, or not applied: the same batch goes again, for as long as the lease is trusted.
A definite refusal of anything else: the batch is cut down, part by part and then turn by
turn, until the turn that Redis refuses stands alone; that one is a defect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any, Protocol

from actors._mailbox.commit import Effects, Ledger, Limits, Part, size_of, write
from actors._redis import scripts
from actors._redis.channel import Channel
from actors._redis.faults import NotApplied, RedisFault, Refused, Unknown
from actors._redis.keys import Keys
from actors.backoff import Backoff
from actors.settings import BATCH_BYTES, BATCH_MESSAGES
from actors.telemetry.meters import Histogram

_APPLIED, _FENCED = b"01", b"2"[0]


class CommitTarget(Protocol):
    """Whoever owns the ledgers and is told what became of their effects."""

    def committed(self, ledger: Ledger, effects: Sequence[Effects]) -> None:
        """``effects`` are real."""
        ...

    def full(self, label: str, depth: int) -> None:
        """A shard had no room for what these turns sent it; that is among the dead letters."""
        ...

    def incomplete(self, parts: Sequence[Part], problem: str) -> None:
        """Redis refused a command in mid-commit; everything else of these parts is real."""
        ...

    def refused(self, ledger: Ledger, *, history_lost: bool) -> None:
        """The shard is another's (or its history was lost): nothing gathered for it will ever be real."""
        ...

    def defective(self, ledger: Ledger, effects: Effects, fault: RedisFault) -> None:
        """Redis refuses these effects for good; what later ones of that shard built on is void."""
        ...

    def trusted(self) -> bool:
        """Whether this runner's lease still stands, so that it may write."""
        ...


class Committer:
    """Commits the effects of all shards of one slot group."""

    def __init__(self, channel: Channel, keys: Keys, limits: Limits, target: CommitTarget, *, random: Random, batches: Histogram) -> None:
        self._channel = channel
        self._keys = keys
        self._limits = limits
        self._target = target
        self._batches = batches
        self._script = scripts.load("commit")
        self._backoff = Backoff(random=random, initial=0.005, maximum=0.25)
        self._dirty: deque[Ledger] = deque()
        self._suspect: deque[Part] = deque()
        self._parts: list[Part] = []
        self._call: tuple[list[Any], list[Any]] = ([], [])
        self._attempt = 0
        self._waiting = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self.commits = self.retries = 0

    @property
    def in_flight(self) -> bool:
        """Whether a batch is under way."""
        return bool(self._parts)

    @property
    def idle(self) -> bool:
        """Whether nothing is gathered or under way."""
        return not (self._parts or self._dirty or self._suspect)

    def holds(self, ledger: Ledger) -> bool:
        """Whether effects of ``ledger`` are gathered or under way."""
        return bool(ledger.gathered) or any(part[0] is ledger for part in self._parts) or any(part[0] is ledger for part in self._suspect)

    def add(self, ledger: Ledger, effects: Effects) -> None:
        """Gather ``effects`` behind those already gathered for ``ledger``."""
        if not ledger.gathered:
            self._dirty.append(ledger)
        ledger.gathered.append(effects)

    def flush(self) -> None:
        """Send what has gathered, unless a batch is under way or nothing may be written."""
        if not self._parts and (self._dirty or self._suspect) and not self._closed and self._target.trusted():
            self._start()

    def drop(self, ledger: Ledger) -> None:
        """Forget what has gathered for a ledger that is not ours any more."""
        ledger.gathered.clear()
        if ledger in self._dirty:
            self._dirty.remove(ledger)
        self._suspect = deque(part for part in self._suspect if part[0] is not ledger)

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True

    def _start(self) -> None:
        if self._suspect:
            self._parts = [self._suspect.popleft()]
        else:
            self._parts = self._take()
        if not self._parts:
            return
        self._attempt = 0
        self._call = write(self._parts, self._keys, self._limits)
        self._send()

    def _take(self) -> list[Part]:
        """Take what has gathered, as much as one script should hold; a single effect goes whatever its size."""
        parts: list[Part] = []
        room, space = BATCH_MESSAGES, BATCH_BYTES
        while self._dirty and room > 0 and space > 0:
            ledger = self._dirty.popleft()
            gathered = ledger.gathered
            count = 0
            for effect in gathered:
                if count == room or space <= 0:
                    break
                count += 1
                space -= size_of(effect)
            parts.append((ledger, gathered[:count]))
            ledger.gathered = gathered[count:]
            room -= count
            if ledger.gathered:
                self._dirty.appendleft(ledger)
        return parts

    def _send(self) -> None:
        connection = self._channel.connection
        if connection is None:
            self._channel.when_up(self._again)
        else:
            scripts.submit(connection, self._script, *self._call, self._on_reply)

    def _again(self) -> None:
        """Send the batch under way once more, if it may still be sent and is still ours."""
        self._waiting = False
        if self._closed or not self._parts:
            return
        if not self._target.trusted():
            self._later()
            return
        self._send()

    def _later(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._attempt += 1
            self._loop.call_later(self._backoff.delay(self._attempt), self._again)

    def _on_reply(self, reply: Any) -> None:
        if self._closed:
            return
        if type(reply) is bytes:
            self._settle(reply)
        elif isinstance(reply, (Unknown, NotApplied)):
            self.retries += 1
            if isinstance(reply, (Unknown, Refused)):
                self._channel.when_up(self._later)
            else:
                self._later()
        else:
            self._cut_down(reply)

    def _settle(self, answer: bytes) -> None:
        parts, self._parts = self._parts, []
        digits, *told = answer.split(b"\n") if len(answer) > len(parts) else (answer,)
        self.commits += 1
        turns = 0
        target = self._target
        # All sequences first: what a ledger's owner does next may send another ledger's next part.
        for (ledger, _), digit in zip(parts, digits, strict=True):
            if digit in _APPLIED:
                ledger.sequence += 1
        for (ledger, effects), digit in zip(parts, digits, strict=True):
            if digit in _APPLIED:
                turns += len(effects)
                target.committed(ledger, effects)
            else:
                target.refused(ledger, history_lost=digit != _FENCED)
        self._batches.observe(turns)
        for line in told:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "!":
                target.incomplete(parts, rest)
            else:
                target.full(word, int(rest))
        if (self._dirty or self._suspect) and not self._parts and target.trusted():
            self._start()

    def _cut_down(self, fault: RedisFault) -> None:
        parts, self._parts = self._parts, []
        if len(parts) > 1:
            self._suspect.extendleft(reversed(parts))
        elif len(parts[0][1]) > 1:
            ledger, effects = parts[0]
            self._suspect.extendleft((ledger, [effect]) for effect in reversed(effects))
        else:
            ledger, (effect,) = parts[0]
            self.drop(ledger)
            self._target.defective(ledger, effect, fault)
        self.flush()
