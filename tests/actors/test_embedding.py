"""A system in a program: how it is made, what it connects to, and a runner inside one's own process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec
import pytest
import uvloop

from actors.actor import Actor
from actors.errors import ConfigurationError, PersistenceFailed
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem

if TYPE_CHECKING:
    from actors._redis.embedded import EmbeddedServer


class Count(msgspec.Struct):
    value: int = 0


class Counting(Actor[Count]):
    @message
    async def add(self, amount: int) -> int:
        self.state.value += amount
        return self.state.value

    @message
    async def limited(self, seconds: float) -> str:
        try:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(seconds)
        except TimeoutError:
            return "too slow"
        return "in time"

    @message
    def in_thread(self, amount: int) -> int:
        return self.wait(self.client.get(Counting, "other").add(amount))

    @message
    async def stream(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number


def made(**options: str) -> ActorSystem:
    system = ActorSystem("embedded", **options)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    system.actor(Counting)
    return system


@pytest.fixture
def _no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTORS_REDIS_URL", raising=False)


async def _everything(url: str) -> None:
    """Use a bit of everything, with a runner in this process."""
    system = made()
    async with system.runner(url, name="here") as runner, system.connect(url) as client:
        counting = client.get(Counting, "a")
        assert await counting.add(1) == 1
        assert await asyncio.gather(*[client.get(Counting, str(n)).limited(n % 2) for n in range(10)]) == ["in time", "too slow"] * 5
        assert await counting.in_thread(3) == 3
        assert [number async for number in counting.stream(150)] == list(range(150))
        calling = asyncio.create_task(counting.limited(60.0))
        await asyncio.sleep(0)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        assert await counting.add(1) == 2
        assert await runner.client.get(Counting, "a").add(1) == 3
        assert runner.name == "here"
        assert runner.statistics().shards == 256


# made without doing anything


def test_making_a_system_reads_and_connects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import of the application must not need a server, nor look at the environment."""
    monkeypatch.setenv("ACTORS_REDIS_URL", "redis://nowhere.invalid:1")
    monkeypatch.setenv("ACTORS_LEASE", "not a number")
    system = made()

    assert list(system.actors) == ["Counting"]


@pytest.mark.parametrize("name", ["", "with space", "-first", "a" * 65, "brace{"])
def test_a_name_that_cannot_be_a_prefix_is_refused(name: str) -> None:
    """Every key in Redis begins with it."""
    with pytest.raises(ConfigurationError, match="system name"):
        ActorSystem(name)


def test_two_classes_of_one_name_are_refused() -> None:
    """A message names its actor's type."""
    system = made()

    with pytest.raises(ConfigurationError, match="registered twice"):

        @system.actor(name="Counting")
        class Other(Actor[None]):
            pass


# where Redis is


@pytest.mark.usefixtures("_no_url")
async def test_without_a_url_anywhere_connecting_says_how_to_give_one() -> None:
    """The variable, and the argument."""
    with pytest.raises(ConfigurationError, match="ACTORS_REDIS_URL"):
        made().connect()
    with pytest.raises(ConfigurationError, match="ACTORS_REDIS_URL"):
        made().runner()


