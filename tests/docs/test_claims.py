"""Numbers and names on the pages that a running system can be asked for."""

from __future__ import annotations

import re

import pytest

from actors._redis.connection import TcpServer
from actors.actor import Actor
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem
from tests.docs.pages import DOCS

pytestmark = pytest.mark.server

system = ActorSystem("claims", settings=Settings(shards=8, lease=1.0))

ASKS = 200


@system.actor
class Echo(Actor[None]):
    """Answers."""

    @message
    async def echo(self, text: str) -> str:
        """Return the text."""
        return text


async def test_the_connections_are_those_of_the_table(redis_url: str) -> None:
    """Each under the name the page gives it; what is opened at the first scrape is not there yet."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## What each connection is for")[2].partition("##")[0]
    named = " ".join(re.findall(r"^\| (`[^|]+`) \|", table, flags=re.MULTILINE))
    purposes = {name.replace("<n>", "0") for name in re.findall(r"`([^`]+)`", named)} - {"scrape"}

    async with system.runner(redis_url), system.connect(redis_url) as client:
        admin = TcpServer.from_url(redis_url).connect_sync("admin", timeout=5.0)
        names: list[str] = []
        while "lease" not in names:  # opened for the first renewal
            await client.get(Echo, "a").echo("b")
            names = re.findall(r" name=actors-(\S+)", admin.execute("CLIENT", "LIST").decode())
        admin.close()

    assert sorted(names) == sorted(purposes | {"admin"})
    assert "opens two connections, a runner eight and" in text
    assert len(names) == 2 + 8 + 1


async def test_an_ask_costs_four_commands(redis_url: str) -> None:
    """Its send, the read of it, its commit, and the read of the answer; a script is one."""
    async with system.runner(redis_url) as runner, system.connect(redis_url) as client:
        echo = client.get(Echo, "a")
        await echo.echo("b")
        admin = TcpServer.from_url(redis_url).connect_sync("admin", timeout=5.0)
        before = _calls(admin.execute("INFO", "commandstats").decode())
        for _ in range(ASKS):
            await echo.echo("b")
        after = _calls(admin.execute("INFO", "commandstats").decode())
        admin.close()
        assert runner.statistics().commits >= ASKS

    spent = {name: after[name] - before.get(name, 0) for name in ("evalsha", "xreadgroup", "xread")}
    assert spent["evalsha"] == pytest.approx(2 * ASKS, abs=10)
    assert spent["xreadgroup"] == pytest.approx(ASKS, abs=10)
    assert spent["xread"] == pytest.approx(ASKS, abs=10)


def _calls(info: str) -> dict[str, int]:
    return {name: int(calls) for name, calls in re.findall(r"^cmdstat_([\w|]+):calls=(\d+)", info, flags=re.MULTILINE)}
