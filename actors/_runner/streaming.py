"""Streaming replies: an async generator that runs beside the turns of its actor.

A streaming reply changes nothing and is not a turn. Its request leaves the mailbox for
the shard's ``streams`` hash and is never run again: a handoff, or the next owner after a
crash, ends it with a typed error. Items leave after the commits that they could have
seen, by a fenced script, as many as the reader has room for: it grants credit as it
consumes. A reader that has gone (closed, cancelled, its inbox expired) ends the
generator.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import msgspec

from actors._mailbox.commit import Effects, operate
from actors._redis import scripts
from actors._redis.faults import RedisFault
from actors._runner.activation import Activation, Message
from actors._runner.turn import Turn
from actors.client import STREAM_WINDOW
from actors.context import current
from actors.errors import AskTimeout, ClusterError, PayloadTooLarge, StreamInterrupted
from actors.settings import BATCH_BYTES
from actors.wire.reply import encode_end, encode_error, encode_item

if TYPE_CHECKING:
    from actors._runner.shard import OwnedShard
    from actors._runner.world import World
    from actors.wire.envelope import Envelope

_BATCH = 100
_DIGITS = 20
_STALLED = 60.0
"""Seconds a reader may take to make room before its stream is given up."""

_LAST_ITEMS = 2.0
"""Seconds that the items of a stream which has ended may take to leave."""


class Streams:
    """All streaming replies of this runner."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._script = scripts.load("stream_item")
        self._running: dict[str, _Stream] = {}

    @property
    def running(self) -> int:
        """Streams under way."""
        return len(self._running)

    def start(self, activation: Activation, message: Message) -> None:
        """Begin a streaming reply."""
        envelope = message.envelope
        world = self._world
        effects = Effects(message.entry, activation)
        if activation.shard.draining:
            # Started beside asks that a draining shard still runs: it would hold the drain up, and be interrupted.
            error = StreamInterrupted(
                why="its shard moves to another runner", actor_type=envelope.type, key=envelope.key, method=envelope.method
            )
            world.failures.fail(activation, message, error)
            return
        if envelope.reply is None:
            world.settlement.bury(
                effects,
                activation.shard,
                message.raw,
                reason="malformed",
                error="a streaming reply was told, so that nobody would get it",
                entry=message.entry,
                attempts=0,
            )
            world.settlement.take_away(activation, message, effects)
            return
        operate(
            effects,
            "G",
            (world.keys.streams(activation.shard.label),),
            message.entry,
            f"{envelope.reply.inbox} {envelope.reply.call}",
        )
        world.settlement.take_away(activation, message, effects)
        stream = _Stream(world, self._script, activation, message)
        activation.streams += 1
        self._running[envelope.id] = stream
        stream.task = world.loop.create_task(self._run(stream), name=f"stream {activation.address}.{envelope.method}")

    def credit(self, shard: OwnedShard, envelope: Envelope) -> None:
        """A reader has made room."""
        stream = self._running.get(envelope.id)
        if stream is not None and stream.activation.shard is shard:
            with contextlib.suppress(msgspec.MsgspecError):
                stream.grant(msgspec.msgpack.decode(envelope.args, type=int))

    def cancel(self, shard: OwnedShard, message_id: str) -> bool:
        """The reader has gone; true if there was such a stream."""
        stream = self._running.get(message_id)
        if stream is None or stream.activation.shard is not shard:
            return False
        stream.abandoned = True
        stream.stop()
        return True

    def interrupt(self, shard: OwnedShard, why: str, *, silently: bool) -> None:
        """End all streams of a shard: it moves (their readers are told), or is lost (nothing more is said)."""
        for stream in list(self._running.values()):
            if stream.activation.shard is shard:
                stream.interrupted = why
                stream.abandoned = stream.abandoned or silently
                stream.stop()

    def orphans(self, shard: OwnedShard, streams: dict[bytes, bytes]) -> None:
        """End what a former owner left behind."""
        for entry, value in streams.items():
            inbox, _, call = value.decode(errors="replace").partition(" ")
            effects = Effects(None)
            operate(effects, "g", (self._world.keys.streams(shard.label),), entry)
            effects.inbox = self._world.keys.inbox(inbox)
            effects.call = int(call) if call.isdecimal() and len(call) < _DIGITS else 0
            effects.answer = encode_error(StreamInterrupted(why="the runner that sent it has gone"))
            self._world.committer.add(shard, effects)
        self._world.committer.flush()

    async def _run(self, stream: _Stream) -> None:
        activation = stream.activation
        world = self._world
        last = encode_end()
        try:
            await stream.produce()
        except asyncio.CancelledError:
            last = encode_error(StreamInterrupted(why=stream.interrupted, **stream.where))
        except Exception as error:  # noqa: BLE001 - the generator's own: its reader is told
            last = encode_error(error)
            if not isinstance(error, ClusterError):
                world.engine.meter(stream.message.method, stream.message.envelope).failed("stream")
        finally:
            self._running.pop(stream.message.envelope.id, None)
        try:
            if not stream.abandoned:
                await stream.flushed()
        finally:
            activation.streams -= 1
            shard = activation.shard
            if shard.alive:
                # The last word leaves with the commit that forgets the stream: once, and behind the items that were sent.
                effects = Effects(None)
                operate(effects, "g", (world.keys.streams(shard.label),), stream.message.entry)
                reply = stream.message.envelope.reply
                if not stream.abandoned and reply is not None:
                    effects.inbox, effects.call, effects.answer = world.keys.inbox(reply.inbox), reply.call, last
                world.committer.add(shard, effects)
                activation.touched = world.engine.ticks
                world.engine.pump(activation)
                world.engine.settle_drain(shard)


