"""The rights that docs/operations.md names are enough for all a runner and a client do, and none of them is idle.

Denials are taken from the server's own ACL LOG, use from its command statistics, which
count what scripts call too.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors._redis.connection import TcpServer
from actors._redis.embedded import EmbeddedServer, bundled_server
from actors.actor import Actor
from actors.cli.main import call
from actors.client import Client
from actors.errors import AskTimeout, ConfigurationError, PersistenceFailed, RemoteError, RunnerUnavailable, UnknownActorType
from actors.message import message
from actors.settings import Settings
from actors.supervision import Retry
from actors.system import ActorSystem
from tests.docs.pages import DOCS, SCRIPTS, Block, Page

pytestmark = [pytest.mark.server, pytest.mark.slow]

SETTINGS = Settings(shards=8, lease=2.0, mailbox_capacity=2, dead_letter_capacity=2, parked_ttl=0.5, crash_limit=1)
ONLY_ASKED = {"client|setname", "info", "role", "config|get", "ping"}
"""What a runner does without; a probe that gets no answer to its PING says so."""

USERS = ("runner", "client", "operator")
SERVERS = sorted({server for server in (bundled_server(), shutil.which("redis-server")) if server is not None})

system = ActorSystem("bank", settings=SETTINGS)
newer = ActorSystem("bank", settings=SETTINGS)


class Number(msgspec.Struct):
    """A number."""

    value: int = 0


@system.actor(retry=Retry(max_attempts=2, initial=0.05))
@newer.actor(retry=Retry(max_attempts=2, initial=0.05))
class Everything(Actor[Number]):
    """Does what an actor can do."""

    @message
    async def add(self, amount: int) -> int:
        """Change the state."""
        self.state.value += amount
        return self.state.value

    @message
    async def send_on(self, to: str) -> int:
        """Tell now and later, under a key and without, and ask."""
        other = self.client.get(Everything, to)
        await other.add.tell(1)
        await other.add.options(after=0.05).tell(1)
        await other.add.options(idempotency_key="k").tell(1)
        await other.add.options(idempotency_key="l", after=0.05).tell(1)
        return await other.add(1)

    @message
    async def fail(self) -> None:
        """A defect."""
        raise RuntimeError(self.key)

    @message
    async def slow(self, seconds: float) -> None:
        """Take a while."""
        await asyncio.sleep(seconds)

    @message
    async def empty(self) -> None:
        """Delete the state."""
        self.clear()

    @message
    async def numbers(self) -> AsyncIterator[int]:
        """A streaming reply."""
        for number in range(200):
            yield number


@system.actor(state_ttl=60)
@newer.actor(state_ttl=60)
class Passing(Actor[Number]):
    """Its state expires."""

    @message
    async def add(self, amount: int) -> int:
        """Change the state."""
        self.state.value += amount
        return self.state.value


@newer.actor
class Later(Actor[Number]):
    """Known to the newer release only."""

    @message
    async def add(self, amount: int) -> int:
        """Change the state."""
        self.state.value += amount
        return self.state.value


def rules(user: str) -> str:
    """Return the rules that the page gives a user, as ACL SETUSER takes them."""
    return " ".join(_block(user).text.split())


def _block(user: str) -> Block:
    (block,) = [block for block in Page(DOCS / "operations.md").blocks if block.language == "acl" and block.name == user]
    return block


class Admin:
    """The server's own view."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._connection = TcpServer.from_url(server.url).connect_sync("admin", timeout=5.0)

    def do(self, *command: str) -> Any:
        """Run a command as the default user."""
        return self._connection.execute(*command)

    def denied(self) -> list[str]:
        """Return who was denied what."""
        entries = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in self.do("ACL", "LOG")]
        return [b" ".join(entry[name] for name in (b"username", b"reason", b"object")).decode() for entry in entries]

    def used(self) -> set[str]:
        """Return the commands that were called, from scripts too."""
        return set(re.findall(r"^cmdstat_([\w|]+):", self.do("INFO", "commandstats").decode(), flags=re.MULTILINE))

    def close(self) -> None:
        """Close."""
        self._connection.close()


