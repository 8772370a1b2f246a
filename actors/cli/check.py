"""``actor-runner check``: is this system fit to run, and its Redis fit to run it on?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from actors.cli.console import Output, print_json, show
from actors.cli.flags import REDIS_URL, SettingFlags
from actors.cli.where import Place, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from actors._redis.connection import Connection
    from actors._redis.keys import Keys
    from actors.actor import ActorSpec
    from actors.settings import Settings


def check(
    target: Annotated[str, Parameter(help="module:system")],
    /,
    *,
    redis: Annotated[str | None, Parameter(help=f"URL of Redis, instead of the system's own or {REDIS_URL}.")] = None,
    offline: Annotated[bool, Parameter(help="Only the code: reach no server.", negative=())] = False,
    output: Annotated[Output, Parameter(name=("--output", "-o"), help="A table for people or JSON for programs.")] = "table",
    settings: SettingFlags = SettingFlags(),  # noqa: B008 - frozen
) -> int:
    """Import a system, list its actors and messages, reach its servers, and say what is wrong.

    Changes nothing that is the system's: what it may do in Redis is tried on scratch keys.
    """
    from actors.cli.load import load_system
    from actors.errors import ConfigurationError
    from actors.settings import from_environment

    settings.apply(os.environ)
    system = load_system(target)
    problems, notes = code_problems(system.actors), list[str]()
    try:
        chosen = from_environment(system.settings, os.environ)
        notes += group_notes(system.actors, chosen)
        if not offline:
            reach(Place(system.name, system.redis_url(redis), system), chosen, problems, notes)
    except ConfigurationError as error:
        problems.append(str(error))
    rows = messages(system.actors)
    if output == "json":
        print_json({"system": system.name, "messages": rows, "notes": notes, "problems": problems})
    else:
        show(rows, "table", empty="no actors")
        print()
        for note in notes:
            print(f"note: {note}")
        for problem in problems:
            print(f"problem: {problem}")
        print(f"{system.name}: {f'{len(problems)} problems' if len(problems) > 1 else 'one problem' if problems else 'all well'}")
    return 1 if problems else 0


def messages(specs: Mapping[str, ActorSpec]) -> list[dict[str, Any]]:
    """Return a row for each message of each actor type."""
    rows: list[dict[str, Any]] = []
    for name, spec in sorted(specs.items()):
        state = getattr(spec.state.kind, "__name__", str(spec.state.kind)) if spec.state is not None else None
        for method in spec.methods.values():
            kind = [method.kind.value, *(word for word in ("read_only", "reentrant") if getattr(method, word))]
            rows.append({"actor": name, "message": method.name, "kind": ", ".join(kind), "state": state, "group": spec.shard_group})
    return rows


def code_problems(specs: Mapping[str, ActorSpec]) -> list[str]:
    """Return what is wrong with the declarations themselves."""
    if not specs:
        return ["the system has no actors: decorate a class with @system.actor, and import its module where the system is made"]
    problems: list[str] = []
    for name, spec in sorted(specs.items()):
        try:
            spec.resolve()
        except (TypeError, NameError) as error:
            problems.append(f"{name}: {error}")
        if not spec.methods:
            problems.append(f"{name} has no messages: decorate a method with @message")
    return problems


def group_notes(specs: Mapping[str, ActorSpec], settings: Settings) -> list[str]:
    """Return which actor types a runner with these settings leaves to others."""
    return [
        f"{name} lives in shard group {spec.shard_group}: these settings leave it to runners with --shard-groups {spec.shard_group}"
        for name, spec in sorted(specs.items())
        if spec.shard_group not in settings.shard_groups
    ]


def reach(found: Place, settings: Settings, problems: list[str], notes: list[str]) -> None:
    """Try what a runner would do at its start; add what is wrong to ``problems``, what is worth knowing to ``notes``."""
    from actors._redis.faults import RedisFault
    from actors.errors import ConfigurationError

    try:
        ask(found, lambda connection, keys: _look(connection, keys, settings, problems, notes))
    except (ConfigurationError, RedisFault, OSError) as error:
        problems.append(f"Redis cannot be used: {error}")


async def _look(connection: Connection, keys: Keys, settings: Settings, problems: list[str], notes: list[str]) -> None:
    from random import SystemRandom

    from actors._placement import facts
    from actors._placement.probe import probe
    from actors._placement.server import judge
    from actors._placement.store import PlacementStore
    from actors.cli.store import SystemStore
    from actors.ids import new_incarnation

    placement = PlacementStore(connection, keys)
    host = await placement.host()
    verdict = judge(host, settings.durability)
    name = "Valkey" if "valkey_version" in host.info else "Redis"
    version = host.info.get("valkey_version") or host.info.get("redis_version") or "of unknown version"
    notes.append(f"{name} {version} answers")
    notes += verdict.warnings
    if verdict.refusal is not None:
        problems.append(str(verdict.refusal))
        return
    await probe(connection, keys, new_incarnation(SystemRandom()))
    own = facts.expected(shards=settings.shards, groups=settings.shard_groups, slot_groups=settings.slot_groups)
    misfit = facts.misfit(await placement.facts(), own)
    if misfit is not None:
        problems.append(str(misfit))
    members = await placement.members()
    leases = await SystemStore(connection, keys).lease_left([member.incarnation for member in members])
    up = [member.name for member in members if member.incarnation in leases]
    notes.append(f"runners: {', '.join(up)}" if up else "no runner is up")
