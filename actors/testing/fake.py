"""A Redis in this process, in virtual time, that goes wrong on demand.

:mod:`actors.testing.engine` keeps the data and runs the scripts. Here stands what a real
server and its network have besides:

* **connections** with an order of requests and replies, time-outs and losses: the same
  :class:`~actors._redis.connection.Pipeline` as on a real one, with the same faults;
* **blocking reads**, parked without a thread and tried again when one of their keys is
  touched, until their BLOCK has passed. A destroyed group answers NOGROUP at once, as
  current servers do;
* **faults** (:attr:`FakeServer.faults`): a client is cut off, paused or killed, and named
  faults befall chosen commands.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Never, cast

from actors._redis import scripts
from actors._redis.connection import Argument, Command, Connection, OnReply, Pipeline, SyncConnection
from actors._redis.faults import Disconnected, RedisFault, Refused, TimedOut
from actors.clock import Clock, SystemClock
from actors.testing.clock import VirtualLoop
from actors.testing.engine import Engine, Socket
from actors.testing.faults import (
    Call,
    Delays,
    Disconnects,
    DropsReply,
    DropsRequest,
    ExecutesLate,
    Fails,
    Faults,
    copy_of,
)

_EARLY = 1e-6
"""Seconds by which a loop may wake a timer too early: a reply that was passed over then would never be delivered."""


class FakeServer:
    """An in-process Redis. A :class:`~actors._redis.connection.Server` of the owner ``""``.

    ``clock``: what its time follows. ``None``: the virtual loop it is first used in, else the machine's.
    """

    virtual = True

    def __init__(self, clock: Clock | None = None) -> None:
        self.connections: list[_Connection] = []
        self.faults = Faults(self.connections)
        self.skew = 0.0
        """Seconds its wall clock is ahead; change it to step the clock."""
        self.running = True
        self._clock = clock
        self._lock = threading.RLock()  # a sync connection may be used from a thread
        self._engine = Engine(self.time)
        self._own = self._engine.socket()
        self._parked: list[_Parked] = []
        self._touched: set[bytes] = set()
        self._retrying = False

    @property
    def url(self) -> str:
        """Its name in messages."""
        return "fake://"

    @property
    def config(self) -> dict[str, str]:
        """What CONFIG GET answers."""
        return self._engine.config

    @property
    def info(self) -> dict[str, str]:
        """What INFO answers."""
        return self._engine.info

    async def connect(self, purpose: str, *, timeout: float, on_lost: Callable[[RedisFault], None] | None = None) -> Connection:
        """See :meth:`actors._redis.connection.Server.connect`."""
        return await self.for_owner("").connect(purpose, timeout=timeout, on_lost=on_lost)

    def connect_sync(self, purpose: str, *, timeout: float) -> SyncConnection:
        """See :meth:`actors._redis.connection.Server.connect_sync`. It never waits: what would time out does so at once."""
        return self.for_owner("").connect_sync(purpose, timeout=timeout)

    def for_owner(self, owner: str) -> OwnedServer:
        """Return this server as one client sees it, so that faults can be aimed at that client."""
        return OwnedServer(self, owner)

    def execute(self, *command: Argument) -> Any:
        """Run a command past all connections and faults, and return its reply; raises what the server refuses."""
        reply = self.run(encode(command), self._own)
        if isinstance(reply, RedisFault):
            raise reply
        return reply

    def stop(self) -> None:
        """Go down: connections are lost, new ones refused. The data stays."""
        self.running = False
        self.faults.disconnect()

    def start(self) -> None:
        """Come up again, with the data and without the scripts, as a server that reads back its log does."""
        self.running = True
        self._engine.forget_scripts()

    def snapshot(self) -> object:
        """Return a copy of all data, for :meth:`restore`."""
        return self._engine.snapshot()

    def restore(self, snapshot: object) -> None:
        """Go back to ``snapshot``: what a failover to a replica that lagged behind looks like from outside."""
        with self._lock:
            self._engine.restore(cast(dict[bytes, Any], snapshot))
            self._wake()

    def time(self) -> float:
        """The server's wall clock."""
        if self._clock is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return time.time() + self.skew
            self._clock = loop.clock if isinstance(loop, VirtualLoop) else SystemClock()
        return self._clock.time() + self.skew

    def blocked(self, owner: str | None = None, purpose: str | None = None) -> int:
        """Return how many reads block just now, on connections of that owner and purpose (None: any)."""
        connections = [parked.connection for parked in self._parked]
        return sum(owner in {None, c.owner} and purpose in {None, c.purpose} for c in connections)

    # what connections use

    def run(self, fields: list[bytes], socket: Socket) -> Any:
        """Run one command, without blocking, and return its reply or fault."""
        with self._lock:
            reply = self._engine.run(fields, socket)
            if self._engine.touched:
                self._wake()
        return reply

    def socket(self) -> Socket:
        """Return the server's end of a new connection."""
        return self._engine.socket()

    def last_id(self, key: bytes) -> bytes:
        """Return the last id that a stream has given out."""
        return self._engine.last_id(key)

    def park(self, parked: _Parked) -> None:
        """Keep a read that found nothing until one of its keys is touched or its time is over."""
        self._parked.append(parked)

    def unpark(self, parked: _Parked) -> bool:
        """Take a parked read back; False when it was answered already."""
        if parked in self._parked:
            self._parked.remove(parked)
            return True
        return False

    def _wake(self) -> None:
        touched = self._engine.touched
        if any(not touched.isdisjoint(parked.keys) for parked in self._parked):
            self._touched |= touched
            if not self._retrying:
                self._retrying = True
                self._parked[0].connection.loop.call_soon_threadsafe(self._retry)
        touched.clear()

    def _retry(self) -> None:
        self._retrying = False
        touched, self._touched = self._touched, set()
        for parked in list(self._parked):
            if touched.isdisjoint(parked.keys) or parked not in self._parked:
                continue
            reply = self.run(parked.fields, parked.connection.socket)
            if reply is not None:
                self._parked.remove(parked)
                parked.answer(reply)


