"""The names of everything a system keeps in Redis.

All keys of one slot group start with the same hash tag, ``{system:group}``, so that a
Redis Cluster keeps them on one node and a script may touch any of them. Everything
after the tag is free text: an actor's key may hold braces, since only the first pair
of a Redis key decides its slot. Type names and shard labels cannot hold a colon, so
``s:<type>:<key>`` is never ambiguous.
"""

from __future__ import annotations


class Keys:
    """The keys of one system in one slot group."""

    __slots__ = (
        "_backlog",
        "_inbox",
        "_lease",
        "_record",
        "_sender",
        "_state",
        "assignment",
        "backlogs",
        "control",
        "dead",
        "dead_lost",
        "facts",
        "members",
        "own",
        "parked",
        "slot_group",
        "tag",
    )

    def __init__(self, system: str, slot_group: int = 0) -> None:
        self.slot_group = slot_group
        tag = f"{{{system}:{slot_group}}}"
        self.tag = tag
        self.own = f"{tag}:own"  # hash: shard label -> "<inc> <epoch> <seq> <clean> <upto>"
        self.backlogs = f"{tag}:hs"  # hash: shard label -> messages in its backlogs, while there are any
        self.members = f"{tag}:r"  # hash: runner name -> member record
        self.assignment = f"{tag}:a"  # string: versioned assignment record
        self.control = f"{tag}:c"  # stream of cluster events, bounded
        self.facts = f"{tag}:f"  # hash of what the first runner recorded
        self.dead = f"{tag}:d"  # stream of dead letters, bounded
        self.dead_lost = f"{tag}:dn"  # counter: dead letters dropped because the stream was full
        self.parked = f"{tag}:u"  # stream of messages no running runner can handle
        self._lease = f"{tag}:l:"
        self._state = f"{tag}:s:"
        self._inbox = f"{tag}:i:"
        self._sender = f"{tag}:p:"
        self._record = f"{tag}:k:"
        self._backlog = f"{tag}:b:"

    def lease(self, incarnation: str) -> str:
        """Liveness of one runner: a string with the lease as its time to live."""
        return self._lease + incarnation

    def mailbox(self, label: str) -> str:
        """The stream of one shard; entries hold one field ``d``, the envelope."""
        return f"{self.tag}:m:{label}"

    def state(self, actor_type: str, key: str) -> str:
        """The stored state of one actor: a string."""
        return f"{self._state}{actor_type}:{key}"

    def held(self, label: str) -> str:
        """Hash of the actors of a shard that run from their backlog: ``type:key`` -> record."""
        return f"{self.tag}:h:{label}"

    def backlog(self, label: str, actor_type: str, key: str) -> str:
        """Stream of one held actor's waiting messages, under their mailbox ids."""
        return f"{self._backlog}{label}:{actor_type}:{key}"

    def marks(self, label: str) -> str:
        """Hash of suspects that were started: entry id -> ``<count> <epoch>``."""
        return f"{self.tag}:x:{label}"

    def timers(self, label: str) -> str:
        """Sorted set of delayed messages: member id -> due time in ms."""
        return f"{self.tag}:t:{label}"

    def timer_values(self, label: str) -> str:
        """Hash of delayed messages: member id -> envelope."""
        return f"{self.tag}:tv:{label}"

    def streams(self, label: str) -> str:
        """Hash of running streaming replies: entry id -> ``<inbox> <call>``."""
        return f"{self.tag}:g:{label}"

    def inbox(self, client: str) -> str:
        """Stream of replies to one client."""
        return self._inbox + client

    def sender(self, sender: str) -> str:
        """The last batch of one sender: ``<number> <outcomes>``, with a time to live."""
        return self._sender + sender

    def record(self, suffix: str) -> str:
        """Hash of one idempotency record, or of all asks of one parent message."""
        return self._record + suffix