@contextmanager
def administered(server: EmbeddedServer) -> Generator[Admin]:
    """Ask the server itself."""
    admin = Admin(server)
    try:
        yield admin
    finally:
        admin.close()


@pytest.fixture(params=SERVERS, ids=lambda path: "valkey" if "valkey" in path else "redis")
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """A server with the page's users."""
    with EmbeddedServer(executable=request.param, persistent=False) as server, administered(server) as admin:
        for user in USERS:
            admin.do("ACL", "SETUSER", user, "reset", "on", ">secret", *rules(user).split())
        admin.do("CONFIG", "RESETSTAT")
        yield server


async def test_the_rights_are_enough_and_none_is_idle(server: EmbeddedServer) -> None:
    """Everything that a runner, a client and an operator do is done under them."""
    with administered(server) as admin:
        await play(*(url(server, user) for user in USERS))
        denied, used = admin.denied(), admin.used()

    assert denied == []
    named = {word[1:] for user in ("runner", "client") for word in rules(user).split() if word.startswith("+")}
    assert named - used == set()


def test_every_command_of_the_scripts_is_among_the_runners_rights_and_tried_at_its_start() -> None:
    """Also those of branches that are not played here."""
    called = {path.stem: _called(path) for path in SCRIPTS.glob("*.lua")}
    theirs = {name for script, names in called.items() if not script.startswith(("reshard_", "forget")) for name in names}

    granted = {word[1:].partition("|")[0] for word in rules("runner").split() if word.startswith("+")}
    assert theirs - granted == set()
    assert theirs == called["rights"]


def _called(script: Path) -> set[str]:
    return {name.lower() for name in re.findall(r"(?:redis\.call|try)\('(\w+)'", script.read_text(encoding="utf-8"))}


async def test_a_runner_that_lacks_any_right_refuses_to_start_and_names_it(server: EmbeddedServer) -> None:
    """A denial in the middle of a commit would leave half of it."""
    needed = {word[1:] for word in rules("runner").split() if word.startswith("+")} - ONLY_ASKED
    told: dict[str, str] = {}
    with administered(server) as admin:
        for name in sorted(needed):
            admin.do("ACL", "SETUSER", "runner", f"-{name}")
            with pytest.raises((ConfigurationError, PersistenceFailed)) as refused:
                async with system.runner(url(server, "runner")):
                    pass
            told[name] = str(refused.value)
            admin.do("ACL", "SETUSER", "runner", "reset", "on", ">secret", *rules("runner").split())

    words = "does not let this user run what a runner needs", "permission"
    assert {name: text for name, text in told.items() if not any(word in text for word in words)} == {}
    assert "(zadd)" in told["zadd"]


async def test_what_a_runner_only_asks_may_be_forbidden(server: EmbeddedServer) -> None:
    """It then says what it could not check, and works."""
    with administered(server) as admin:
        admin.do("ACL", "SETUSER", "runner", "-client", "-info", "-role", "-config")

    async with system.runner(url(server, "runner")) as runner, system.connect(url(server, "client")) as client:
        assert await client.get(Everything, "one").add(1) == 1
        assert runner.statistics().shards == SETTINGS.shards


def url(server: EmbeddedServer, user: str) -> str:
    """Return the URL for a user."""
    return server.url.replace("redis://", f"redis://{user}:secret@")


