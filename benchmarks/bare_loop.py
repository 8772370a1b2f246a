"""The bare loop: the same durable work with nothing around it, as the yardstick.

Stateful turns of 1,000 actors over 64 streams. A batch of messages is sent by one script;
one consumer group reads; the handler runs inline; one script stores states and replies,
acknowledges and deletes; replies come back through a stream. No placement, no retries,
no deduplication, no deadlines: what this machine, redis-py and two scripts can do.

``python -m benchmarks.bare_loop redis://…`` measures it alone and prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

import msgspec
import redis.asyncio
import uvloop

from benchmarks.load import Figures, closed_loop

SHARDS = 64
ACTORS = 1_000
BATCH = 500
READ_COUNT = 32

PREFIX = "{bare}:"
MAILBOX = PREFIX + "m:"
STATE = PREFIX + "s:"
INBOX = PREFIX + "i:"
LEASE = PREFIX + "lease"
GROUP = "g"
EPOCH = "7"

# KEYS[1] prefix of the mailboxes; ARGV shard, envelope, shard, envelope …
SEND = """
for i = 1, #ARGV, 2 do redis.call('XADD', KEYS[1] .. ARGV[i], '*', 'd', ARGV[i + 1]) end
return #ARGV
"""

# KEYS[1] the lease; ARGV epoch | n, (state key, state) × n | n, (inbox, reply) × n | (mailbox, n, id × n) …
COMMIT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('FENCED') end
local at = 3
for _ = 1, tonumber(ARGV[2]) do
  redis.call('SET', ARGV[at], ARGV[at + 1])
  at = at + 2
end
local replies = tonumber(ARGV[at])
at = at + 1
for _ = 1, replies do
  redis.call('XADD', ARGV[at], 'MAXLEN', '~', '100000', '*', 'd', ARGV[at + 1])
  at = at + 2
end
while at <= #ARGV do
  local mailbox, n = ARGV[at], tonumber(ARGV[at + 1])
  local ids = {unpack(ARGV, at + 2, at + 1 + n)}
  redis.call('XACK', mailbox, 'g', unpack(ids))
  redis.call('XDEL', mailbox, unpack(ids))
  at = at + 2 + n
end
return 1
"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Account(msgspec.Struct, array_like=True):
    """The state of one actor."""

    balance: int = 0
    turns: int = 0


async def serve(url: str) -> None:
    """Run every actor of every stream, until cancelled. Prints ``ready`` once it reads."""
    reader: Any = redis.asyncio.from_url(url)  # its stubs know neither raw commands nor arguments of several types
    writer: Any = redis.asyncio.from_url(url)
    reader.response_callbacks.pop("XREADGROUP", None)  # they rebuild each entry in Python
    commit_sha = await writer.script_load(COMMIT)
    await writer.set(LEASE, EPOCH)
    for shard in range(SHARDS):
        await writer.xgroup_create(f"{MAILBOX}{shard}", GROUP, "0", mkstream=True)
    streams = [f"{MAILBOX}{shard}" for shard in range(SHARDS)] + [">"] * SHARDS
    actors: dict[str, Account] = {}
    in_flight: asyncio.Future[None] | None = None

    async def commit(touched: dict[str, Account], acks: dict[bytes, list[bytes]], replies: list[str | bytes]) -> None:
        arguments: list[str | bytes | int] = [EPOCH, len(touched)]
        for key, account in touched.items():
            arguments += (key, _encode(account))
        arguments.append(len(replies) // 2)
        arguments += replies
        for mailbox, ids in acks.items():
            arguments += (mailbox, len(ids), *ids)
        await writer.evalsha(commit_sha, 1, LEASE, *arguments)

    print("ready", flush=True)
    while True:
        answer = await reader.execute_command("XREADGROUP", "GROUP", GROUP, "c", "COUNT", READ_COUNT, "BLOCK", 1000, "STREAMS", *streams)
        if not answer:
            continue
        touched: dict[str, Account] = {}
        acks: dict[bytes, list[bytes]] = {}
        replies: list[str | bytes] = []
        for mailbox, entries in _pairs(answer):
            ids = acks[mailbox] = []
            for entry_id, fields in entries:
                key, _method, args, inbox, call = _decode(_envelope(fields))
                account = actors.get(key)
                if account is None:
                    account = actors[key] = Account()
                account.balance += args[0]
                account.turns += 1
                touched[STATE + key] = account
                ids.append(entry_id)
                if inbox:
                    replies += (inbox, _encode((call, account.balance)))
        if in_flight is not None:
            await in_flight
        in_flight = asyncio.ensure_future(commit(touched, acks, replies))


class Caller:
    """Sends to the loop: batches of tells, or any number of concurrent tells and asks that share script calls."""

    def __init__(self, url: str, inbox: str) -> None:
        self._sender: Any = redis.asyncio.from_url(url)
        self._receiver: Any = redis.asyncio.from_url(url)
        self._receiver.response_callbacks.pop("XREAD", None)
        self._inbox = INBOX + inbox
        self._sha = ""
        self._outgoing: list[str | bytes] = []
        self._unacknowledged: list[asyncio.Future[int]] = []
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._wake = asyncio.Event()
        self._calls = 0
        self._open = True

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Caller]:
        """Connect, and gather and deliver in the background until the block ends."""
        self._sha = await self._sender.script_load(SEND)
        tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._flush())]
        try:
            yield self
        finally:
            # The driver can lose a cancellation (asyncio.wait_for before 3.12), so they are asked to end as well.
            self._open = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._sender.aclose()
            await self._receiver.aclose()

    async def tell_all(self, keys: Sequence[int]) -> None:
        """Send one message to each of ``keys``, a batch at a time, and return when every mailbox is empty."""
        for start in range(0, len(keys), BATCH):
            arguments: list[str | bytes] = []
            for key in keys[start : start + BATCH]:
                arguments += (str(key % SHARDS), _encode((f"a{key}", "deposit", (1,), None, 0)))
            await self._sender.evalsha(self._sha, 1, MAILBOX, *arguments)
        while sum(await asyncio.gather(*[self._sender.xlen(f"{MAILBOX}{shard}") for shard in range(SHARDS)])):  # noqa: ASYNC110 - only Redis knows
            await asyncio.sleep(0.01)

    async def tell(self, key: int) -> None:
        """Return once the message is in its mailbox."""
        stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._unacknowledged.append(stored)
        self._outgoing += (str(key % SHARDS), _encode((f"a{key}", "deposit", (1,), None, 0)))
        self._wake.set()
        await stored

    async def ask(self, key: int) -> int:
        """Return the reply."""
        self._calls += 1
        call = self._calls
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[call] = reply
        self._outgoing += (str(key % SHARDS), _encode((f"a{key}", "deposit", (1,), self._inbox, call)))
        self._wake.set()
        return await reply

    async def _flush(self) -> None:
        while self._open:
            await self._wake.wait()
            self._wake.clear()
            while self._outgoing:
                batch, self._outgoing = self._outgoing, []
                stored, self._unacknowledged = self._unacknowledged, []
                await self._sender.evalsha(self._sha, 1, MAILBOX, *batch)
                for future in stored:
                    future.set_result(1)

    async def _receive(self) -> None:
        last: str | bytes = "0"
        while self._open:
            answer = await self._receiver.execute_command("XREAD", "COUNT", 1000, "BLOCK", 1000, "STREAMS", self._inbox, last)
            for _stream, entries in _pairs(answer or []):
                last = entries[-1][0]
                for _entry_id, fields in entries:
                    call, value = _decode(_envelope(fields))
                    reply = self._waiting.pop(call, None)
                    if reply is not None and not reply.done():
                        reply.set_result(value)


async def tell_rate(caller: Caller, messages: int, *, actors: int = ACTORS) -> float:
    """Messages handled per second, sent in batches of 500, from the first send to the last commit."""
    keys = [number % actors for number in range(messages)]
    began = time.perf_counter()
    await caller.tell_all(keys)
    return messages / (time.perf_counter() - began)


async def ask_figures(caller: Caller, asks: int, callers: int, *, actors: int = ACTORS) -> Figures:
    """The rate and latency of ``asks`` asks made by ``callers`` callers that each wait for their reply."""
    return await closed_loop(lambda number: caller.ask(number * 7919 % actors), asks, callers)


async def clear(url: str) -> None:
    """Remove everything the loop keeps in Redis."""
    client = redis.asyncio.from_url(url)
    async for key in client.scan_iter(match=PREFIX + "*", count=1000):
        await client.unlink(key)
    await client.aclose()


async def measure(url: str) -> dict[str, Any]:
    """Measure the loop alone: a runner process of its own, this process as its callers."""
    await clear(url)
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare_loop", "runner", url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert runner.stdout is not None
        assert await runner.stdout.readline() == b"ready\n"
        async with Caller(url, "alone").open() as caller:
            results: dict[str, Any] = {"tell": await tell_rate(caller, 100_000)}
            for callers, asks in ((1, 2_000), (16, 15_000), (64, 30_000), (256, 40_000)):
                results[f"ask{callers}"] = msgspec.structs.asdict(await ask_figures(caller, asks, callers))
        return results
    finally:
        runner.kill()
        await runner.wait()


def _pairs(answer: Any) -> Iterable[tuple[Any, Any]]:
    """The (stream, entries) pairs of a read, as a server of either protocol version gives them."""
    return answer.items() if isinstance(answer, dict) else answer


def _envelope(fields: Any) -> bytes:
    data: bytes = fields[b"d"] if isinstance(fields, dict) else fields[1]
    return data


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["runner", url]:
            uvloop.run(serve(url))
        case [url]:
            print(json.dumps(uvloop.run(measure(url))))
        case _:
            sys.exit("usage: python -m benchmarks.bare_loop [runner] redis://…")


if __name__ == "__main__":
    main(sys.argv[1:])