class OwnedServer:
    """A :class:`FakeServer` as one client sees it. A :class:`~actors._redis.connection.Server`."""

    virtual = True

    def __init__(self, server: FakeServer, owner: str) -> None:
        self.server = server
        self.owner = owner

    @property
    def url(self) -> str:
        """Its name in messages."""
        return f"fake://{self.owner}"

    async def connect(self, purpose: str, *, timeout: float, on_lost: Callable[[RedisFault], None] | None = None) -> Connection:
        """See :meth:`actors._redis.connection.Server.connect`."""
        faults = self.server.faults
        await asyncio.sleep(0)
        while faults.is_paused(self.owner):
            await faults.until_resumed()
        if faults.is_cut(self.owner, purpose):
            await asyncio.sleep(timeout)
            raise Refused(f"Redis at {self.url} did not answer within {timeout:g} s.")
        match faults.action(Call(self.owner, purpose, "CONNECT", "", ())):
            case None:
                pass
            case Fails(fault):
                raise copy_of(fault)
            case Delays(request, reply):
                await asyncio.sleep(request + reply)
            case Disconnects():
                raise Refused(f"Redis at {self.url} closed the connection at once.")
            case DropsRequest() | DropsReply() | ExecutesLate():
                await asyncio.sleep(timeout)
                raise Refused(f"Redis at {self.url} did not answer within {timeout:g} s.")
        if faults.is_dead(self.owner) or not self.server.running:
            raise Refused(f"Nothing listens at {self.url}: connection refused. Is Redis running there?")
        return _Connection(self, purpose, timeout, on_lost)

    def connect_sync(self, purpose: str, *, timeout: float) -> SyncConnection:
        """See :meth:`FakeServer.connect_sync`."""
        faults = self.server.faults
        if faults.is_dead(self.owner) or not self.server.running or faults.is_cut(self.owner, purpose) or faults.is_paused(self.owner):
            raise Refused(f"Redis at {self.url} cannot be reached.")
        return _SyncConnection(self, purpose, timeout)


@dataclass(eq=False, slots=True)
class _Parked:
    """A blocking read that found nothing yet."""

    connection: _Connection
    fields: list[bytes]
    keys: frozenset[bytes]
    answer: Callable[[Any], None]
    timer: asyncio.TimerHandle | None = None


