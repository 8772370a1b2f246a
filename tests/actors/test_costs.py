"""What things cost: commands that our connections send, bytes that Redis keeps, objects that a runner keeps.

A script counts as one command, whatever it does inside: what is counted is what clients
send. On the server it is counted by MONITOR, which shows these and can tell them from the
scripts' own; here, by the connections themselves.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest

from actors._mailbox.commit import Effects
from actors._redis.connection import SyncConnection, TcpServer
from actors._runner.activation import Activation, Message
from actors._runner.runner import Runner
from actors.actor import Actor
from actors.client import ConnectedClient
from actors.message import message
from actors.settings import Settings
from actors.system import ActorSystem
from actors.testing.faults import Call

if TYPE_CHECKING:
    from actors.testing import ActorCluster

system = ActorSystem("costs")


class Count(msgspec.Struct):
    value: int = 0


@system.actor(idle_timeout=2.0)
class Counter(Actor[Count]):
    @message
    async def add(self, amount: int) -> int:
        self.state.value += amount
        return self.state.value

    @message(read_only=True)
    async def value(self) -> int:
        return self.state.value

    @message
    async def relay(self, key: str, amount: int) -> int:
        return await self.client.get(Counter, key).add(amount)


class Place(NamedTuple):
    """A runner and a client on a real server, at rest."""

    runner: Runner
    client: ConnectedClient
    server: SyncConnection

    def counter(self, key: str) -> Counter:
        return self.client.get(Counter, key)

    def info(self, section: str, field: str) -> int:
        text: bytes = self.server.execute("INFO", section)
        lines = dict(line.split(":", 1) for line in text.decode().split("\r\n") if ":" in line)
        return int(lines[field])

    def commands(self) -> int:
        client = self.client
        return self.runner.statistics().redis_commands + client.sending.commands_sent + client.receiving.commands_sent


@asynccontextmanager
async def place(url: str) -> AsyncGenerator[Place, None]:
    client = system.connect(url)
    async with system.runner(url, name="runner", settings=Settings()) as runner, client:
        assert isinstance(client, ConnectedClient)
        server = TcpServer.from_url(url).connect_sync("test", timeout=5.0)
        here = Place(runner, client, server)
        # Everything there is to be made once is made: scripts, readers' counts, the inbox.
        await asyncio.gather(*[here.counter(str(n)).add(1) for n in range(256)])
        for _ in range(3):
            await here.counter("0").add(1)
        yield here
        server.close()


@contextmanager
def monitored(url: str) -> Generator[list[str], None, None]:
    """Collect the commands that clients send meanwhile, by name."""
    host, port = url.removeprefix("redis://").split("/")[0].split(":")
    names: list[str] = []
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"MONITOR\r\n")
        assert connection.recv(5) == b"+OK\r\n"
        yield names
        connection.sendall(b"QUIT\r\n")
        text = b""
        while data := connection.recv(1 << 20):
            text += data
    for line in text.decode(errors="replace").split("\r\n"):
        if line.startswith("+") and '"' in line and " lua]" not in line:
            names.append(line.split('"')[1].upper())


@pytest.mark.server
async def test_one_ask_is_at_most_five_commands_from_end_to_end(redis_url: str) -> None:
    """Its send, its commit, and the two reads that begin anew because of it."""
    async with place(redis_url) as here:
        before = here.commands()
        with monitored(redis_url) as names:
            for _ in range(50):
                await here.counter("0").add(1)
        sent = here.commands() - before

        assert sent <= 50 * 5
        # The others are the renewal's and the placement's, which go on all the time.
        assert len([name for name in names if name in {"EVALSHA", "XREADGROUP", "XREAD"}]) <= 50 * 5


@pytest.mark.server
async def test_an_ask_made_in_a_turn_costs_no_more_than_another_ask(redis_url: str) -> None:
    """The record that lets a re-run join it is written by the same scripts."""
    async with place(redis_url) as here:
        before = here.commands()
        for _ in range(50):
            await here.counter("1").relay("0", 1)

        assert here.commands() - before <= 50 * 10


@pytest.mark.server
async def test_a_message_of_a_full_batch_costs_a_fraction_of_a_command(redis_url: str) -> None:
    """Sends, reads and commits are shared by all that are under way."""
    async with place(redis_url) as here:
        count = 20_000
        before = here.commands()
        for _ in range(count // 1000):
            await here.client.send(*[here.counter(str(n % 200)).add.message(1) for n in range(1000)])
        await asyncio.gather(*[here.counter(str(n)).value() for n in range(200)])  # in order: all before has run

        assert here.commands() - before < count * 0.2


@pytest.mark.server
async def test_asks_that_are_under_way_together_share_their_commands(redis_url: str) -> None:
    """As many callers as there are."""
    async with place(redis_url) as here:
        before = here.commands()
        await asyncio.gather(*[here.counter(str(n)).add(1) for n in range(1000)])

        assert here.commands() - before < 1000 * 0.5


@pytest.mark.server
async def test_bytes_on_the_wire_for_one_message_are_bounded(redis_url: str) -> None:
    """Both ways, with everything that goes with it; alone, and in a full batch."""
    async with place(redis_url) as here:
        came, went = here.info("stats", "total_net_input_bytes"), here.info("stats", "total_net_output_bytes")
        for _ in range(50):
            await here.counter("0").add(1)
        alone_in = (here.info("stats", "total_net_input_bytes") - came) / 50
        alone_out = (here.info("stats", "total_net_output_bytes") - went) / 50
        came, went = here.info("stats", "total_net_input_bytes"), here.info("stats", "total_net_output_bytes")
        for _ in range(5):
            await here.client.send(*[here.counter(str(n % 200)).add.message(1) for n in range(1000)])
        await asyncio.gather(*[here.counter(str(n)).value() for n in range(200)])
        batched_in = (here.info("stats", "total_net_input_bytes") - came) / 5200
        batched_out = (here.info("stats", "total_net_output_bytes") - went) / 5200

        # A blocking read of 64 streams names them all each time: 2.3 KB, shared by all that it brings.
        assert alone_in < 5_000
        assert alone_out < 1_500
        assert batched_in < 400
        assert batched_out < 300


@pytest.mark.server
async def test_a_waiting_message_costs_little_more_than_its_bytes(redis_url: str) -> None:
    """In the stream of its shard, where nobody reads it yet."""
    async with place(redis_url):
        pass
    async with system.connect(redis_url) as client:
        server = TcpServer.from_url(redis_url).connect_sync("test", timeout=5.0)
        before = _memory(server, b"{costs:0}:m:*")
        await client.send(*[client.get(Counter, "0").add.message(1) for _ in range(5000)])

        assert (_memory(server, b"{costs:0}:m:*") - before) / 5000 < 150
        server.close()


@pytest.mark.server
async def test_an_idle_actor_costs_less_than_300_bytes_beside_its_state(redis_url: str) -> None:
    """One key, and nothing in streams, hashes or anywhere else."""
    async with place(redis_url) as here:
        before = set(here.server.execute("KEYS", "*"))
        streams = _memory(here.server, b"{costs:0}:m:*")
        await asyncio.gather(*[here.counter(f"idle {n}").add(1) for n in range(2000)])
        after = set(here.server.execute("KEYS", "*"))
        made = after - before

        assert len(made) == 2000
        size = sum(here.server.execute("MEMORY", "USAGE", key) - here.server.execute("STRLEN", key) for key in made)
        assert size / 2000 < 300
        assert _memory(here.server, b"{costs:0}:m:*") - streams < 2000 * 10


def _memory(server: SyncConnection, pattern: bytes) -> int:
    return sum(server.execute("MEMORY", "USAGE", key, "SAMPLES", 0) for key in server.execute("KEYS", pattern))


# in virtual time


async def test_an_idle_runner_with_256_shards_sends_less_than_20_commands_a_second(actor_cluster: ActorCluster) -> None:
    """All its connections together: reads that block, the lease, the clock, the placement's looks."""
    counts: dict[str, int] = {}

    def count(call: Call) -> None:
        counts[call.owner] = counts.get(call.owner, 0) + 1

    # 255: of the default number the kit makes 16.
    async with actor_cluster(system, runners=["one"], settings=Settings(shards=255)) as cluster:
        await asyncio.gather(*[cluster.client.get(Counter, str(n)).add(1) for n in range(500)])
        await cluster.advance(30.0)
        cluster.faults.decide = count
        await cluster.advance(60.0)

        assert counts["one"] < 60 * 20
        assert counts["client"] < 60 * 2


