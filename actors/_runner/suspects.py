"""Messages that may have killed a process: marked before they start, and then one at a time.

Entries that stood in a shard's stream when its owner died are suspects. Each is marked
in Redis as the last step before it starts. One that was marked before, in an epoch that
ended with a death, runs alone in this runner: if the process dies again, that one message
is charged with it. Over the limit, it goes to the dead letters. The next may start once
the commit is acknowledged, or while the suspect waits on an ask; or when there will be no
commit, since the run came to nothing or the shard was lost.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from actors._redis import scripts
from actors._redis.faults import RedisFault
from actors._runner.activation import Activation, Message, Phase

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.turn import Turn
    from actors._runner.world import World


Suspect = tuple["OwnedShard", bytes]
"""An entry of a shard in one epoch: ids repeat from shard to shard, and an answer may come after the epoch has ended."""


class Suspects:
    """Marks suspects and lets them start."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._script = scripts.load("mark")
        self._asked: set[Suspect] = set()
        self._ready: set[Suspect] = set()
        self._alone: Suspect | None = None
        self._queue: list[tuple[Activation, Message]] = []
        self._unmarked: list[tuple[Activation, Message]] = []
        self._scheduled = False

    def cleared(self, activation: Activation, message: Message) -> bool:
        """Whether a suspect at the head of its queue may start now; if not, it is seen to and pumped later."""
        suspect = (activation.shard, message.entry)
        if suspect in self._ready:
            self._ready.remove(suspect)
            return True
        if suspect in self._asked:
            return False
        self._asked.add(suspect)
        if message.entry in activation.shard.marks:
            self._queue.append((activation, message))
            self._next()
        else:
            self._unmarked.append((activation, message))
            self._schedule()
        return False

    def yields(self, turn: Turn) -> None:
        """A suspect waits on an ask: the next may start, since that ask may be for it."""
        if turn.message is not None:
            self._release((turn.activation.shard, turn.message.entry))

    def put_off(self, shard: OwnedShard, message: Message) -> None:
        """A run has ended with nothing to commit, to be made again later: the next suspect may start."""
        self._release((shard, message.entry))

    def forget(self, shard: OwnedShard) -> None:
        """The shard is not ours any more: nothing of it waits, runs or will be committed here."""
        self._queue = [pair for pair in self._queue if pair[0].shard is not shard]
        self._unmarked = [pair for pair in self._unmarked if pair[0].shard is not shard]
        self._asked = {suspect for suspect in self._asked if suspect[0] is not shard}
        self._ready = {suspect for suspect in self._ready if suspect[0] is not shard}
        if self._alone is not None and self._alone[0] is shard:
            self._release(self._alone)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._world.loop.call_soon(self._mark_all)

    def _mark_all(self) -> None:
        self._scheduled = False
        unmarked, self._unmarked = self._unmarked, []
        shards: dict[OwnedShard, list[tuple[Activation, Message]]] = {}
        for pair in unmarked:
            if pair[0].phase is not Phase.GONE:
                shards.setdefault(pair[0].shard, []).append(pair)
        for pairs in shards.values():
            for at in range(0, len(pairs), 200):
                self._mark(pairs[at : at + 200])

    def _next(self) -> None:
        while self._alone is None and self._queue:
            activation, message = self._queue.pop(0)
            if activation.phase is Phase.GONE or message not in activation.queue:
                self._asked.discard((activation.shard, message.entry))
                continue
            self._alone = (activation.shard, message.entry)
            self._mark([(activation, message)])

    def _mark(self, pairs: list[tuple[Activation, Message]]) -> None:
        shard = pairs[0][0].shard
        if not shard.alive:
            return
        keys = self._world.keys
        connection = self._world.state.connection
        if connection is None or not self._world.lease.trusted():
            self._world.state.when_up(lambda: self._world.loop.call_later(0.05, self._mark, pairs))
            return
        label = shard.label
        scripts.submit(
            connection,
            self._script,
            [
                keys.own,
                keys.marks(label),
                shard.mailbox,
                *(keys.backlog(label, pair[0].address.type, pair[0].address.key) for pair in pairs),
            ],
            [label, shard.holder, shard.epoch, *(message.entry for _, message in pairs)],
            functools.partial(self._marked, pairs),
        )

    def _marked(self, pairs: list[tuple[Activation, Message]], reply: Any) -> None:
        shard = pairs[0][0].shard
        if isinstance(reply, RedisFault):
            # Marking counts once per epoch, so that it may be repeated.
            self._world.state.when_up(lambda: self._world.loop.call_later(0.05, self._mark, pairs))
            return
        if reply and reply[0] == b"fenced":
            self._world.lose(shard, "fenced")
            return
        engine = self._world.engine
        engine.begin()
        try:
            for (activation, message), count in zip(pairs, reply, strict=True):
                suspect = (shard, message.entry)
                self._asked.discard(suspect)
                if activation.phase is Phase.GONE or not activation.queue or activation.queue[0] is not message:
                    self._release(suspect)
                elif count > self._world.settings.crash_limit:
                    activation.queue.popleft()
                    self._world.failures.dead_letter(
                        activation,
                        message,
                        reason="crashes",
                        error=f"its process died {count - 1} times while it ran; the limit is {self._world.settings.crash_limit}",
                        attempts=count - 1,
                    )
                    self._release(suspect)
                    engine.advance(activation)
                else:
                    self._ready.add(suspect)
                    engine.advance(activation)
                    self._watch(activation, message)
        finally:
            engine.finish()

    def _watch(self, activation: Activation, message: Message) -> None:
        """Let the next go when this one's commit is acknowledged."""
        suspect = (activation.shard, message.entry)
        if self._alone != suspect:
            return
        for turn in activation.running:
            if turn.message is message:
                turn.settled = functools.partial(self._release, suspect)
                return
        # It ended in place: whatever it left is gathered last of its shard.
        gathered = activation.shard.gathered
        if gathered and gathered[-1].activation is activation:
            gathered[-1].settled = functools.partial(self._release, suspect)
        else:
            self._ready.discard(suspect)  # where it did not start after all: it is asked for again when pumped
            self._release(suspect)

    def _release(self, suspect: Suspect) -> None:
        if self._alone == suspect:
            self._alone = None
            self._world.loop.call_soon(self._next)
