"""Moving an actor's messages to its backlog in Redis, and running it from there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from actors._mailbox.commit import Effects, operate
from actors._redis.faults import RedisFault
from actors._runner.activation import Activation, Message, Phase, entry_order
from actors.wire.envelope import Unreadable, decode

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World


_PAGE = 500


class Backlogs:
    """What waits outside the shards' streams."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._keys = world.keys
        self._loading: set[int] = set()

    def move(self, activation: Activation, messages: Sequence[Message]) -> None:
        """Move messages from the stream to the backlog, with the next commit."""
        self._gather_move(activation, messages)

    def hold(self, activation: Activation) -> None:
        """Make an actor wait until its next message is due: all it has uncommitted moves, and the time is kept in Redis."""
        moving = activation.hold()
        if moving:
            self._gather_move(activation, moving)
        else:
            effects = Effects(None, activation)
            operate(effects, "H", (self._keys.held(activation.shard.label),), activation.field, self._held_value(activation))
            activation.uncommitted += 1
            self._world.committer.add(activation.shard, effects)

    def done(self, activation: Activation, effects: Effects, entry: bytes, *, attempts: int = 0) -> None:
        """Let ``effects`` take a handled entry out of the backlog. ``attempts``: its failed runs, which the next one does not inherit."""
        shard = activation.shard
        operate(
            effects,
            "b",
            (self._key(activation), self._keys.held(shard.label), self._keys.backlogs),
            shard.label,
            activation.field,
            entry,
        )
        if attempts:
            operate(effects, "H", (self._keys.held(shard.label),), activation.field, self._held_value(activation))

    def resume(self, shard: OwnedShard, held: dict[bytes, bytes]) -> list[Activation]:
        """Take up the held actors of a shard just acquired, before anything is read from its stream."""
        activations: list[Activation] = []
        for field, value in held.items():
            name, _, key = field.decode(errors="replace").partition(":")
            spec = self._world.specs.get(name)
            if spec is None or f"{name}:{key}".encode() != field:
                continue
            activation = self._world.dispatch.activate(shard, spec, key)
            activation.more = True
            due, attempt, error = _held_record(value)
            activation.attempt = attempt
            activation.last_error = error
            if due:
                activation.due = self._world.redis_clock.boottime(due)
            activations.append(activation)
        return activations

    def load(self, activation: Activation) -> None:
        """Fetch the next page of a backlog, once nothing of it is on its way there."""
        if activation.uncommitted or id(activation) in self._loading:
            return
        self._loading.add(id(activation))
        moves = activation.moves
        self._world.state.submit(
            ("XRANGE", self._key(activation), b"(" + activation.after, "+", "COUNT", activation.limit),
            functools.partial(self._loaded, activation, moves),
        )

    def _loaded(self, activation: Activation, moves: int, reply: Any) -> None:
        self._loading.discard(id(activation))
        if activation.phase is Phase.GONE:
            return
        if isinstance(reply, RedisFault):
            self._world.state.when_up(lambda: self._world.loop.call_later(0.05, self._world.engine.pump, activation))
            return
        messages: list[Message] = []
        engine = self._world.engine
        engine.begin()
        try:
            for entry, fields in reply:
                if entry in activation.inside:
                    continue  # it came back to the turn that waits for it, and runs
                try:
                    envelope = decode(fields[1], max_depth=self._world.settings.max_depth)
                except Unreadable as error:
                    effects = Effects(None)
                    self.done(activation, effects, entry)
                    self._world.settlement.bury(
                        effects, activation.shard, fields[1], reason=error.why, error=error.detail, entry=entry, attempts=0
                    )
                    self._world.committer.add(activation.shard, effects)
                    continue
                method = activation.spec.methods.get(envelope.method)
                if method is None:
                    effects = Effects(None)
                    self.done(activation, effects, entry)
                    self._world.parking.park_into(effects, activation.shard, entry, envelope, fields[1])
                    self._world.committer.add(activation.shard, effects)
                    continue
                message = Message(entry, envelope, fields[1], method)
                if envelope.id in activation.cancelled:
                    effects = Effects(None)
                    self.done(activation, effects, entry)
                    self._world.settlement.answer(effects, message, b"", final=False)
                    self._world.committer.add(activation.shard, effects)
                    continue
                messages.append(message)
            if reply:
                activation.after = reply[-1][0]
            activation.page(messages, complete=len(reply) < activation.limit, moves=moves)
            self._world.deadlines.watch_all(activation, messages)
            self._world.cycles.look(activation)
            engine.advance(activation)
            engine.settle_drain(activation.shard)
        finally:
            engine.finish()

    def search(self, activation: Activation, show: Callable[[Message], object], after: bytes = b"") -> bool:
        """Show what waits in a backlog and is not in memory; false if a page of it is on its way there just now."""
        if id(activation) in self._loading:
            return False
        self._world.state.submit(
            ("XRANGE", self._key(activation), b"(" + (after or activation.after), "+", "COUNT", _PAGE),
            functools.partial(self._searched, activation, show),
        )
        return True

    def _searched(self, activation: Activation, show: Callable[[Message], object], reply: Any) -> None:
        if isinstance(reply, RedisFault) or activation.phase is Phase.GONE or id(activation) in self._loading:
            return
        for entry, fields in reply:
            if entry in activation.inside or entry_order(entry) <= entry_order(activation.after):
                continue  # in memory by now, or handled since
            try:
                envelope = decode(fields[1], max_depth=self._world.settings.max_depth)
            except Unreadable:
                continue
            method = activation.spec.methods.get(envelope.method)
            if method is not None:
                show(Message(entry, envelope, fields[1], method))
        if len(reply) == _PAGE:
            self.search(activation, show, reply[-1][0])

    def _gather_move(self, activation: Activation, messages: Sequence[Message]) -> None:
        shard = activation.shard
        effects = Effects(None, activation)
        operate(
            effects,
            "B",
            (shard.mailbox, self._key(activation), self._keys.held(shard.label), self._keys.backlogs),
            shard.label,
            activation.field,
            self._held_value(activation),
            *(part for message in messages for part in (message.entry, message.raw)),
        )
        activation.uncommitted += 1
        self._world.committer.add(shard, effects)

    def _held_value(self, activation: Activation) -> str:
        due, attempt = activation.backoff
        error = f" {activation.last_error}" if attempt and activation.last_error else ""
        if not due:
            return f"0 {attempt}{error}"
        left = max(due - self._world.clock.boottime(), 0.0)
        return f"{int(self._world.redis_clock.now_ms() + left * 1000)} {attempt}{error}"

    def _key(self, activation: Activation) -> str:
        address = activation.address
        return self._keys.backlog(activation.shard.label, address.type, address.key)


def _held_record(value: bytes) -> tuple[int, int, str]:
    """Return when the next message is due (ms, 0: now), how often it has failed, and its last error. Garbage counts as none."""
    due, attempt, error = [*value.split(b" ", 2), b"", b"", b""][:3]
    due, attempt = due[:15], attempt[:9]
    return int(due) if due.isdigit() else 0, int(attempt) if attempt.isdigit() else 0, error.decode(errors="replace")
