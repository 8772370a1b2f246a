"""Slips that everybody makes once are answered with the way to do it."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from actors import Actor, ActorSystem, Settings, message
from actors.settings import from_environment
from actors.testing import ActorCluster

system = ActorSystem("mistakes")


@system.actor
class Stock(Actor[None]):
    @message
    async def fill(self, amount: int) -> None: ...


async def test_calls_that_are_sent_are_refused_with_the_way_to_write_it(actor_cluster: ActorCluster) -> None:
    """They would be coroutines that nobody awaits."""
    async with actor_cluster(system) as cluster:
        stock = cluster.client.get(Stock, "a")
        with pytest.raises(TypeError, match=r"ref\.method\.message"):
            await cluster.client.send(cast(Any, stock.fill(1)))
        with pytest.raises(TypeError, match="not Stock"):
            await cluster.client.send(cast(Any, stock))


def test_a_variable_that_is_nearly_a_settings_name_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """It would have no effect, and nobody would notice."""
    with caplog.at_level(logging.WARNING):
        settings = from_environment(Settings(), {"ACTORS_LEESE": "3", "ACTORS_REDIS_URL": "redis://here", "ACTORS_SHARDS": "8"})

    assert settings == Settings(shards=8)
    assert [record.getMessage() for record in caplog.records] == [
        "ACTORS_LEESE is no setting and has no effect. Did you mean ACTORS_LEASE?"
    ]