async def play(as_runner: str, as_client: str, as_operator: str) -> None:
    """Do all of it once."""
    async with newer.connect(as_client) as client:
        with pytest.raises(RunnerUnavailable):
            await client.get(Everything, "a").add.options(timeout=0.3)(1)
        async with system.runner(as_runner, name="one") as first:
            await talk(client)
            await share(client, as_runner)
            await look(as_operator)
            await first.ping()
            with pytest.raises(UnknownActorType):
                await client.get(Later, "parked").add.options(timeout=0.3)(1)
            await client.get(Later, "parked").add.tell(1)
            await client.send(*[client.get(Everything, key).slow.message(1.0) for key in ("x", "y")])
            await asyncio.sleep(0.1)
            first.abandon()
        await take_over(client, as_runner)
        with pytest.raises(RunnerUnavailable):
            await client.get(Everything, "a").add.options(timeout=0.3)(1)
    await operate(as_operator, "reshard", "16", "--yes")


async def operate(as_operator: str, *words: str) -> None:
    """Run one command of actor-runner."""
    command, *rest = words
    assert await asyncio.to_thread(call, [command, *rest, "--system", "bank", "--redis", as_operator]) == 0


async def look(as_operator: str) -> None:
    """What an operator looks at and does."""
    await operate(as_operator, "runners")
    await operate(as_operator, "shards")
    await operate(as_operator, "shards", "show", "default.1")
    await operate(as_operator, "actors", "list")
    await operate(as_operator, "actors", "show", "Everything", "one")
    await operate(as_operator, "actors", "delete", "Everything", "one", "--yes")
    async with system.connect(as_operator) as client:
        letters = [letter async for letter in client.dead_letters.list()]
        assert len(letters) == await client.dead_letters.count() == SETTINGS.dead_letter_capacity
        assert await client.dead_letters.dropped() == 1
        assert await client.dead_letters.show(letters[0].id) is not None
        assert await client.dead_letters.replay(letters[:1]) == 1
        assert await client.dead_letters.purge(letters[1:]) == 1


async def talk(client: Client) -> None:
    """What a client sends, and what turns make of it."""
    one, two = client.get(Everything, "one"), client.get(Everything, "two")
    assert await one.add(1) == 1
    await one.add.options(idempotency_key="k").tell(1)
    await one.add.options(idempotency_key="k").tell(1)
    await one.add.options(idempotency_key="m", after=0.05).tell(1)
    await client.send(*[one.add.message(1) for _ in range(10)])
    await client.send(*[two.slow.message(0.01) for _ in range(10)])  # past mailbox_capacity: a backlog
    await one.send_on("two")
    await client.get(Passing, "p").add(1)
    assert [number async for number in one.numbers()] == list(range(200))
    async for _ in one.numbers():
        break
    for _ in range(150):  # an entry of the inbox each: it is trimmed now and then
        await one.add(0)
    with pytest.raises(AskTimeout):
        await two.slow.options(timeout=0.2)(5.0)
    cancelled = asyncio.ensure_future(two.slow.options(idempotency_key="c")(5.0))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    for key in ("f1", "f2", "f3"):  # past dead_letter_capacity
        with pytest.raises(RemoteError):
            await client.get(Everything, key).fail()
    await one.empty()


async def share(client: Client, as_runner: str) -> None:
    """Another runner comes, takes its share and goes."""
    async with system.runner(as_runner, name="two") as second:
        while second.statistics().shards < SETTINGS.shards // 2:  # noqa: ASYNC110 - as seen from outside
            await asyncio.sleep(0.02)
        await asyncio.gather(*[client.get(Everything, str(n)).add(1) for n in range(20)])


async def take_over(client: Client, as_runner: str) -> None:
    """Runners that find a dead one's messages: marked, run, set aside; and what was parked, known now or too old."""
    async with system.runner(as_runner, name="one") as third:  # which first finds its name taken
        await client.get(Everything, "z").add.options(timeout=10)(1)
        await asyncio.sleep(0.3)
        third.abandon()
    await client.get(Later, "known").add.tell(1)
    async with newer.runner(as_runner, name="four"):
        await client.get(Everything, "z").add.options(timeout=10)(1)
        assert await client.get(Later, "known").add(1) == 2