@pytest.mark.server
@pytest.mark.parametrize("how", ["argument", "system", "environment"])
async def test_the_url_comes_from_the_call_the_system_or_the_environment(redis_url: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order; the later ones are not even looked at."""
    wrong = "redis://nowhere.invalid:1"
    monkeypatch.setenv("ACTORS_REDIS_URL", redis_url if how == "environment" else wrong)
    system = made() if how == "environment" else made(redis=redis_url if how == "system" else wrong)
    given = redis_url if how == "argument" else None
    async with system.runner(given, name="r"), system.connect(given) as client:
        assert await client.get(Counting, "a").add(1) == 1


@pytest.mark.server
async def test_settings_come_from_the_environment_before_the_systems(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those given to the runner go before both."""
    monkeypatch.setenv("ACTORS_SHARDS", "8")
    system = ActorSystem("embedded", redis=redis_url, settings=Settings(shards=4, runner_name="named"))
    system.actor(Counting)
    async with system.runner() as runner:
        assert runner.statistics().shards == 8
        assert runner.name == "named"
    with pytest.raises(ConfigurationError, match="shards"):
        async with system.runner(settings=Settings(shards=2), name="other"):
            pass


async def test_a_server_that_is_not_there_is_told_at_once() -> None:
    """To clients and runners, without a password in the text."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"redis://user:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PersistenceFailed) as failed:
            async with made().connect(url):
                pass
        assert "secret" not in str(failed.value)
        with pytest.raises(PersistenceFailed) as failed:
            async with made().runner(url, name="r"):
                pass
        assert "secret" not in str(failed.value)


@pytest.mark.server
async def test_a_runner_without_actor_types_is_refused(redis_url: str) -> None:
    """It would take shards and park everything."""
    with pytest.raises(ConfigurationError, match="has no actor types"):
        async with ActorSystem("empty").runner(redis_url, name="r"):
            pass


# a client's life


@pytest.mark.server
async def test_a_client_is_used_inside_its_block(redis_url: str) -> None:
    """Before and after it says so, instead of waiting."""
    system = made()
    client = system.connect(redis_url)
    counting = client.get(Counting, "a")
    with pytest.raises(Exception, match="not open"):
        await counting.add.tell(1)
    async with system.runner(redis_url, name="r"):
        async with client:
            assert await counting.add(1) == 1
        for asked in (counting.add(1), counting.add.tell(1), client.send(counting.add.message(1))):
            with pytest.raises(RuntimeError, match="closed"):
                await asked


@pytest.mark.server
async def test_a_call_under_way_when_its_client_closes_ends_as_unknown(redis_url: str) -> None:
    """Nobody will hear its reply."""
    system = made()
    async with system.connect(redis_url) as client:
        async with system.runner(redis_url, name="r"):
            await client.get(Counting, "a").add(1)
        calling = asyncio.create_task(client.get(Counting, "a").add(1))
        telling = asyncio.create_task(client.get(Counting, "a").add.tell(1))
        await telling
    with pytest.raises(PersistenceFailed) as failed:
        await calling

    assert failed.value.outcome == "unknown"


# a runner in one's own process


@pytest.mark.server
async def test_a_runner_serves_inside_any_program(redis_url: str) -> None:
    """On asyncio's own loop."""
    await _everything(redis_url)


@pytest.mark.server
def test_the_same_on_uvloop(redis_url: str) -> None:
    """Turns are stepped by hooks that asyncio has for other loops' tasks."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=True) as runner:
        runner.run(_everything(redis_url))


@pytest.mark.server
async def test_two_runners_in_one_process_are_strangers(redis_url: str) -> None:
    """Nothing is global: they share the shards and each runs its own."""
    system = made()
    async with system.runner(redis_url, name="one") as one, system.connect(redis_url) as client:
        async with system.runner(redis_url, name="two"):
            await asyncio.gather(*[client.get(Counting, str(n)).add(1) for n in range(200)])
        assert await asyncio.gather(*[client.get(Counting, str(n)).add(1) for n in range(200)]) == [2] * 200
        assert one.statistics().shards == 256


@pytest.mark.server
async def test_a_runner_that_ends_gives_everything_back(own_server: EmbeddedServer) -> None:
    """Its member, its lease and its groups; what is left in Redis is states and records with an end."""
    system = made()
    async with system.runner(own_server.url, name="r"), system.connect(own_server.url) as client:
        await asyncio.gather(*[client.get(Counting, str(n)).add(1) for n in range(100)])
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert tasks == []
    async with system.runner(own_server.url, name="r") as again:
        assert again.statistics().shards == 256
