"""Whether this user may do what a runner does: placement's scripts and all other commands, tried on scratch keys."""

from __future__ import annotations

import contextlib

from actors._placement import assignment
from actors._placement.membership import Member
from actors._placement.ownership import UNOWNED, Grant
from actors._placement.store import PlacementStore, Position, Wanted
from actors._redis import scripts
from actors._redis.connection import Connection
from actors._redis.faults import NoGroup, NoPermission, RedisFault, ScriptFailed
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
    """Run every script of placement on scratch keys, and every command of the others; then remove the keys.

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
        step = "rights"
        label = shard.label
        used = [scratch.held(label), scratch.dead_lost, scratch.mailbox(label), scratch.timers(label)]
        refused = await scripts.run(connection, scripts.load("rights"), used, [])
        if refused:
            step = ", ".join(name.decode().lower() for name in refused[::2])
            raise NoPermission(refused[1].decode(errors="replace"))
        step = "script load, mget, xread, xreadgroup"
        await _read(connection, scratch, nonce, shard)
        step = "remove"
        await _remove(connection, scratch, nonce, shard)
    except (NoPermission, ScriptFailed) as fault:
        raise ConfigurationError(
            setting="redis",
            problem=f"does not let this user run what a runner needs ({step}): {fault}",
            hint=f"Give the user all commands on ~{keys.tag}*, for example: ACL SETUSER <name> ~{keys.tag}* +@all -@dangerous +info +role",
        ) from fault
    finally:
        with contextlib.suppress(RedisFault):
            await _remove(connection, scratch, nonce, shard)


async def _read(connection: Connection, scratch: Keys, nonce: str, shard: ShardId) -> None:
    """Read as runners and clients do, beside their scripts."""
    mailbox = scratch.mailbox(shard.label)
    await connection.execute("SCRIPT", "LOAD", scripts.load("rights").text)  # the server may know the scripts now, and not later
    await connection.execute("MGET", scratch.dead_lost)
    with contextlib.suppress(NoGroup):  # there is none: to create one, a full server would have no memory
        await connection.execute("XREADGROUP", "GROUP", nonce, "r", "COUNT", 1, "NOACK", "STREAMS", mailbox, ">")
    await connection.execute("XREAD", "COUNT", 1, "STREAMS", mailbox, "0-0")


async def _remove(connection: Connection, scratch: Keys, nonce: str, shard: ShardId) -> None:
    named = (scratch.members, scratch.lease(nonce), scratch.control, scratch.facts, scratch.assignment, scratch.own)
    label = shard.label
    of_shard = (scratch.mailbox(label), scratch.marks(label), scratch.held(label), scratch.timers(label))
    await connection.execute("DEL", *named, scratch.dead_lost, *of_shard)
