"""What Redis holds of a system, for tests to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors._placement import assignment
from actors._placement.assignment import Assignment
from actors._placement.ownership import UNOWNED, Record
from actors._redis import scripts
from actors._redis.connection import Argument
from actors._redis.faults import NoScript
from actors._redis.keys import Keys
from actors.ids import ShardId
from actors.wire.envelope import Envelope, Kind, Unreadable, decode

_NAMED = 5


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was set aside."""

    reason: str
    """Why, in a word: ``attempts``, ``crashes``, ``mailbox_full``, ``not_msgpack`` and so on."""
    error: str
    """Why, in a sentence."""
    attempts: int
    shard: str
    actor_type: str = ""
    """Empty where the message cannot be read, as are the following."""
    key: str = ""
    method: str = ""
    message_id: str = ""
    arguments: dict[str, Any] = {}
    raw: bytes = b""
    """The envelope."""


class View:
    """Reads a system's keys. Nothing here waits: each call returns with Redis' answer."""

    def __init__(self, execute: Callable[..., Any], keys: Keys) -> None:
        """``execute`` runs a command and returns its reply."""
        self.execute = execute
        self._keys = keys

    def record(self, shard: ShardId) -> Record:
        """Return a shard's ownership record."""
        raw = self.execute("HGET", self._keys.own, shard.label)
        return Record.parse(raw.decode()) if raw is not None else UNOWNED

    def owners(self) -> dict[str, str | None]:
        """Return the incarnation that is recorded as each shard's owner, by label."""
        flat = self.execute("HGETALL", self._keys.own)
        return {label.decode(): Record.parse(text.decode()).owner for label, text in zip(flat[::2], flat[1::2], strict=True)}

    def assignment(self) -> Assignment:
        """Return the assignment record."""
        return assignment.decode(self.execute("GET", self._keys.assignment))

    def assign(self, seen: Assignment, following: Assignment) -> bool:
        """Replace the assignment record; false if it is another one by now."""
        keys = [self._keys.assignment, self._keys.control]
        status, *_ = self._run("assign", keys, [seen.version, assignment.encode(following)])
        return bool(status != b"stale")

    def state(self, actor_type: str, key: str) -> bytes | None:
        """Return an actor's stored state as it is stored."""
        raw: bytes | None = self.execute("GET", self._keys.state(actor_type, key))
        return raw

    def depths(self, labels: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return the shards in which something waits, with how much in the mailbox and in backlogs. One moment's truth."""
        flat = self._run("depths", [self._keys.backlogs, *(self._keys.mailbox(label) for label in labels)], labels)
        counts = zip(labels, flat[1::3], flat[3::3], strict=True)
        return {label: (entries, waiting) for label, entries, waiting in counts if entries or waiting}

    def waiting(self, label: str) -> list[str]:
        """Name the first messages that wait in a shard."""
        found: list[str] = []
        for _, fields in self.execute("XRANGE", self._keys.mailbox(label), "-", "+", "COUNT", _NAMED):
            found.append(f"{_named(fields[1])} in mailbox {label}")
        held = self.execute("HKEYS", self._keys.held(label))
        found += [f"messages of {name.decode(errors='replace').replace(':', '/', 1)} in its backlog" for name in held[:_NAMED]]
        return found

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters, oldest first."""
        letters: list[DeadLetter] = []
        for _, flat in self.execute("XRANGE", self._keys.dead, "-", "+"):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            raw = fields.get(b"d", b"")
            letter = DeadLetter(
                reason=fields[b"r"].decode(),
                error=fields[b"e"].decode(errors="replace"),
                attempts=int(fields.get(b"a", b"0") or 0),
                shard=fields.get(b"s", b"").decode(),
                raw=raw,
            )
            envelope = _read(raw)
            if envelope is not None:
                letter = msgspec.structs.replace(
                    letter,
                    actor_type=envelope.type,
                    key=envelope.key,
                    method=envelope.method,
                    message_id=envelope.id,
                    arguments=msgspec.msgpack.decode(envelope.args),
                )
            letters.append(letter)
        return letters

    def _run(self, name: str, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        script = scripts.load(name)
        try:
            return self.execute(*script.command(keys, args))
        except NoScript:
            self.execute("SCRIPT", "LOAD", script.text)
            return self.execute(*script.command(keys, args))

    def clear(self) -> None:
        """Delete everything of the system."""
        cursor = b"0"
        pattern = "".join(f"[{char}]" if char in "*?[" else char for char in self._keys.tag) + ":*"
        while True:
            cursor, found = self.execute("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            if found:
                self.execute("UNLINK", *found)
            if cursor == b"0":
                return


def _read(raw: bytes) -> Envelope | None:
    try:
        return decode(raw)
    except Unreadable:
        return None


def _named(raw: bytes) -> str:
    envelope = _read(raw)
    if envelope is None:
        return "something unreadable"
    kind = "" if envelope.kind is Kind.MESSAGE else f" ({envelope.kind.name.lower()})"
    return f"{envelope.type}/{envelope.key}.{envelope.method}{kind}"
