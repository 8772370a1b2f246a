"""Members that do not fit, and servers that are not fit."""

from __future__ import annotations

import pytest

from actors._placement.facts import expected, misfit, missing, shard_counts
from actors._placement.server import Host, judge

OWN = expected(shards=256, groups=["default", "gpu"], slot_groups=1)


def test_the_first_runner_records_everything() -> None:
    assert misfit({}, OWN) is None
    assert missing({}, OWN) == OWN
    assert shard_counts(OWN) == {"default": 256, "gpu": 256}


def test_a_member_that_fits_has_nothing_to_record() -> None:
    assert misfit(OWN, OWN) is None
    assert missing(OWN, OWN) == {}


def test_a_member_of_a_new_group_adds_that_group() -> None:
    other = expected(shards=8, groups=["cpu"], slot_groups=1)

    assert misfit(OWN, other) is None
    assert missing(OWN, other) == {"shards:cpu": "8"}


@pytest.mark.parametrize(
    ("recorded", "setting", "words"),
    [
        ({"shards:gpu": "64"}, "shards", ["256", "64", "'gpu'", "reshard"]),
        ({"slot_groups": "4"}, "slot_groups", ["1", "4"]),
        ({"hash": "crc16/9"}, "hash", ["crc16/9", "xxh3_64/1"]),
        ({"layout": "2"}, "layout", ["1", "2"]),
        ({"wire": "2"}, "wire version", ["2", "1 to 1"]),
        ({"wire": "?"}, "wire version", ["?"]),
    ],
)
def test_a_misfit_names_the_setting_both_values_and_what_to_do(recorded: dict[str, str], setting: str, words: list[str]) -> None:
    error = misfit({**OWN, **recorded}, OWN)

    assert error is not None
    assert error.setting == setting
    assert all(word in str(error) for word in words), str(error)
    assert error.hint


def test_a_member_that_reads_the_recorded_wire_version_fits() -> None:
    assert misfit({**OWN, "wire": "1"}, expected(shards=256, groups=["default"], slot_groups=1, wire=2), wire=(1, 2)) is None


# the server

GOOD = Host(
    {"redis_version": "7.0.15", "aof_enabled": "1", "maxmemory_policy": "noeviction", "role": "master"},
    {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec", "save": ""},
    "master",
)


def like(good: Host = GOOD, *, info: dict[str, str] | None = None, config: dict[str, str] | None = None, role: str = "master") -> Host:
    return Host({**good.info, **(info or {})}, {**good.config, **(config or {})}, role)


def test_a_good_server_is_taken_without_a_word() -> None:
    assert judge(GOOD, "aof") == (None, ())


@pytest.mark.parametrize(
    ("host", "durability", "problem"),
    [
        (like(info={"redis_version": "6.0.20"}), "aof", "is Redis 6.0.20; it must be 6.2"),
        (like(info={"redis_version": "7.2.4", "valkey_version": "7.1.9"}), "aof", "is Valkey 7.1.9; it must be 7.2"),
        (like(role="slave"), "aof", "is a replica"),
        (like(role="sentinel"), "aof", "is a sentinel"),
        (like(config={"maxmemory-policy": "allkeys-lru"}), "memory", "maxmemory-policy allkeys-lru"),
        (like(config={"appendonly": "no"}), "aof-always", "appendonly no"),
        (like(), "aof-always", "appendfsync everysec"),
    ],
)
def test_a_server_that_would_lose_data_is_refused(host: Host, durability: str, problem: str) -> None:
    verdict = judge(host, durability)

    assert verdict.refusal is not None
    assert problem in str(verdict.refusal)
    assert verdict.refusal.hint


@pytest.mark.parametrize(
    ("host", "durability"),
    [
        (like(info={"redis_version": "6.2.0"}), "aof"),
        (like(info={"redis_version": "8.2.1"}), "aof"),
        (like(info={"redis_version": "7.2.4", "valkey_version": "9.1.2"}), "aof"),
        (like(config={"appendonly": "no"}), "memory"),
        (like(config={"appendfsync": "always"}), "aof-always"),
    ],
)
def test_a_server_that_keeps_its_level_is_taken(host: Host, durability: str) -> None:
    assert judge(host, durability) == (None, ())


@pytest.mark.parametrize(
    ("save", "words"),
    [("", "nothing at all"), ("3600 1", "snapshots only")],
)
def test_persistence_switched_off_is_told_loudly(save: str, words: str) -> None:
    verdict = judge(like(config={"appendonly": "no", "save": save}), "aof")

    assert verdict.refusal is None
    assert words in verdict.warnings[0]


def test_what_cannot_be_asked_is_told_and_taken_on_trust() -> None:
    verdict = judge(Host({}, {}, ""), "aof-always")

    assert verdict.refusal is None
    assert len(verdict.warnings) == 4


def test_info_answers_where_config_may_not_be_asked() -> None:
    """As with hosted servers."""
    assert judge(Host(GOOD.info, {}, "master"), "aof") == (None, ())
    assert judge(Host({**GOOD.info, "maxmemory_policy": "volatile-lru"}, {}, "master"), "aof").refusal is not None
    assert "appendfsync" in judge(Host(GOOD.info, {}, "master"), "aof-always").warnings[0]
