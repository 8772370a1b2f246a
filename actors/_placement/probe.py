"""Whether this user may do what placement does: each script tried on scratch keys."""

from __future__ import annotations

import contextlib

from actors._placement import assignment
from actors._placement.membership import Member
from actors._placement.ownership import UNOWNED, Grant
from actors._placement.store import PlacementStore, Position, Wanted
from actors._redis.connection import Connection
from actors._redis.faults import NoPermission, RedisFault, ScriptFailed
from actors._redis.keys import Keys
from actors.errors import ConfigurationError
from actors.ids import ShardId

_LEASE = 5.0


class ScratchKeys(Keys):
    """The keys of a system that is not one: in the same slot and under the same patterns, beside the real ones."""

    __slots__ = ()

    def __init__(self, keys: Keys, nonce: str) -> None:
        for name in Keys.__slots__:
            value = getattr(keys, name)
            setattr(self, name, value.replace(keys.tag, f"{keys.tag}:probe:{nonce}", 1) if isinstance(value, str) else value)


async def probe(connection: Connection, keys: Keys, nonce: str) -> None:
    """Run every script of placement on scratch keys, and remove them.

    ``nonce``: not used by anybody else at this moment, such as an incarnation. Raises
    :class:`~actors.errors.ConfigurationError` naming the script that was refused.
    """
    scratch = ScratchKeys(keys, nonce)
    store = PlacementStore(connection, scratch)
    member = Member(name="probe", incarnation=nonce)
    shard = ShardId("probe", 0)
    step = ""
    try:
        step = "register"
        await store.register(member, lease=_LEASE)
        step = "renew"
        await store.renew(member.name, nonce, lease=_LEASE)
        step = "facts"
        await store.record_facts({"probe": nonce})
        step = "assign"
        await store.assign(0, assignment.encode(assignment.Assignment(version=1)))
        step = "acquire"
        granted = await store.acquire(nonce, [Wanted(shard, UNOWNED, f"{nonce}.0.0")])
        if granted and isinstance(granted[0], Grant):
            step = "regroup"
            await store.regroup(nonce, "0", 1, [Position(shard, granted[0].epoch, "0-0")])
            step = "release"
            await store.release([(shard, granted[0].token)])
        step = "leave"
        await store.leave(member.name, nonce)
        step = "prune"
        await store.prune([member])
        step = "view"
        await store.view()
        await store.leases([nonce])
        await store.holder(member.name)
        await store.records([shard])
        await store.records()
        await store.facts()
        await store.last_event()
        step = "remove"
        await _remove(connection, scratch, nonce, shard)
    except (NoPermission, ScriptFailed) as fault:
        raise ConfigurationError(
            setting="redis",
            problem=f"does not let this user run what placement needs ({step}): {fault}",
            hint=f"Give the user all commands on ~{keys.tag}*, for example: ACL SETUSER <name> ~{keys.tag}* +@all -@dangerous +info +role",
        ) from fault
    finally:
        with contextlib.suppress(RedisFault):
            await _remove(connection, scratch, nonce, shard)


async def _remove(connection: Connection, scratch: Keys, nonce: str, shard: ShardId) -> None:
    named = (scratch.members, scratch.lease(nonce), scratch.control, scratch.facts, scratch.assignment, scratch.own)
    await connection.execute("DEL", *named, scratch.mailbox(shard.label), scratch.marks(shard.label))
