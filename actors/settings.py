"""Settings: one documented struct, checked when it is built.

Precedence, highest first: a command-line flag, an ``ACTORS_…`` variable, the
``settings=`` of the system, the default here. The environment is read only by
:func:`from_environment`, which :mod:`actors.system` calls when something connects or
runs, never at import.
"""

from __future__ import annotations

import difflib
import logging
import socket
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from actors.errors import ConfigurationError

PREFIX = "ACTORS_"

log = logging.getLogger("actors.settings")

LogFormat = Literal["auto", "json", "text"]
Durability = Literal["memory", "aof", "aof-always"]

# Upper bound of one commit or send: a script must stay far below the server's
# 5 s limit, past which one that has written cannot be stopped any more.
BATCH_MESSAGES = 500
BATCH_BYTES = 1 << 20


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every knob of a system. Times are seconds, sizes bytes."""

    lease: float = 10.0
    """How long a runner is trusted without a renewal. A crashed runner's shards run
    elsewhere after at most this plus 2 s. Shorten it where pauses are short too."""
    shards: int = 256
    """Shards of each shard group. Recorded at first start; change it with ``reshard``."""
    slot_groups: int = 1
    """Groups of shards that share a Redis Cluster hash tag. 1 on a standalone server."""
    shard_groups: tuple[str, ...] = ("default",)
    """The groups whose shards this runner takes."""
    weight: int = 1
    """This runner's share of the shards relative to the others'."""
    runner_name: str | None = None
    """A stable name, unique among live runners. ``None``: the host name."""

    drain_timeout: float = 25.0
    """How long running handlers may take to finish when a shard moves away."""
    activation_timeout: float = 10.0
    """Bound of loading an actor and its ``on_activate``; also of ``on_deactivate``."""
    turn_timeout: float = 60.0
    """Bound of one turn; past it the turn is cancelled as a defect."""
    ask_timeout: float = 30.0
    """Default deadline of an ask."""
    idempotency_ttl: float = 86_400.0
    """How long the outcome of an idempotency key is kept after completion."""
    idle_timeout: float = 300.0
    """An actor without messages for this long is deactivated."""
    resident_limit: int = 50_000
    """Activated actors kept in one runner; past it the least recently used goes."""

    mailbox_capacity: int = 100
    """Messages of one actor kept in memory; past it they wait in its backlog in Redis."""
    backlog_capacity: int = 10_000
    """Messages of one actor that may wait; past it a client's send is refused."""
    shard_capacity: int = 100_000
    """Messages of one shard that may wait; past it a client's send is refused."""
    dead_letter_capacity: int = 10_000
    """Dead letters kept; past it the oldest goes, counted."""
    max_payload: int = 1 << 20
    """Largest encoded message or reply."""
    max_state: int = 8 << 20
    """Largest encoded state of one actor."""
    max_depth: int = 64
    """Deepest nesting of an encoded message."""
    max_attempts: int = 5
    """Runs of a message that fails with a defect before it is dead-lettered."""
    crash_limit: int = 3
    """Deaths of its process that a message is charged with before it is dead-lettered. The first, before
    it is suspect, is not counted."""
    max_call_depth: int = 32
    """Longest chain of asks made inside asks."""
    parked_capacity: int = 10_000
    """Messages parked for a runner that knows their type and method; further ones are dead-lettered."""
    parked_ttl: float = 86_400.0
    """How long a message waits for a runner that knows its type and method."""

    http_port: int = 9400
    """Port of probes and metrics. 0 picks a free one."""
    http_host: str = "0.0.0.0"  # noqa: S104 - probes come from outside the pod
    """Address of probes and metrics."""
    log_format: LogFormat = "auto"
    """``auto``: readable on a terminal, JSON elsewhere."""
    durability: Durability = "aof"
    """What "acknowledged" means; checked against the server at start."""

    def __post_init__(self) -> None:
        for name in (
            "lease",
            "drain_timeout",
            "activation_timeout",
            "turn_timeout",
            "ask_timeout",
            "idempotency_ttl",
            "idle_timeout",
            "parked_ttl",
        ):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a time above 0 s")
        for name in (
            "shards",
            "weight",
            "resident_limit",
            "mailbox_capacity",
            "backlog_capacity",
            "shard_capacity",
            "dead_letter_capacity",
            "parked_capacity",
            "max_payload",
            "max_state",
            "max_depth",
            "max_attempts",
            "crash_limit",
            "max_call_depth",
        ):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number of at least 1")
        _require(self.shards <= 1 << 16, "shards", self.shards, "at most 65,536")
        _require(self.slot_groups == 1, "slot_groups", self.slot_groups, "1: Redis Cluster is not supported yet")
        _require(bool(self.shard_groups), "shard_groups", self.shard_groups, "at least one group")
        for group in self.shard_groups:
            _require(
                group.replace("-", "").replace("_", "").isalnum() and group.isascii(), "shard_groups", group, "letters, digits, - and _"
            )
        _require(0 <= self.http_port < 1 << 16, "http_port", self.http_port, "a port, 0 to 65,535")

    @property
    def name_of_runner(self) -> str:
        """The runner's name: the one set, or the host's."""
        return self.runner_name or socket.gethostname()


def _require(holds: bool, name: str, value: object, wanted: str) -> None:  # noqa: FBT001 - a private check
    if not holds:
        raise ConfigurationError(
            setting=name, problem=f"is {value!r}; it must be {wanted}", hint=f"set {PREFIX}{name.upper()} or Settings({name}=…)"
        )


def from_environment(base: Settings, environ: Mapping[str, str]) -> Settings:
    """Return ``base`` overridden by the ``ACTORS_…`` variables in ``environ``.

    Raises :class:`ConfigurationError` naming the variable whose value does not fit; a name
    that is nearly a setting's is warned of.
    """
    changes: dict[str, Any] = {}
    names = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in names:
            # Others begin so too (ACTORS_REDIS_URL): only what is nearly a setting's name is a slip.
            close = difflib.get_close_matches(variable, names, n=1, cutoff=0.85)
            if close:
                log.warning("%s is no setting and has no effect. Did you mean %s?", variable, close[0])
    for field in msgspec.structs.fields(Settings):
        text = environ.get(PREFIX + field.name.upper())
        if text is None:
            continue
        raw: object = [part.strip() for part in text.split(",") if part.strip()] if field.name == "shard_groups" else text
        try:
            changes[field.name] = msgspec.convert(raw, field.type, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                setting=PREFIX + field.name.upper(), problem=f"is {text!r}: {error}", hint="correct or unset the variable"
            ) from None
    return msgspec.structs.replace(base, **changes) if changes else base
