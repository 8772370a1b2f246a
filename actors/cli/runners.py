"""``actor-runner runners``: who runs, what they own; take one out of service and back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from actors.cli.console import age, show
from actors.cli.failure import Failure
from actors.cli.where import Where, ask, operands, place

if TYPE_CHECKING:
    from actors._placement.membership import Member
    from actors._redis.connection import Connection
    from actors._redis.keys import Keys

app = App(name="runners", help="See who runs.")

_WORDS = Parameter(show=False)


@app.default
@app.command(name="list")
def list_runners(*words: Annotated[str, _WORDS], where: Where = Where()) -> None:  # noqa: B008 - frozen
    """List the runners of a system: ``runners [list] module:system``.

    ``state`` is ``up``, ``draining`` (it gives its shards away) or ``gone`` (its lease has
    ended and nobody has taken it off the list yet).
    """
    found, rest = place(where, words, usage="runners module:system")
    operands(rest, least=0, most=0, usage="actor-runner runners module:system")
    rows = ask(found, read)
    if where.output == "table":
        for row in rows:
            row["up_for"], row["lease_left"] = age(row["up_for"]), age(row["lease_left"])
    columns = ["runner", "state", "shards", "assigned", "lease_left", "groups", "weight", "types", "host", "pid", "http", "up_for"]
    show(rows, where.output, empty=f"no runner of {found.name} is listed; start one with: actor-runner run module:system", columns=columns)


@app.command
def drain(*words: Annotated[str, _WORDS], where: Where = Where()) -> None:  # noqa: B008 - frozen
    """Let a runner give its shards to the others: ``runners drain module:system NAME``.

    It goes on running, without shards, until it is stopped or ``resume``d. Its handlers
    finish first; no message fails. (To end a runner, send it SIGTERM: it drains by itself.)
    """
    _set_draining(words, where, draining=True)


@app.command
def resume(*words: Annotated[str, _WORDS], where: Where = Where()) -> None:  # noqa: B008 - frozen
    """Let a drained runner take shards again: ``runners resume module:system NAME``."""
    _set_draining(words, where, draining=False)


async def read(connection: Connection, keys: Keys) -> list[dict[str, Any]]:
    """Return a row for each runner."""
    from actors._placement import assignment
    from actors._placement.store import PlacementStore
    from actors.cli.fleet_view import runner_rows
    from actors.cli.store import SystemStore

    placement, store = PlacementStore(connection, keys), SystemStore(connection, keys)
    members, raw = await placement.view()
    records = await placement.records()
    owners = {record.owner for record in records.values() if record.owner is not None}
    leases = await store.lease_left(sorted(owners | {member.incarnation for member in members}))
    return runner_rows(members, leases, records, assignment.decode(raw), now=time.time())


def _set_draining(words: tuple[str, ...], where: Where, *, draining: bool) -> None:
    verb = "drain" if draining else "resume"
    usage = f"actor-runner runners {verb} module:system NAME"
    found, rest = place(where, words, usage=usage)
    (name,) = operands(rest, least=1, most=1, usage=usage)

    async def change(connection: Connection, keys: Keys) -> Member:
        from actors._placement.store import PlacementStore
        from actors.cli.store import SystemStore

        placement, store = PlacementStore(connection, keys), SystemStore(connection, keys)
        members = {member.name: member for member in await placement.members()}
        member = members.get(name)
        if member is None:
            raise Failure(f"no runner is called {name}", f"these are listed: {', '.join(sorted(members)) or 'none'}")
        left = (await store.lease_left([member.incarnation])).get(member.incarnation)
        if left is None:
            raise Failure(f"{name} is gone: its lease has ended", "its shards go to the others by themselves")
        if draining and not any(other for other in members.values() if other.name != name and not other.draining):
            raise Failure(f"{name} is the only runner that takes shards", "start another one first")
        # Registering again is how a record changes; the lease it has left is kept.
        await placement.register(msgspec.structs.replace(member, draining=draining), lease=left)
        return member

    ask(found, change)
    print(f"{name} gives its shards away; see: actor-runner runners" if draining else f"{name} takes shards again")
