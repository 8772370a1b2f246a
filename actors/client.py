"""The client: tells and asks, owns no shards.

Concurrent sends share script calls (:mod:`actors._mailbox.sender`), replies come through
one inbox. What is sent through one client to one actor keeps its order. A caller that is
cancelled cancels its call and disturbs nobody else: no caller ever touches a connection.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Mapping
from random import Random
from typing import TYPE_CHECKING, Self

import msgspec

from actors._mailbox.calls import Call, Calls, budget_ms
from actors._mailbox.dead_letters import DeadLetters
from actors._mailbox.inbox import BLOCK, Inbox
from actors._mailbox.items import Items, Requested
from actors._mailbox.outgoing import digest_of, due_of, record_of, written
from actors._mailbox.sender import QUEUE_LIMIT, Item, Sender, Special
from actors._mailbox.tells import Group, Told
from actors._placement.facts import shard_counts
from actors._placement.shards import Shards
from actors._redis.channel import Channel
from actors._redis.connection import Server
from actors._redis.faults import NoPermission, RedisFault
from actors._redis.keys import Keys
from actors.actor import make_ref
from actors.backoff import Backoff
from actors.clock import Clock
from actors.errors import ClusterError, ConfigurationError, MailboxFull, PartialSend, PersistenceFailed, RunnerUnavailable
from actors.ids import IdSource, new_incarnation
from actors.message import NO_OPTIONS, A, Kind, Outgoing, Receipt, current
from actors.settings import Settings
from actors.telemetry.hooks import NO_SPAN, SendSpan, Telemetry
from actors.telemetry.meters import SendMeter
from actors.wire.envelope import Envelope, Extra, Link, Record, ReplyTo, encode
from actors.wire.envelope import Kind as EnvelopeKind
from actors.wire.reply import is_item

if TYPE_CHECKING:
    from actors.actor import ActorSpec
    from actors.message import MethodSpec

CONNECTION_TIMEOUT = 5.0
"""Seconds without an answer after which a connection is given up for a new one."""

STREAM_WINDOW = 64
"""Items of a streaming reply that may be on their way unconsumed."""

_FACTS_EVERY = 0.25
"""Seconds between two looks whether a first runner has recorded the number of shards."""

_FEW = 16
"""Calls under way below which the round trip of each is measured."""


class Client:
    """Sends messages to actors and waits for replies.

    ``system.connect()`` makes one for a program; ``self.client`` inside a handler is one
    bound to the turn.
    """

    def get(self, cls: type[A], key: str) -> A:
        """Return a ref to the actor of ``cls`` with this key. No I/O: an actor always exists.

        ``ConfigurationError`` if the class is not registered; ``TypeError`` or ``ValueError``
        for a key that cannot be one.
        """
        raise NotImplementedError

    def next_id(self) -> str:
        """Return a new id: unique, sorted by time."""
        raise NotImplementedError

    async def send(self, *outgoing: Outgoing) -> list[Receipt]:
        """Send messages, in one round trip where they fit; they are durable once this returns.

        Not atomic: if some are refused, raises :class:`~actors.errors.PartialSend`, whose
        ``results`` say of each what became of it. If all are, raises the first one's error.
        """
        raise NotImplementedError

    async def ask(self, call: Outgoing, /) -> bytes:
        """Return the reply's body; what calling a ref's message does before decoding it."""
        raise NotImplementedError

    async def tell(self, call: Outgoing, /) -> Receipt:
        """Store one message; what ``ref.m.tell(…)`` does."""
        raise NotImplementedError

    def stream(self, call: Outgoing, /) -> AsyncGenerator[bytes, None]:
        """Yield the bodies of a streaming reply; what iterating over a ref's message does before decoding."""
        raise NotImplementedError

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that were set aside: to list, show, replay and purge."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None