class _Connection(Pipeline):
    """A :class:`~actors._redis.connection.Connection` to a fake."""

    def __init__(self, to: OwnedServer, purpose: str, timeout: float, on_lost: Callable[[RedisFault], None] | None) -> None:
        self.loop = asyncio.get_running_loop()
        super().__init__(self.loop, timeout, on_lost, where=to.url)
        self.owner = to.owner
        self.purpose = purpose
        self.socket = to.server.socket()
        self._server = to.server
        self._faults = to.server.faults
        self._requests: deque[list[bytes]] = deque()
        self._replies: deque[tuple[float, Any]] = deque()
        self._held_up = False  # a request ahead is delayed or blocks
        self._deaf = False  # requests do not arrive any more
        self._mute = False  # replies do not return any more
        self._parked: _Parked | None = None
        self._server.connections.append(self)

    def submit(self, command: Command, on_reply: OnReply) -> None:
        """See :meth:`actors._redis.connection.Connection.submit`. Where nothing is in the way the command has run when this returns."""
        if self.closed:
            self.refuse(on_reply)
            return
        fields = encode(command)
        self.expect(on_reply)
        self._requests.append(fields)
        self._pump()

    def go_on(self) -> None:
        """See :meth:`actors.testing.faults.Wire.go_on`."""
        self._pump()
        self.loop.call_soon(self._deliver, context=self._context)

    def arrive_late(self, fields: list[bytes]) -> None:
        """See :meth:`actors.testing.faults.Wire.arrive_late`."""
        self._server.run(_unblocking(fields)[0], self.socket)

    def unblock(self, fault: RedisFault) -> None:
        """See :meth:`actors.testing.faults.Wire.unblock`."""
        if self._parked is not None and self._server.unpark(self._parked):
            self._unpark(0.0, fault)

    # the way there

    def _pump(self) -> None:
        while self._requests and not self._held_up and not self._faults.is_paused(self.owner):
            self._transmit(self._requests.popleft())

    def _transmit(self, fields: list[bytes]) -> None:
        if self._faults.is_cut(self.owner, self.purpose):
            self._deaf = self._mute = True
            self._faults.hold(self, fields)
            return
        if self._deaf:
            return
        match None if self._faults.none else self._faults.action(_call(self, fields)):
            case None:
                self._arrive(fields)
            case Fails(fault):
                self._send_back(copy_of(fault))
            case DropsRequest():
                self._deaf = True
            case DropsReply():
                self._mute = True
                self._arrive(fields)
            case Disconnects(applied):
                if applied:
                    self._server.run(_unblocking(fields)[0], self.socket)
                self.end(Disconnected, "reset by peer")
            case Delays(request, reply):
                self._later(request, fields, reply)
            case ExecutesLate(seconds):
                self._mute = True
                self._later(seconds, fields, 0.0)

    def _later(self, seconds: float, fields: list[bytes], reply_delay: float) -> None:
        if seconds <= 0:
            self._arrive(fields, reply_delay)
        else:
            self._held_up = True
            self.loop.call_later(seconds, self._arrive_and_go_on, fields, reply_delay, context=_NOBODYS)

    def _arrive_and_go_on(self, fields: list[bytes], reply_delay: float) -> None:
        self._held_up = False
        self._arrive(fields, reply_delay)
        self._pump()

    def _arrive(self, fields: list[bytes], reply_delay: float = 0.0) -> None:
        if fields[0] not in _BLOCKING:
            self._send_back(self._server.run(fields, self.socket), reply_delay)
            return
        fields, block, keys = _unblocking(fields, self._server)
        reply = self._server.run(fields, self.socket)
        if reply is not None or block is None or self.closed:
            self._send_back(reply, reply_delay)
            return
        self._held_up = True
        parked = _Parked(self, fields, keys, functools.partial(self._unpark, reply_delay))
        self._parked = parked
        self._server.park(parked)
        if block > 0:
            parked.timer = self.loop.call_later(block, self._block_over, parked, context=_NOBODYS)

    def _block_over(self, parked: _Parked) -> None:
        if self._server.unpark(parked):
            parked.answer(None)

    def _unpark(self, reply_delay: float, reply: Any) -> None:
        parked, self._parked = self._parked, None
        if parked is not None and parked.timer is not None:
            parked.timer.cancel()
        self._held_up = False
        self._send_back(reply, reply_delay)
        self._pump()

    # the way back

    def _send_back(self, reply: Any, delay: float = 0.0) -> None:
        if self._mute or self.closed:
            return
        now = self.loop.time()
        ready = now + delay
        if self._replies:
            ready = max(ready, self._replies[-1][0])
        self._replies.append((ready, reply))
        if ready > now:
            self.loop.call_at(ready, self._deliver, context=self._context)
        else:
            self.loop.call_soon(self._deliver, context=self._context)

    def _deliver(self) -> None:
        if self._faults.is_cut(self.owner, self.purpose):
            self._mute = True
            self._replies.clear()
        if self._faults.is_paused(self.owner):
            return
        now = self.loop.time() + _EARLY
        while self._replies and self._replies[0][0] <= now and not self.closed:
            self.answer(self._replies.popleft()[1])

    def _check_oldest(self) -> None:
        if self._faults.is_paused(self.owner):
            self._timer = self.loop.call_later(self._timeout, self._check_oldest, context=self._context)
        else:
            super()._check_oldest()

    def _hang_up(self) -> None:
        self._server.connections.remove(self)
        self._replies.clear()
        if self._parked is not None and not self._faults.is_cut(self.owner, self.purpose):
            # The server hears of it and forgets the read. Cut off, it does not, and may still take entries for it.
            self._server.unpark(self._parked)
            if self._parked.timer is not None:
                self._parked.timer.cancel()
            self._parked = None


