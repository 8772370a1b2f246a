"""A runner with more messages than it wants to hold."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from actors import Actor, ActorSystem, message
from actors._runner import host
from actors.testing import ActorCluster

system = ActorSystem("room")


class Count(msgspec.Struct):
    n: int = 0


@system.actor
class Relay(Actor[Count]):
    @message
    async def pass_on(self) -> int:
        self.state.n += await self.client.get(Source, self.key).draw()
        return self.state.n


@system.actor
class Source(Actor[None]):
    @message
    async def draw(self) -> int:
        await asyncio.sleep(0.01)
        return 1


async def test_turns_that_wait_on_asks_are_never_left_without_what_they_wait_for(
    actor_cluster: ActorCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full of messages whose turns wait for messages not read yet, a runner that stopped reading would stand still until the deadlines."""
    monkeypatch.setattr(host, "QUEUE_ROOM", 8)
    async with actor_cluster(system, runners=1) as cluster:
        began = cluster.time
        relays = [cluster.client.get(Relay, str(number % 10)) for number in range(200)]
        replies = await asyncio.gather(*[relay.pass_on() for relay in relays])

        assert sorted(replies) == sorted(count for count in range(1, 21) for _ in range(10))
        assert cluster.time - began < 5