class ConnectedClient(Client):
    """A client of its own, with its connections. Use it as an async context manager."""

    def __init__(
        self,
        server: Server,
        keys: Keys,
        settings: Settings,
        specs: Mapping[str, ActorSpec],
        *,
        clock: Clock,
        random: Random,
        telemetry: Telemetry,
        name: str = "client",
    ) -> None:
        self.shards = Shards(specs)
        self.telemetry = telemetry
        self._tracing = telemetry.tracer.active
        self._server = server
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._random = random
        self._name = name
        self.ids = IdSource(clock, random)
        self._meters: dict[MethodSpec, SendMeter] = {}
        self._learning: asyncio.Task[None] | None = None
        self._opened = False
        self._closed = False
        self.sending: Channel
        self.receiving: Channel
        self.sender: Sender
        self.inbox: Inbox
        self.calls: Calls
        self.loop: asyncio.AbstractEventLoop

    # its life

    async def __aenter__(self) -> Self:
        """Connect. Raises :class:`~actors.errors.PersistenceFailed` if Redis cannot be reached now."""
        self.loop = asyncio.get_running_loop()
        self.sending = self._channel("send", CONNECTION_TIMEOUT)
        self.receiving = self._channel("inbox", BLOCK + CONNECTION_TIMEOUT)
        self.sender = Sender(
            self.sending,
            self._keys,
            random=self._random,
            clock=self._clock,
            shard_capacity=self._settings.shard_capacity,
            backlog_capacity=self._settings.backlog_capacity,
        )
        self.inbox = Inbox(self.receiving, self._keys, new_incarnation(self._random), clock=self._clock, backoff=self._backoff())
        self.calls = Calls(self.sender, self.inbox, self.sending, self._keys, self._clock)
        try:
            async with asyncio.timeout(3 * CONNECTION_TIMEOUT):
                await self.sending.open()
                await self.receiving.open()
                await self.inbox.open()
                if not self.shards.known:
                    await self._learn_once()
        except NoPermission as fault:
            await self._shut()
            raise ConfigurationError(
                setting="the Redis user", problem=f"lacks a right that every client needs: {fault}", hint="docs/operations.md lists them"
            ) from fault
        except (RedisFault, TimeoutError) as fault:
            await self._shut()
            raise PersistenceFailed(problem=str(fault) or "it went away while this client connected") from fault
        self._opened = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Wait briefly for what was sent to be stored, then close. Calls without a reply end as unknown."""
        if self._closed or not self._opened:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CONNECTION_TIMEOUT):
                await self.sender.flushed()
        except TimeoutError:
            pass
        self.calls.fail_all(PersistenceFailed(problem="the client was closed before the reply came"))
        await self._shut()

    async def _shut(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
        self.inbox.close()
        self.sender.close()
        await self.sending.close()
        await self.receiving.close()

    def _channel(self, purpose: str, timeout: float) -> Channel:
        return Channel(self._server, f"{self._name}-{purpose}", clock=self._clock, backoff=self._backoff(), timeout=timeout)

    def _backoff(self) -> Backoff:
        return Backoff(random=self._random, initial=0.02, maximum=1.0)

    # the public surface

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that were set aside: to list, show, replay and purge."""
        return DeadLetters(self.sending.until_up, self._keys)

    def get(self, cls: type[A], key: str) -> A:
        """See :meth:`Client.get`."""
        return make_ref(cls, key, self)

    def next_id(self) -> str:
        """See :meth:`Client.next_id`."""
        return self.ids.next()

    async def ask(self, call: Outgoing, /) -> bytes:
        """See :meth:`Client.ask`."""
        if not self.shards.known:
            await self._until_known(call, call.options.timeout or call.spec.timeout or self._settings.ask_timeout)
        under_way, span = self._begin(call)
        meter = self._meter(call)
        try:
            body = await under_way.future
        except asyncio.CancelledError:
            self.calls.cancel(under_way)
            meter.failed("cancelled")
            span.end()
            raise
        except ClusterError as error:
            meter.failed(error.reason.value)
            span.end(error)
            raise
        meter.sent += 1
        if len(self.inbox.waiting) < _FEW or not under_way.number & 7:
            # Alone, each call is timed; among many, one stands for eight.
            weight = 1 if len(self.inbox.waiting) < _FEW else 8
            meter.round_trip.observe(self.loop.time() - under_way.begun, weight)
        span.end()
        return body

    def _begin(self, call: Outgoing) -> tuple[Call, SendSpan]:
        self._check()
        address, options = call.address, call.options
        timeout = options.timeout or call.spec.timeout or self._settings.ask_timeout
        message_id = self.ids.next()
        headers, span = self._traced(call, message_id)
        record = Record(record_of(call), "") if options.idempotency_key is not None else None
        calls = self.calls
        under_way = Call(
            calls,
            calls.number(),
            self.shards.label(address.type, address.key),
            address.type,
            address.key,
            call.method,
            message_id,
            timeout,
        )
        under_way.record = record
        under_way.idempotency_key = options.idempotency_key or ""
        payload = written(
            call,
            message_id,
            self._settings,
            reply=ReplyTo(self.inbox.client, under_way.number),
            budget=budget_ms(timeout),
            extra=Extra(headers=headers, record=record) if headers is not None or record is not None else None,
        )
        special = None
        if record is not None:
            special = Special(
                record=record.suffix,
                digest=digest_of(call),
                waiter=f"{self.inbox.client} {under_way.number}",
                message_id=message_id,
            )
        calls.begin(under_way, payload, special)
        return under_way, span

    async def tell(self, call: Outgoing, /) -> Receipt:
        """See :meth:`Client.tell`."""
        (result,) = await self._store((call,))
        if isinstance(result, ClusterError):
            raise result
        return result

    async def send(self, *outgoing: Outgoing) -> list[Receipt]:
        """See :meth:`Client.send`."""
        if not outgoing:
            return []
        results = await self._store(outgoing)
        receipts: list[Receipt] = []
        errors: list[ClusterError] = []
        for result in results:
            if isinstance(result, ClusterError):
                errors.append(result)
            else:
                receipts.append(result)
        if not errors:
            return receipts
        if not receipts:
            raise errors[0]
        raise PartialSend(results=results)

    async def _store(self, outgoing: tuple[Outgoing, ...]) -> list[Receipt | ClusterError]:
        for call in outgoing:
            if not isinstance(call, Outgoing):  # pyright: ignore[reportUnnecessaryIsInstance] # not everybody checks types
                raise not_outgoing(call)
        timeout = max(call.options.timeout or self._settings.ask_timeout for call in outgoing)
        if not self.shards.known:
            await self._until_known(outgoing[0], timeout)
        group = Group(self.loop, len(outgoing))
        put = self.sender.put
        for index, call in enumerate(outgoing):
            try:
                item = self._item(call, group, index)
            except ClusterError as error:
                group.note(index, error)
                continue
            group.items.append(item)
            if not put(item):
                group.note(index, _no_room(call, self.sender))
        if group.left:
            timer = self.loop.call_later(timeout, group.expire, timeout, self.sending)
            try:
                await group.done
            finally:
                timer.cancel()
        results = group.finish()
        if group.special:
            for call, result in zip(outgoing, results, strict=True):
                if isinstance(result, Receipt):
                    self._meter(call).duplicates += result.duplicate
                else:
                    self._meter(call).failed(result.reason.value)
        return results

    def _item(self, call: Outgoing, group: Group, index: int) -> Told:
        if self._closed or not self._opened:
            self._check()
        address, options = call.address, call.options
        if call.spec.kind is Kind.STREAM:
            raise TypeError(f"{address.type}.{call.method} is a streaming reply and cannot be told: iterate over it")
        message_id = self.ids.next()
        extra: Extra | None = None
        special: Special | None = None
        headers = self._headers(call)
        if self._tracing:
            span = self.telemetry.tracer.send(address.type, address.key, call.method, message_id, ask=False)
            headers = {**(headers or {}), **span.headers}
            group.spans.append(span)
        if options is not NO_OPTIONS:
            record = Record(record_of(call), "") if options.idempotency_key is not None else None
            if record is not None or options.after is not None or options.at is not None:
                special = Special(
                    record=record.suffix if record is not None else None,
                    digest=digest_of(call) if record is not None else b"",
                    message_id=message_id,
                    due=due_of(call),
                )
            if headers is not None or record is not None:
                extra = Extra(headers=headers, record=record)
        elif headers is not None:
            extra = Extra(headers=headers)
        payload = written(call, message_id, self._settings, extra=extra)
        self._meter(call).sent += 1
        return Told(self.shards.label(address.type, address.key), payload, special, group, index, call, message_id)

    async def stream(self, call: Outgoing, /, *, chain: tuple[Link, ...] = ()) -> AsyncGenerator[bytes, None]:
        """See :meth:`Client.stream`. ``chain``: the turns that wait for it."""
        timeout = call.options.timeout or call.spec.timeout or self._settings.ask_timeout
        if not self.shards.known:
            await self._until_known(call, timeout)
        items = Items(self.loop)
        number = self.calls.number()
        address = call.address
        message_id = self.ids.next()
        label = self.shards.label(address.type, address.key)
        headers, span = self._traced(call, message_id)
        payload = written(
            call,
            message_id,
            self._settings,
            reply=ReplyTo(self.inbox.client, number),
            budget=budget_ms(timeout),
            extra=Extra(headers=headers, chain=chain) if headers is not None or chain else None,
        )
        if not self.sender.put(Requested(label, payload, items, call)):
            span.end()
            raise _no_room(call, self.sender)
        self.inbox.waiting[number] = items.put
        consumed = 0
        ended = False
        try:
            while True:
                body = await items.next(call, timeout)
                ended = not is_item(body)
                yield body
                if ended:
                    return
                consumed += 1
                if consumed % (STREAM_WINDOW // 2) == 0:
                    self._control(call, label, message_id, EnvelopeKind.CREDIT, STREAM_WINDOW // 2)
        finally:
            self.inbox.waiting.pop(number, None)
            span.end()
            if not ended and not self._closed:
                self._control(call, label, message_id, EnvelopeKind.CANCEL, 0)

    def _control(self, call: Outgoing, label: str, message_id: str, kind: EnvelopeKind, count: int) -> None:
        """Tell the owner of a streaming reply that it may send more, or that nobody reads it any more."""
        envelope = Envelope(
            1,
            call.address.type,
            call.address.key,
            call.method,
            msgspec.Raw(msgspec.msgpack.encode(count)),
            message_id,
            extra=Extra(kind=kind),
        )
        self.sender.put(Item(label, encode(envelope), Special(control=True)))

    # inside

    def _check(self) -> None:
        if not self._opened:
            raise RuntimeError("this client is not open: use it as `async with system.connect() as client`")
        if self._closed:
            raise RuntimeError("this client is closed")

    def _headers(self, call: Outgoing) -> dict[str, str] | None:
        headers = call.options.headers
        turn = current.get()
        if turn is not None:  # a client of its own, used inside a handler: the handler's headers travel on
            inherited = turn.context.headers
            if inherited:
                return {**inherited, **(headers or {})}
        return dict(headers) if headers else None

    def _traced(self, call: Outgoing, message_id: str) -> tuple[dict[str, str] | None, SendSpan]:
        headers = self._headers(call)
        if not self._tracing:
            return headers, NO_SPAN
        span = self.telemetry.tracer.send(call.address.type, call.address.key, call.method, message_id, ask=True)
        return {**(headers or {}), **span.headers}, span

    def _meter(self, call: Outgoing) -> SendMeter:
        meter = self._meters.get(call.spec)
        if meter is None:
            meter = self._meters[call.spec] = self.telemetry.sending(call.address.type, call.method)
        return meter

    # the system's facts

    async def _learn_once(self) -> bool:
        """Read how many shards there are; false while no runner has recorded it."""
        connection = await self.sending.until_up()
        try:
            flat = await connection.execute("HGETALL", self._keys.facts)
        except RedisFault:
            return False
        counts = shard_counts({name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)})
        if counts:
            self.shards.learn(counts)
        return bool(counts)

    async def _until_known(self, call: Outgoing, timeout: float) -> None:
        """Wait for the first runner, which decides how many shards there are."""
        self._check()
        if self._learning is None or self._learning.done():
            self._learning = self.loop.create_task(self._learn(), name="client facts")
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._learning)
        except TimeoutError:
            raise RunnerUnavailable(waited=timeout, actor_type=call.address.type, key=call.address.key, method=call.method) from None

    async def _learn(self) -> None:
        while not await self._learn_once():
            await self._clock.sleep(_FACTS_EVERY)


def _no_room(call: Outgoing, sender: Sender) -> MailboxFull:
    """Return the error for a message that cannot even be queued in this process."""
    return MailboxFull(scope="process", limit=QUEUE_LIMIT, depth=sender.queued, actor_type=call.address.type, key=call.address.key)


def not_outgoing(call: object) -> TypeError:
    """Return the error for something that cannot be sent, with the way to write it."""
    if inspect.iscoroutine(call):
        call.close()  # it would be reported as never awaited, far from here
        return TypeError("send() takes messages, not calls: write ref.method.message(…) in place of ref.method(…)")
    return TypeError(f"send() takes messages made by ref.method.message(…), not {type(call).__name__}")
