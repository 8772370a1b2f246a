"""Messages for a type or method that this code does not have.

They leave the shard's stream for one of their own and wait there for an owner of the
shard that knows them; an asker is told at once why it waits, for the error at its
deadline. A runner looks through what is parked when it takes shards, when the members
change, and now and then; it puts back what it knows of its own shards. What nobody has
come for in a day goes to the dead letters, and so does what comes while too many wait.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from actors._mailbox.commit import Effects, operate
from actors._redis import scripts
from actors._redis.faults import RedisFault
from actors.errors import ClusterError, DeadLettered, UnknownActorType, UnknownMessage
from actors.telemetry.events import MessagesParked
from actors.wire.envelope import Envelope, Unreadable, decode, encode
from actors.wire.reply import encode_error, encode_notice

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World

_PAGE = 500
_DIGITS = 20
_KINDS = 1000


class Parking:
    """Sets unknown messages aside, and brings known ones back."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._put_back = scripts.load("put_back")
        self._looking = False
        self._told: Counter[tuple[str, str]] = Counter()

    def park(self, shard: OwnedShard, entry: bytes, envelope: Envelope, raw: bytes) -> None:
        """Park a message just read."""
        effects = Effects(entry)
        self.park_into(effects, shard, entry, envelope, raw)
        self._world.committer.add(shard, effects)

    def park_into(self, effects: Effects, shard: OwnedShard, entry: bytes, envelope: Envelope, raw: bytes) -> None:
        """Let ``effects`` park a message."""
        world = self._world
        spec = world.specs.get(envelope.type)
        error: ClusterError
        if spec is None:
            error = UnknownActorType(actor_type=envelope.type, key=envelope.key, known=sorted(world.specs))
        else:
            error = UnknownMessage(actor_type=envelope.type, method=envelope.method, key=envelope.key, known=sorted(spec.methods))
        operate(
            effects,
            "P",
            (world.keys.parked, world.keys.dead, world.keys.dead_lost),
            *(world.settings.parked_capacity, world.settings.dead_letter_capacity),
            *("d", raw, "s", shard.label, "k", f"{envelope.type}.{envelope.method}", "i", entry),
            *("t", int(world.redis_clock.now_ms())),
        )
        if envelope.reply is not None:
            effects.inbox = world.keys.inbox(envelope.reply.inbox)
            effects.call = envelope.reply.call
            effects.answer = encode_notice(error)
        kind = (envelope.type, envelope.method)
        if len(self._told) > _KINDS:
            self._told.clear()  # names out of messages: there may be any number
        self._told[kind] += 1
        if self._told[kind] == 1 or self._told[kind] % 1000 == 0:
            world.telemetry.emit(MessagesParked(actor_type=envelope.type, method=envelope.method, count=self._told[kind]))

    def look(self) -> None:
        """Look through what is parked for messages this code knows, and for those too old to keep."""
        if not self._looking and self._world.state.up:
            self._looking = True
            self._page("-")

    def _page(self, start: str) -> None:
        self._world.state.submit(("XRANGE", self._world.keys.parked, start, "+", "COUNT", _PAGE), functools.partial(self._looked))

    def _looked(self, reply: Any) -> None:
        world = self._world
        if isinstance(reply, RedisFault) or not reply:
            self._looking = False
            return
        keys: list[str] = [world.keys.parked]
        args: list[bytes] = []
        expired: list[tuple[bytes, dict[bytes, bytes]]] = []
        late: list[tuple[bytes, dict[bytes, bytes]]] = []
        now = world.redis_clock.now_ms()
        oldest = now - world.settings.parked_ttl * 1000
        for entry, flat in reply:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            raw = fields.get(b"d", b"")
            try:
                envelope = decode(raw, max_depth=world.settings.max_depth)
            except Unreadable:
                expired.append((entry, fields))
                continue
            spec = world.specs.get(envelope.type)
            label = fields.get(b"s", b"").decode(errors="replace")
            if spec is not None and envelope.method in spec.methods:
                if label not in world.shards:
                    continue  # its owner decides: another might have to park it again
                if envelope.budget_ms:
                    # Its new entry is younger than its call: it takes along only what is left of the deadline.
                    left = _left_ms(fields, envelope, now)
                    if left <= 0:
                        late.append((entry, fields))
                        continue
                    raw = encode(msgspec.structs.replace(envelope, budget_ms=left))
                keys.append(world.keys.mailbox(label))
                args += (entry, raw)
                self._told.pop((envelope.type, envelope.method), None)
            elif int(entry.split(b"-")[0]) < oldest:
                expired.append((entry, fields))
        connection = world.state.connection
        if connection is not None and args:
            scripts.submit(connection, self._put_back, keys, args, _ignore)
        for entry, fields in expired:
            self._expire(entry, fields, f"for {world.settings.parked_ttl:g} s")
        for entry, fields in late:
            self._expire(entry, fields, "before its caller's deadline")
        if len(reply) == _PAGE:
            self._page("(" + reply[-1][0].decode())
        else:
            self._looking = False

    def _expire(self, entry: bytes, fields: dict[bytes, bytes], when: str) -> None:
        world = self._world
        kind = fields.get(b"k", b"?").decode(errors="replace")
        connection = world.state.connection
        if connection is None:
            return
        text = f"no running runner has had {kind} {when}"
        raw = fields.get(b"d", b"")
        record, prefix, body = "", "", b""
        try:
            envelope = decode(raw, max_depth=world.settings.max_depth)
        except Unreadable:
            pass
        else:
            if envelope.extra is not None and envelope.extra.record is not None:
                record = world.keys.record(envelope.extra.record.suffix)
                prefix = envelope.extra.record.prefix
                body = encode_error(
                    DeadLettered(
                        why=text,
                        message_id=envelope.id,
                        actor_type=envelope.type,
                        key=envelope.key,
                        method=envelope.method,
                    )
                )
        scripts.submit(
            connection,
            scripts.load("expire_parked"),
            [world.keys.parked, world.keys.dead, world.keys.dead_lost, record or world.keys.parked],
            [
                *(entry, world.settings.dead_letter_capacity, 1 if record else 0, prefix, body),
                *("d", raw, "r", "unknown", "e", text, "s", fields.get(b"s", b"")),
                *("i", fields.get(b"i", b""), "a", 0, "t", int(world.redis_clock.now_ms())),
            ],
            _ignore,
        )


def _left_ms(fields: dict[bytes, bytes], envelope: Envelope, now: float) -> int:
    """Return what is left of a parked call's deadline, which is counted from its first entry."""
    arrived, _, _ = fields.get(b"i", b"").partition(b"-")
    return (int(arrived) if arrived.isdigit() and len(arrived) < _DIGITS else 0) + envelope.budget_ms - int(now)


def _ignore(reply: Any) -> None:
    """Whatever came of it, the next look does the same again."""
