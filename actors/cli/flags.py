"""Every setting as a flag. A flag is its ``ACTORS_…`` variable, for this process and its children."""

from __future__ import annotations

import ast
import functools
import inspect
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from cyclopts import Group, Parameter

from actors.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import MutableMapping

REDIS_URL = "ACTORS_REDIS_URL"

SETTINGS = Group("Settings", help="They override what the system was built with.", sort_key=9)


@functools.cache
def documented() -> dict[str, str]:
    """Return what the source says of each setting: the text below its field."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(Settings)).body if isinstance(node, ast.ClassDef))
    texts: dict[str, str] = {}
    name = ""
    for node in body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=field)):
                name = field
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                texts[name] = " ".join(text.split()).replace("``", "")
                name = ""
            case _:
                name = ""
    return texts


def _flag(setting: str, *names: str) -> Parameter:
    (default,) = (field.default for field in msgspec.structs.fields(Settings) if field.name == setting)
    return Parameter(
        name=names or None,
        env_var=PREFIX + setting.upper(),
        help=documented().get(setting, ""),
        show_default=lambda _: _shown(default),
        negative=(),
        group=SETTINGS,
    )


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(cast("tuple[str, ...]", default))
    return "host name" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SettingFlags:
    """The settings that were given on the command line or in the environment."""

    runner_name: Annotated[str | None, _flag("runner_name", "--name", "--runner-name")] = None
    http_port: Annotated[int | None, _flag("http_port")] = None
    http_host: Annotated[str | None, _flag("http_host")] = None
    log_format: Annotated[Literal["auto", "json", "text"] | None, _flag("log_format")] = None
    lease: Annotated[float | None, _flag("lease")] = None
    shards: Annotated[int | None, _flag("shards")] = None
    slot_groups: Annotated[int | None, _flag("slot_groups")] = None
    shard_groups: Annotated[str | None, _flag("shard_groups")] = None
    weight: Annotated[int | None, _flag("weight")] = None
    durability: Annotated[Literal["memory", "aof", "aof-always"] | None, _flag("durability")] = None
    drain_timeout: Annotated[float | None, _flag("drain_timeout")] = None
    activation_timeout: Annotated[float | None, _flag("activation_timeout")] = None
    turn_timeout: Annotated[float | None, _flag("turn_timeout")] = None
    ask_timeout: Annotated[float | None, _flag("ask_timeout")] = None
    idempotency_ttl: Annotated[float | None, _flag("idempotency_ttl")] = None
    idle_timeout: Annotated[float | None, _flag("idle_timeout")] = None
    resident_limit: Annotated[int | None, _flag("resident_limit")] = None
    mailbox_capacity: Annotated[int | None, _flag("mailbox_capacity")] = None
    backlog_capacity: Annotated[int | None, _flag("backlog_capacity")] = None
    shard_capacity: Annotated[int | None, _flag("shard_capacity")] = None
    dead_letter_capacity: Annotated[int | None, _flag("dead_letter_capacity")] = None
    max_payload: Annotated[int | None, _flag("max_payload")] = None
    max_state: Annotated[int | None, _flag("max_state")] = None
    max_depth: Annotated[int | None, _flag("max_depth")] = None
    max_attempts: Annotated[int | None, _flag("max_attempts")] = None
    crash_limit: Annotated[int | None, _flag("crash_limit")] = None
    max_call_depth: Annotated[int | None, _flag("max_call_depth")] = None
    parked_capacity: Annotated[int | None, _flag("parked_capacity")] = None
    parked_ttl: Annotated[float | None, _flag("parked_ttl")] = None

    def apply(self, environ: MutableMapping[str, str]) -> None:
        """Write the settings that were given into ``environ``, where the system and child processes find them."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                environ[PREFIX + field.name.upper()] = str(value)