async def test_an_idle_cluster_costs_each_runner_no_more_than_it_costs_one_alone(actor_cluster: ActorCluster) -> None:
    """What one has to say to the others does not grow with their number."""
    counts: dict[str, int] = {}

    def count(call: Call) -> None:
        counts[call.owner] = counts.get(call.owner, 0) + 1

    async with actor_cluster(system, runners=6, settings=Settings(shards=60)) as cluster:
        await cluster.advance(30.0)
        cluster.faults.decide = count
        await cluster.advance(60.0)

        assert max(counts[name] for name in cluster.runners) < 60 * 20


async def test_nothing_of_a_deactivated_actor_stays_in_its_runner(actor_cluster: ActorCluster) -> None:
    """Neither it, nor its messages, nor what its turns left."""
    others = _of_turns()  # of other tests' clusters, some of which were killed
    async with actor_cluster(system) as cluster:
        for _ in range(3):
            await asyncio.gather(*[cluster.client.get(Counter, str(n % 200)).add(1) for n in range(1000)])
            await cluster.client.send(*[cluster.client.get(Counter, str(n % 200)).add.message(1) for n in range(1000)])
        await cluster.settled()
        await cluster.advance(60.0)

        known = {id(each) for each in others}
        assert [type(each).__name__ for each in _of_turns() if id(each) not in known] == []
        assert all(cluster.runner(name).statistics().resident == 0 for name in cluster.runners)


def _of_turns() -> list[object]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, Activation | Message | Effects)]


async def test_redis_holds_after_thousands_of_messages_what_it_held_after_ten(actor_cluster: ActorCluster) -> None:
    """Entries, records, backlogs and answers go with what they were for."""
    async with actor_cluster(system) as cluster:

        async def rounds(count: int) -> tuple[set[bytes], int]:
            for _ in range(count):
                await asyncio.gather(*[cluster.client.get(Counter, str(n % 10)).add(1) for n in range(100)])
                await cluster.client.send(*[cluster.client.get(Counter, str(n % 10)).add.message(1) for n in range(300)])
                await cluster.client.get(Counter, "0").relay("1", 1)
                await cluster.settled()
            await cluster.advance(5.0)
            keys = set(cluster.execute("KEYS", "*"))
            entries = sum(cluster.execute("XLEN", key) for key in keys if cluster.execute("TYPE", key) == b"stream")
            return keys, entries

        keys, entries = await rounds(1)
        again, more = await rounds(10)

        assert again == keys
        assert more <= entries + 64  # the inbox is trimmed now and then