class _Stream:
    """One streaming reply."""

    def __init__(self, world: World, script: scripts.Script, activation: Activation, message: Message) -> None:
        self._world = world
        self._script = script
        self.activation = activation
        self.message = message
        self.task: asyncio.Task[None] | None = None
        self.abandoned = False
        self.interrupted = "its shard moves to another runner"
        self._room = STREAM_WINDOW
        self._more = asyncio.Event()
        self._buffer: list[bytes] = []
        self._sending = False
        self._sent = asyncio.Event()
        self._sent.set()
        self._failed: BaseException | None = None

    @property
    def where(self) -> dict[str, Any]:
        """The evidence for errors."""
        envelope = self.message.envelope
        return {"actor_type": envelope.type, "key": envelope.key, "method": envelope.method}

    def grant(self, count: int) -> None:
        """Send this many more."""
        self._room += count
        self._more.set()

    def stop(self) -> None:
        """End the generator."""
        if self.task is not None:
            self.task.cancel()

    async def produce(self) -> None:
        """Run the generator to its end, each item within its deadline."""
        turn = Turn(self.activation, self.message)
        turn.reentrant = turn.streaming = True  # it reads, and changes nothing
        budget = self.message.envelope.budget_ms / 1000 or self._world.settings.ask_timeout
        context = copy_context()
        context.run(current.set, turn)
        method = self.message.method
        generator = context.run(method.start, self.activation.actor, self.message.envelope.args)
        loop = self._world.loop
        try:
            while True:
                step = loop.create_task(_next(generator), context=context)
                try:
                    async with asyncio.timeout(budget):
                        item = await step
                except TimeoutError:
                    raise AskTimeout(timeout=budget, stage="running", seconds=budget, **self.where) from None
                if item is _EXHAUSTED:
                    break
                body = encode_item(method.encode_reply(item))
                limit = self._world.settings.max_payload
                if len(body) > limit:
                    raise PayloadTooLarge(what="item", size=len(body), limit=limit, **self.where)
                await self._send(body)
        finally:
            with contextlib.suppress(Exception):
                await loop.create_task(generator.aclose(), context=context)
        await self._drained()

    async def flushed(self) -> None:
        """Wait a little for the items that are on their way. After one whose fate is unknown none is sent: its reader would miss it."""
        if self._failed is None:
            with contextlib.suppress(TimeoutError, StreamInterrupted):
                async with asyncio.timeout(_LAST_ITEMS):
                    await self._drained()

    async def _send(self, body: bytes) -> None:
        while self._room <= 0 and self._failed is None:
            self._more.clear()
            try:
                async with asyncio.timeout(_STALLED):
                    await self._more.wait()
            except TimeoutError:
                raise StreamInterrupted(why=f"its reader took nothing for {_STALLED:g} s", **self.where) from None
        self._room -= 1
        if self.activation.uncommitted:
            # An item may show a state whose commit is under way: it leaves when that is real.
            acknowledged = self._world.loop.create_future()
            self.activation.asks_waiting.append(acknowledged)
            await acknowledged
        if self._failed is not None:
            raise self._failed
        self._buffer.append(body)
        self._flush()

    async def _drained(self) -> None:
        while self._buffer or self._sending:
            await self._sent.wait()
            if self._failed is not None:
                raise self._failed
            self._flush()

    def _flush(self) -> None:
        connection = self._world.state.connection
        if self._sending or not self._buffer:
            return
        if connection is None or not self._world.lease.trusted():
            self._failed = StreamInterrupted(why="Redis could not be reached", **self.where)
            return
        self._sending = True
        self._sent.clear()
        count = size = 0
        while count < len(self._buffer) and count < _BATCH and size < BATCH_BYTES:
            size += len(self._buffer[count])
            count += 1
        batch, self._buffer = self._buffer[:count], self._buffer[count:]
        reply = self.message.envelope.reply
        assert reply is not None
        shard = self.activation.shard
        args: list[Any] = [shard.label, shard.holder]
        for body in batch:
            args += (reply.call, body)
        scripts.submit(
            connection,
            self._script,
            [self._world.keys.own, self._world.keys.inbox(reply.inbox)],
            args,
            functools.partial(self._on_sent),
        )

    def _on_sent(self, reply: Any) -> None:
        self._sending = False
        if reply == 1:
            self._flush()
        elif reply == -1:
            self.abandoned = True
            self.stop()
        elif isinstance(reply, RedisFault):
            # Perhaps sent, perhaps not: going on could double items or skip some.
            self._failed = StreamInterrupted(why=f"Redis did not answer: {reply}", **self.where)
            self._more.set()
        else:
            self.abandoned = True
            self._world.lose(self.activation.shard, "fenced")
        if not self._sending:
            self._sent.set()


_EXHAUSTED = object()


async def _next(generator: Any) -> Any:
    try:
        return await generator.__anext__()
    except StopAsyncIteration:
        return _EXHAUSTED
