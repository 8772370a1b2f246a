"""Names of things: actors, shards, runners, messages."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Protocol, Self

import msgspec
from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from random import Random

MAX_KEY_BYTES = 1024

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]  # 10 bits each


class ActorAddress(msgspec.Struct, frozen=True, gc=False, order=True):
    """Which actor: its registered type name and its key."""

    type: str
    key: str

    def __str__(self) -> str:
        return f"{self.type}/{self.key}"


class ShardId(msgspec.Struct, frozen=True, gc=False, order=True):
    """One bucket of actors, the unit of placement."""

    group: str
    index: int

    @property
    def label(self) -> str:
        """The shard's name in keys and on screens: ``default.17``."""
        return f"{self.group}.{self.index}"

    @classmethod
    def parse(cls, label: str) -> Self:
        """Return the shard that ``label`` names; ``ValueError`` for anything else."""
        group, dot, index = label.rpartition(".")
        if not (group and dot and index.isascii() and index.isdigit()) or (index != "0" and index.startswith("0")):
            raise ValueError(f"{label!r} is not a shard: expected group.index, such as default.17")
        return cls(group, int(index))

    def __str__(self) -> str:
        return self.label


class RunnerId(msgspec.Struct, frozen=True, gc=False, order=True):
    """One lifetime of a runner: its stable name, and 64 bits drawn when it started."""

    name: str
    incarnation: str

    def __str__(self) -> str:
        return f"{self.name}:{self.incarnation}"


def check_key(key: object) -> str:
    """Return ``key`` if it can name an actor.

    ``TypeError`` for anything but a ``str``; ``ValueError`` for an empty one, one over
    1,024 bytes of UTF-8, or one that holds half a surrogate pair. Every other character
    is fine, NUL and braces included.
    """
    if not isinstance(key, str):
        raise TypeError(f"an actor's key is a str, not {type(key).__name__} ({key!r})")
    if not key:
        raise ValueError("an actor's key cannot be empty")
    if len(key) * 4 > MAX_KEY_BYTES or not key.isascii():
        try:
            size = len(key.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"an actor's key must be valid Unicode: {key!r} holds half a surrogate pair at {error.start}") from None
        if size > MAX_KEY_BYTES:
            raise ValueError(f"an actor's key has at most {MAX_KEY_BYTES:,} bytes in UTF-8; {key[:32]!r}… has {size:,}")
    return key


def shard_of(actor_type: str, key: str, shards: int, group: str) -> ShardId:
    """Return the shard an actor lives in: XXH3-64 of ``type NUL key`` in UTF-8, modulo ``shards``.

    The hash (seed 0) is the same in every process, version and language; it is recorded
    in Redis as part of the layout, since another one would look for states elsewhere.
    """
    return ShardId(group, xxh3_64_intdigest(f"{actor_type}\0{key}".encode()) % shards)


def new_incarnation(random: Random) -> str:
    """Return 64 random bits as 16 lower-case hex digits."""
    return f"{random.getrandbits(64):016x}"


class WallClock(Protocol):
    """The one thing ids need of a clock."""

    def time(self) -> float:
        """Seconds since 1970."""
        ...


class IdSource:
    """Message ids in the text form of ULIDs: time-ordered, and never twice.

    10 characters of milliseconds, 8 drawn once per source, 8 of a counter. Ids of one
    source increase strictly, also when the clock steps back; ids of different sources
    sort by time, to the millisecond. In a forked child a source draws anew, so that it
    never repeats its parent's ids. A source belongs to one thread.
    """

    __slots__ = ("__weakref__", "_count", "_middle", "_ms", "_prefix", "_random", "_time")

    def __init__(self, clock: WallClock, random: Random) -> None:
        self._time = clock.time
        self._random = random
        self._middle = _text(random.getrandbits(40), 8)
        self._count = -1
        self._ms = -1
        self._prefix = ""
        _sources.add(self)

    def next(self) -> str:
        """Return a new id."""
        self._count = number = self._count + 1
        low = number & 0xFFFFF
        ms = int(self._time() * 1000)
        if ms > self._ms or not low:
            self._ms = ms = max(ms, self._ms)
            self._prefix = _text(ms, 10) + self._middle + _text(number >> 20, 4)
        return self._prefix + _PAIRS[low >> 10] + _PAIRS[low & 1023]

    def forked(self) -> None:
        """Draw anew. Called in a forked child, whose random source may be a copy of its parent's."""
        self._middle = _text(self._random.getrandbits(40) ^ int.from_bytes(os.urandom(5)), 8)
        self._ms = -1


def _text(number: int, width: int) -> str:
    return "".join(_PAIRS[number >> shift & 1023] for shift in range(5 * (width - 2), -1, -10))


def _after_fork() -> None:
    for source in list(_sources):
        source.forked()


_sources: weakref.WeakSet[IdSource] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
