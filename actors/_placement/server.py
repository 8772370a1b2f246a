"""What a Redis must be before a runner works on it: judged from what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from actors.errors import ConfigurationError

OLDEST_REDIS = (6, 2)
OLDEST_VALKEY = (7, 2)


class Host(NamedTuple):
    """What a server answered. Empty where this user may not ask."""

    info: Mapping[str, str]
    """Of INFO."""
    config: Mapping[str, str]
    """Of CONFIG GET: ``maxmemory-policy``, ``appendonly``, ``appendfsync``, ``save``."""
    role: str
    """Of ROLE: ``master``, ``slave``, ``sentinel``."""


class Verdict(NamedTuple):
    """Whether to start."""

    refusal: ConfigurationError | None
    warnings: tuple[str, ...]


def judge(host: Host, durability: str) -> Verdict:
    """Return whether a runner may work on ``host`` at this level of durability, and what it must be told."""
    warnings: list[str] = []
    refusal = (
        _too_old(host, warnings) or _not_a_master(host, warnings) or _evicts(host, warnings) or _persistence(host, durability, warnings)
    )
    return Verdict(refusal, tuple(warnings))


def _too_old(host: Host, warnings: list[str]) -> ConfigurationError | None:
    valkey = host.info.get("valkey_version")
    name, text, oldest = ("Valkey", valkey, OLDEST_VALKEY) if valkey else ("Redis", host.info.get("redis_version", ""), OLDEST_REDIS)
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if not numbers:
        warnings.append("the server does not tell its version (INFO is not permitted)")
        return None
    if numbers >= oldest:
        return None
    wanted = ".".join(map(str, oldest))
    return ConfigurationError(
        setting="redis", problem=f"is {name} {text}; it must be {wanted} or newer", hint=f"Upgrade the server to {name} {wanted}"
    )


def _not_a_master(host: Host, warnings: list[str]) -> ConfigurationError | None:
    role = host.role or host.info.get("role", "")
    if not role:
        warnings.append("the server does not tell its role (ROLE and INFO are not permitted)")
    if role in {"", "master"}:
        return None
    what = "a replica" if role in {"slave", "replica"} else f"a {role}"
    return ConfigurationError(setting="redis", problem=f"is {what}, which takes no writes", hint="Give the URL of its master")


def _evicts(host: Host, warnings: list[str]) -> ConfigurationError | None:
    policy = host.config.get("maxmemory-policy") or host.info.get("maxmemory_policy")
    if policy is None:
        warnings.append("the server does not tell maxmemory-policy (CONFIG and INFO are not permitted); it must be noeviction")
    if policy in {None, "noeviction"}:
        return None
    return ConfigurationError(
        setting="redis",
        problem=f"has maxmemory-policy {policy}, so it would throw away messages and state when its memory is full",
        hint="Run CONFIG SET maxmemory-policy noeviction, or use another server for this system",
    )


def _persistence(host: Host, durability: str, warnings: list[str]) -> ConfigurationError | None:
    append = host.config.get("appendonly") or {"1": "yes", "0": "no"}.get(host.info.get("aof_enabled", ""))
    sync = host.config.get("appendfsync")
    if durability == "memory":
        return None
    if append is None:
        warnings.append(f"the server does not tell appendonly (CONFIG and INFO are not permitted), which durability {durability!r} needs")
        return None
    if append != "yes":
        if durability == "aof-always":
            return ConfigurationError(
                setting="durability",
                problem="is 'aof-always', but the server has appendonly no",
                hint="Run CONFIG SET appendonly yes and CONFIG SET appendfsync always, or choose another level",
            )
        saves = host.config.get("save")
        rest = "it saves snapshots only" if saves else "it saves nothing at all" if saves == "" else "it may save nothing at all"
        warnings.append(f"durability is {durability!r}, but the server has appendonly no: {rest}")
        return None
    if durability == "aof-always":
        if sync is None:
            warnings.append("the server does not tell appendfsync (CONFIG is not permitted); durability 'aof-always' needs always")
        elif sync != "always":
            return ConfigurationError(
                setting="durability",
                problem=f"is 'aof-always', but the server has appendfsync {sync}",
                hint="Run CONFIG SET appendfsync always, or choose durability 'aof'",
            )
    return None
