"""``actor-runner actors``: find one actor, look at all that is known of it; delete its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from actors.cli.console import age, confirmed, print_json, show, show_one
from actors.cli.failure import Failure, Usage
from actors.cli.where import Place, Where, ask, operands, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors._redis.connection import Connection
    from actors._redis.keys import Keys
    from actors.ids import ShardId

app = App(name="actors", help="Find one actor: its state, what waits for it, its owner, its last error.")

_WORDS = Parameter(show=False)

SCANNED: Final = 20_000
"""Messages of a shard that are looked through for those of one actor."""

SHOWN: Final = 10
"""Waiting messages that are shown one by one."""


@app.default
@app.command(name="show")
def show_actor(
    *words: Annotated[str, _WORDS],
    where: Where = Where(),  # noqa: B008 - frozen
    group: Annotated[str | None, Parameter(help="Its shard group, where the application's code does not say.")] = None,
) -> int:
    """Show an actor by its key: ``actors [show] module:system [TYPE] KEY``.

    Without a type, all types are tried that the system or its runners have.
    """
    usage = "actor-runner actors module:system [TYPE] KEY"
    found, rest = place(where, words, usage=usage)
    *kind, key = operands(rest, least=1, most=2, usage=usage)
    actors = ask(found, lambda connection, keys: _find(connection, keys, found, kind[0] if kind else None, key, group))
    if where.output == "json":
        print_json(actors)
        return 0
    for place_, actor in enumerate(actors):
        if place_:
            print()
        show_one(_readable(actor), "table")
    return 0


@app.command(name="list")
def list_actors(
    *words: Annotated[str, _WORDS],
    where: Where = Where(),  # noqa: B008 - frozen
    limit: Annotated[int, Parameter(help="How many at most.")] = 1000,
) -> None:
    """List actors with stored state: ``actors list module:system [TYPE]``.

    They are found by walking through all keys of the database, in no order.
    """
    usage = "actor-runner actors list module:system [TYPE]"
    found, rest = place(where, words, usage=usage)
    kinds = operands(rest, least=0, most=1, usage=usage)

    async def read(connection: Connection, keys: Keys) -> list[dict[str, Any]]:
        from actors.cli.store import SystemStore

        rows: list[dict[str, Any]] = []
        async for actor_type, key in SystemStore(connection, keys).stored(kinds[0] if kinds else None):
            rows.append({"type": actor_type, "key": key})
            if len(rows) >= limit:
                break
        return rows

    rows = ask(found, read)
    show(rows, where.output, empty="no actor has stored state")
    if len(rows) >= limit and where.output == "table":
        print(f"… these are {limit:,}; more with --limit")


@app.command
def delete(
    *words: Annotated[str, _WORDS],
    where: Where = Where(),  # noqa: B008 - frozen
    group: Annotated[str | None, Parameter(help="Its shard group, where the application's code does not say.")] = None,
    yes: Annotated[bool, Parameter(help="Do not ask.", negative=())] = False,
) -> int:
    """Delete an actor's stored state: ``actors delete module:system TYPE KEY``.

    Its owner drops it from memory: the shard is taken away from the runner for a moment,
    so that no turn can write the old state back. Messages that wait for the actor stay
    and run on a fresh state.
    """
    usage = "actor-runner actors delete module:system TYPE KEY"
    found, rest = place(where, words, usage=usage)
    actor_type, key = operands(rest, least=2, most=2, usage=usage)
    if not confirmed(f"delete the state of {actor_type}/{key}?", yes=yes):
        raise Failure("nothing was deleted", "say --yes to delete without being asked")

    async def forget(connection: Connection, keys: Keys) -> bool:
        from actors.cli.store import SystemStore

        shard = await _shard(connection, keys, found, actor_type, key, group)
        return await SystemStore(connection, keys).forget(shard.label, actor_type, key)

    deleted = ask(found, forget)
    print(f"the state of {actor_type}/{key} is deleted" if deleted else f"{actor_type}/{key} had no stored state")
    return 0


async def _find(
    connection: Connection, keys: Keys, found: Place, actor_type: str | None, key: str, group: str | None
) -> list[dict[str, Any]]:
    from actors._placement.store import PlacementStore

    if actor_type is not None:
        kinds = [actor_type]
    elif found.code is not None:
        kinds = sorted(found.code.actors)
    else:
        kinds = sorted({kind for member in await PlacementStore(connection, keys).members() for kind in member.types})
    if not kinds:
        raise Usage("which type?", "no runner is there to tell; give it: actor-runner actors --system NAME TYPE KEY")
    actors = [await _read(connection, keys, found, kind, key, group) for kind in kinds]
    there = [actor for actor in actors if actor["state_bytes"] is not None or actor["waiting"] or actor["delayed"] or actor["last_error"]]
    if not there and actor_type is None:
        raise Failure(f"nothing is known of an actor with key {key!r}", f"looked for {', '.join(kinds)}")
    return there or actors


async def _read(connection: Connection, keys: Keys, found: Place, actor_type: str, key: str, group: str | None) -> dict[str, Any]:
    """Return all that Redis has about one actor."""
    from actors._placement.store import PlacementStore
    from actors.cli.store import SystemStore

    store, placement = SystemStore(connection, keys), PlacementStore(connection, keys)
    shard = await _shard(connection, keys, found, actor_type, key, group)
    label = shard.label
    raw, expires = await store.state(actor_type, key)
    now = await store.time_ms()
    record = (await placement.records([shard]))[shard]
    names = {member.incarnation: member.name for member in await placement.members()}
    alive = record.owner is not None and bool(await store.lease_left([record.owner]))
    mailbox = [entry async for entry in store.mailbox(label, limit=SCANNED)]
    waiting = [message for entry in mailbox if (message := _message(entry.id, entry.payload, now, actor_type, key))]
    backlog = [
        message
        async for entry in store.backlog(label, actor_type, key, limit=SHOWN)
        if (message := _message(entry.id, entry.payload, now, actor_type, key))
    ]
    backlog_length = await store.backlog_length(label, actor_type, key)
    delayed = [
        {**message, "due_in": (due - now) / 1000}
        for due, payload in await store.timers(label, limit=SCANNED)
        if (message := _message("", payload, now, actor_type, key))
    ]
    held = await store.held_record(label, actor_type, key)
    dead = [letter async for letter in store.dead_letters_of(actor_type, key, limit=SCANNED)]
    return {
        "actor": f"{actor_type}/{key}",
        "shard": label,
        "owner": None if record.owner is None else names.get(record.owner, record.owner),
        "owner_alive": alive,
        "epoch": record.epoch,
        **_state(found, actor_type, raw),
        "expires_in": expires,
        "waiting": len(waiting) + backlog_length,
        "in_mailbox": len(waiting),
        "in_backlog": backlog_length,
        "all_looked_through": len(mailbox) < SCANNED,
        "retry": _retry(held, now),
        "last_error": _last_error(held, dead),
        "dead_letters": len(dead),
        "next": [*backlog, *waiting][:SHOWN],
        "delayed": delayed,
    }


async def _shard(connection: Connection, keys: Keys, found: Place, actor_type: str, key: str, group: str | None) -> ShardId:
    from actors._placement import facts
    from actors._placement.store import PlacementStore
    from actors.ids import check_key, shard_of

    try:
        check_key(key)
    except ValueError as error:
        raise Usage(str(error)) from None
    counts = facts.shard_counts(await PlacementStore(connection, keys).facts())
    if not counts:
        raise Failure(f"{found.name} has no shards yet: no runner has ever started", "start one: actor-runner run module:system")
    spec = found.code.actors.get(actor_type) if found.code is not None else None
    if found.code is not None and spec is None:
        raise Usage(f"{found.name} has no actor type {actor_type}", f"it has {', '.join(sorted(found.code.actors)) or 'none'}")
    name = spec.shard_group if spec is not None else group
    if name is None:
        if len(counts) > 1:
            raise Usage(f"which shard group is {actor_type} in?", f"give --group, one of {', '.join(sorted(counts))}")
        (name,) = counts
    if name not in counts:
        raise Failure(f"no runner of shard group {name} has ever started", f"there are {', '.join(sorted(counts))}")
    return shard_of(actor_type, key, counts[name], name)


def _state(found: Place, actor_type: str, raw: bytes | None) -> dict[str, Any]:
    """Return the stored state as plain values, and whether this code could read it."""
    import msgspec

    if raw is None:
        return {"state": None, "state_bytes": None, "state_version": None, "state_problem": None}
    version: Any = None
    try:
        _, version, _, body = msgspec.msgpack.decode(raw)
        problem = None
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        body, problem = None, f"it is no state: {error}"
    codec = spec.state if found.code is not None and (spec := found.code.actors.get(actor_type)) is not None else None
    if codec is not None:
        from actors.wire.codec import StateUnreadable

        try:
            codec.decode(raw)
        except StateUnreadable as error:
            problem = error.problem
    return {"state": body, "state_bytes": len(raw), "state_version": version, "state_problem": problem}


def _message(entry: str, payload: bytes, now: int, actor_type: str, key: str) -> dict[str, Any] | None:
    """Return a message of this actor in words; ``None`` for any other."""
    from actors.wire.envelope import Kind, Unreadable, decode

    try:
        envelope = decode(payload)
    except Unreadable:
        return None
    if (envelope.type, envelope.key) != (actor_type, key) or envelope.kind is not Kind.MESSAGE:
        return None
    sent = int(entry.partition("-")[0]) if entry else None
    return {
        "method": envelope.method,
        "message_id": envelope.id,
        "ask": envelope.reply is not None,
        "age": (now - sent) / 1000 if sent is not None else None,
        "bytes": len(payload),
    }


def _retry(held: bytes | None, now: int) -> dict[str, Any] | None:
    """Return how far the retries of an actor are that runs from its backlog. Its record: due time in ms, failed runs, error."""
    if held is None:
        return None
    due, attempt, *_ = [*held.split(b" ", 2), b"", b""]
    if not attempt.isdigit() or attempt == b"0":
        return None
    return {"failed_runs": int(attempt), "next_in": max(0.0, (float(due) - now) / 1000)}


def _last_error(held: bytes | None, dead: Sequence[dict[str, str]]) -> str | None:
    if held is not None and len(parts := held.split(b" ", 2)) == 3:
        return parts[2].decode(errors="replace")
    if dead:
        return f"{dead[-1]['reason']}: {dead[-1]['error']}"
    return None


def _readable(actor: dict[str, Any]) -> dict[str, Any]:
    """Return an actor's record as a person reads it: without what is empty, times in words."""
    owner = actor["owner"]
    lines: dict[str, Any] = {
        "actor": actor["actor"],
        "shard": actor["shard"],
        "owner": "nobody" if owner is None else owner if actor["owner_alive"] else f"{owner} (gone; its lease has ended)",
        "state": "none stored" if actor["state_bytes"] is None else actor["state"],
    }
    if actor["state_bytes"] is not None:
        lines["stored"] = f"{actor['state_bytes']:,} bytes, version {actor['state_version']}"
    if actor["state_problem"]:
        lines["unreadable"] = actor["state_problem"]
    if actor["expires_in"] is not None:
        lines["expires in"] = age(actor["expires_in"])
    more = "" if actor["all_looked_through"] else f" (of the shard's first {SCANNED:,} messages)"
    lines["waiting"] = f"{actor['in_mailbox']:,} in the mailbox{more}, {actor['in_backlog']:,} in its backlog"
    if actor["retry"]:
        lines["retry"] = f"{actor['retry']['failed_runs']} runs have failed, the next is in {age(actor['retry']['next_in'])}"
    lines["last error"] = actor["last_error"] or "none known"
    if actor["dead_letters"]:
        lines["dead letters"] = f"{actor['dead_letters']:,}; see: actor-runner dead-letters"
    for place_, message in enumerate(actor["next"]):
        lines[f"next {place_ + 1}"] = (
            f"{message['method']}  {message['message_id']}  sent {age(message['age'])} ago{'  (ask)' if message['ask'] else ''}"
        )
    for place_, message in enumerate(actor["delayed"][:SHOWN]):
        lines[f"delayed {place_ + 1}"] = f"{message['method']}  {message['message_id']}  due in {age(message['due_in'])}"
    return lines
