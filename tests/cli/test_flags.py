"""Flags: every setting has one, and it wins."""

from __future__ import annotations

import dataclasses

import msgspec

from actors.cli.flags import SettingFlags, documented
from actors.settings import Settings, from_environment


def test_every_setting_is_a_flag_and_explained() -> None:
    """A setting added to the struct and forgotten here could be set by a variable only."""
    settings = {field.name for field in msgspec.structs.fields(Settings)}

    assert {field.name for field in dataclasses.fields(SettingFlags)} == settings
    assert set(documented()) == settings
    assert all(len(text) > 10 for text in documented().values())


def test_a_flag_wins_over_a_variable_over_the_system_over_the_default() -> None:
    environ = {"ACTORS_LEASE": "7", "ACTORS_SHARDS": "32"}

    SettingFlags(lease=3.0, shard_groups="default,gpu").apply(environ)
    settings = from_environment(Settings(shards=64, weight=2), environ)

    assert (settings.lease, settings.shards, settings.weight, settings.max_attempts) == (3.0, 32, 2, 5)
    assert settings.shard_groups == ("default", "gpu")