class _SyncConnection:
    """A :class:`~actors._redis.connection.SyncConnection` to a fake."""

    def __init__(self, to: OwnedServer, purpose: str, timeout: float) -> None:
        self.closed = False
        self.owner = to.owner
        self.purpose = purpose
        self._to = to
        self._timeout = timeout
        self._socket = to.server.socket()

    def execute(self, *command: Argument) -> Any:
        """See :meth:`actors._redis.connection.SyncConnection.execute`."""
        server, faults = self._to.server, self._to.server.faults
        if self.closed:
            raise Refused(f"The connection to Redis at {self._to.url} is closed.")
        if faults.is_dead(self.owner) or not server.running:
            self._lose(Disconnected, "reset by peer")
        fields = encode(command)
        if faults.is_cut(self.owner, self.purpose) or faults.is_paused(self.owner):
            self._lose(TimedOut, f"no answer within {self._timeout:g} s")
        match faults.action(_call(self, fields)):
            case Fails(fault):
                raise copy_of(fault)
            case DropsRequest():
                self._lose(TimedOut, f"no answer within {self._timeout:g} s")
            case DropsReply() | ExecutesLate():
                server.run(fields, self._socket)
                self._lose(TimedOut, f"no answer within {self._timeout:g} s")
            case Disconnects(applied):
                if applied:
                    server.run(fields, self._socket)
                self._lose(Disconnected, "reset by peer")
            case None | Delays():
                pass
        reply = server.run(fields, self._socket)
        if isinstance(reply, RedisFault):
            raise reply
        return reply

    def close(self) -> None:
        """See :meth:`actors._redis.connection.SyncConnection.close`."""
        self.closed = True

    def _lose(self, kind: type[RedisFault], why: str) -> Never:
        self.closed = True
        raise kind(f"The connection to Redis at {self._to.url} was lost: {why}.")


def encode(command: Iterable[Argument]) -> list[bytes]:
    """Return a command's fields as they go over the wire, its name in capitals."""
    fields = [value if type(value) is bytes else _encoded(value) for value in command]
    fields[0] = fields[0].upper()
    return fields


def _encoded(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (int, float)):
        return repr(value).encode()
    raise TypeError("A tuple item must be str, int, float or bytes.")


def _unblocking(fields: list[bytes], server: FakeServer | None = None) -> tuple[list[bytes], float | None, frozenset[bytes]]:
    """Return a read without its BLOCK, that BLOCK in seconds, and its keys.

    With ``server``, ``$`` is replaced by what it means now: a parked read must not skip
    what comes while it waits.
    """
    if fields[0] not in _BLOCKING:
        return fields, None, frozenset()
    block: float | None = None
    at = 4 if fields[0] == b"XREADGROUP" else 1
    kept = fields[:at]
    while at < len(fields) and fields[at].upper() != b"STREAMS":
        if fields[at].upper() == b"BLOCK" and at + 1 < len(fields):
            block = int(fields[at + 1]) / 1000.0
            at += 2
        else:
            kept.append(fields[at])
            at += 1
    streams = fields[at + 1 :]
    half = len(streams) // 2
    keys, ids = streams[:half], streams[half:]
    if server is not None and b"$" in ids:
        ids = [server.last_id(key) if id_ == b"$" else id_ for key, id_ in zip(keys, ids, strict=True)]
    return [*kept, *fields[at : at + 1], *keys, *ids], block, frozenset(keys)


def _call(connection: _Connection | _SyncConnection, fields: list[bytes]) -> Call:
    script = _script_names().get(fields[1], "") if fields[0] == b"EVALSHA" and len(fields) > 1 else ""
    return Call(connection.owner, connection.purpose, fields[0].decode("utf-8", "replace"), script, tuple(fields))


@functools.cache
def _script_names() -> dict[bytes, str]:
    return {scripts.load(name).sha.encode(): name for name in scripts.names()}


_NOBODYS = contextvars.Context()
"""What the server and the network do by themselves runs in here: no client's pause stops it."""

_BLOCKING = frozenset({b"XREAD", b"XREADGROUP"})
