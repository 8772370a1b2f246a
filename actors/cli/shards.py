"""``actor-runner shards``: who owns which shard, what waits there; move one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from actors.cli.console import age, show, show_one
from actors.cli.failure import Failure, Usage
from actors.cli.where import Where, ask, operands, place
from actors.ids import ShardId

if TYPE_CHECKING:
    from actors._redis.connection import Connection
    from actors._redis.keys import Keys

app = App(name="shards", help="See who owns which shard and what waits there; move shards.")

_WORDS = Parameter(show=False)


@app.default
@app.command(name="list")
def list_shards(
    *words: Annotated[str, _WORDS],
    where: Where = Where(),  # noqa: B008 - frozen
    owner: Annotated[str | None, Parameter(help="Only those of this runner.")] = None,
    waiting: Annotated[bool, Parameter(help="Only those in which something waits.", negative=())] = False,
) -> None:
    """List the shards of a system: ``shards [list] module:system``.

    ``owner`` is who owns it now, ``assigned`` who should; they differ while a shard moves.
    """
    found, rest = place(where, words, usage="shards module:system")
    operands(rest, least=0, most=0, usage="actor-runner shards module:system")
    rows = ask(found, read)
    if owner is not None:
        rows = [row for row in rows if row["owner"] == owner]
    if waiting:
        rows = [row for row in rows if row["mailbox"] or row["backlog"]]
    if where.output == "table":
        for row in rows:
            row["oldest_age"] = age(row["oldest_age"])
    columns = ["shard", "state", "owner", "assigned", "mailbox", "backlog", "oldest_age"]
    show(
        rows,
        where.output,
        empty="no shard is like that" if owner or waiting else f"{found.name} has no shards yet: no runner has ever started",
        columns=columns,
    )


@app.command(name="show")
def show_shard(*words: Annotated[str, _WORDS], where: Where = Where()) -> None:  # noqa: B008 - frozen
    """Show one shard with its held actors: ``shards show module:system default.17``."""
    usage = "actor-runner shards show module:system default.17"
    found, rest = place(where, words, usage=usage)
    (label,) = operands(rest, least=1, most=1, usage=usage)
    shard = _shard(label)

    async def read_one(connection: Connection, keys: Keys) -> dict[str, Any]:
        from actors.cli.store import SystemStore

        (row,) = await read(connection, keys, only=shard)
        store = SystemStore(connection, keys)
        held = await store.held(shard.label)
        return {**row, "held_actors": sorted(held)}

    show_one(ask(found, read_one), where.output)


@app.command
def move(*words: Annotated[str, _WORDS], where: Where = Where()) -> None:  # noqa: B008 - frozen
    """Let another runner own a shard: ``shards move module:system default.17 NAME``.

    The owner finishes its running turns first. The move lasts until the runners' shares
    are next computed, when somebody joins or leaves.
    """
    usage = "actor-runner shards move module:system default.17 NAME"
    found, rest = place(where, words, usage=usage)
    label, runner = operands(rest, least=2, most=2, usage=usage)
    shard = _shard(label)

    async def write(connection: Connection, keys: Keys) -> str | None:
        from actors._placement import assignment
        from actors._placement.store import PlacementStore
        from actors.cli.fleet_view import moved

        placement = PlacementStore(connection, keys)
        _, raw = await placement.view()
        while True:
            current = assignment.decode(raw)
            before = current.owner(shard)
            try:
                changed = moved(current, shard, runner)
            except LookupError as error:
                raise Failure(str(error.args[0]), "see: actor-runner runners module:system") from None
            if before == runner:
                return before
            raw = await placement.assign(current.version, assignment.encode(changed))
            if raw is None:
                return before

    before = ask(found, write)
    print(
        f"{shard.label} is assigned to {runner} already"
        if before == runner
        else f"{shard.label} goes from {before or 'nobody'} to {runner}"
    )


async def read(connection: Connection, keys: Keys, *, only: ShardId | None = None) -> list[dict[str, Any]]:
    """Return a row for each shard, or for ``only`` one."""
    from actors._placement import assignment, facts
    from actors._placement.store import PlacementStore
    from actors.cli.fleet_view import shard_rows
    from actors.cli.store import SystemStore

    placement, store = PlacementStore(connection, keys), SystemStore(connection, keys)
    counts = facts.shard_counts(await placement.facts())
    if only is not None:
        if only.index >= counts.get(only.group, 0):
            there = ", ".join(f"{group}.0 to {group}.{count - 1}" for group, count in counts.items()) or "none, no runner has ever started"
            raise Failure(f"there is no shard {only.label}", f"there are {there}")
        shards = [only]
    else:
        shards = [ShardId(group, index) for group, count in sorted(counts.items()) for index in range(count)]
    records = {shard.label: record for shard, record in (await placement.records(shards)).items()}
    members, raw = await placement.view()
    names = {member.incarnation: member.name for member in members}
    leases = await store.lease_left(sorted({record.owner for record in records.values() if record.owner is not None}))
    wanted = assignment.decode(raw)
    labels = [shard.label for shard in shards]
    assigned = {shard.label: wanted.owner(shard) for shard in shards}
    return shard_rows(await store.depths(labels), records, names, leases, assigned)


def _shard(label: str) -> ShardId:
    try:
        return ShardId.parse(label)
    except ValueError as error:
        raise Usage(str(error)) from None
