"""The one seam to Redis: connections on which commands are pipelined and answered in order.

A connection belongs to nobody's coroutine. Commands are written when they are submitted,
replies are handed to callbacks in the order of the commands, and whoever waited and was
cancelled leaves nothing half-read behind. Nothing is ever sent twice from here: each
command gets exactly one reply or one fault, and the fault says what is known of its
effect (:mod:`actors._redis.faults`).

The protocol is RESP2 with replies as bytes. One timer watches the oldest unanswered
command: replies come in order, so if that one is late then all behind it are.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import hiredis
from redis.asyncio.connection import parse_url

from actors._redis.faults import (
    AuthenticationFailed,
    Disconnected,
    Loading,
    NoPermission,
    RedisFault,
    Refused,
    TimedOut,
    fault_of,
)
from actors.errors import ConfigurationError

Argument = bytes | str | int | float
Command = tuple[Argument, ...]
OnReply = Callable[[Any], None]


class Statistics(NamedTuple):
    """What went over one connection."""

    sent: int
    answered: int


class Connection(Protocol):
    """A pipelined connection, used from one event loop."""

    on_error: Callable[[Exception], None] | None
    """Told of a callback that raised, besides the loop's exception handler: whoever set the callbacks is broken."""

    @property
    def closed(self) -> bool:
        """True once it was closed or lost; it never comes back."""
        ...

    def submit(self, command: Command, on_reply: OnReply) -> None:
        """Send ``command``. ``on_reply`` is called exactly once, later, from the event loop.

        It gets the reply (bytes, int, None or a list of these) or a
        :class:`~actors._redis.faults.RedisFault`. Callbacks run in the order of their
        commands. A callback that raises is reported to the loop's exception handler and
        disturbs no other.
        """
        ...

    def execute(self, *command: Argument) -> asyncio.Future[Any]:
        """Send ``command`` and return a future of its reply. Cancelling it never touches the connection."""
        ...

    def statistics(self) -> Statistics:
        """Return how many commands were sent and answered so far."""
        ...

    async def close(self) -> None:
        """Close. Commands without an answer get their fault before this returns; ``on_lost`` is not called."""
        ...


class SyncConnection(Protocol):
    """A connection for a thread: one command at a time."""

    @property
    def closed(self) -> bool:
        """True once it was closed or lost; it never comes back."""
        ...

    def execute(self, *command: Argument) -> Any:
        """Return the reply; raise :class:`~actors._redis.faults.RedisFault`.

        After an :class:`~actors._redis.faults.Unknown` the connection is closed.
        """
        ...

    def close(self) -> None:
        """Close."""
        ...


class Server(Protocol):
    """A Redis that connections can be made to."""

    @property
    def url(self) -> str:
        """Where it is, fit to be printed: the password is masked."""
        ...

    @property
    def virtual(self) -> bool:
        """True where time is virtual and a connection without traffic costs nothing."""
        ...

    async def connect(self, purpose: str, *, timeout: float, on_lost: Callable[[RedisFault], None] | None = None) -> Connection:
        """Return a connection that is authenticated and named after ``purpose``.

        ``timeout`` bounds the connecting, and later each command: when the oldest
        unanswered one is older, the connection is lost. A connection for blocking reads
        needs more than its BLOCK. ``on_lost`` is called once when the connection ends
        by itself, after the callbacks of all pending commands.

        Raises :class:`~actors._redis.faults.Refused`, ``AuthenticationFailed`` or
        another fault, its text naming the server.
        """
        ...

    def connect_sync(self, purpose: str, *, timeout: float) -> SyncConnection:
        """The same for a thread. ``timeout`` bounds the connecting and each command."""
        ...


class TcpServer:
    """A server reached by ``redis://``, ``rediss://`` (TLS) or ``unix://``.

    The URL may carry user, password and database (``redis://user:secret@host:6379/0``) and, after a
    question mark, ``db``, ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_password``,
    ``ssl_cert_reqs`` (``required``, ``optional``, ``none``) and ``ssl_check_hostname``. For ``unix://``
    the credentials go there too (``?username=…&password=…``).
    """

    virtual = False

    def __init__(self, target: Target) -> None:
        self._target = target

    @classmethod
    def from_url(cls, url: str) -> TcpServer:
        """Read ``url``. Nothing is connected; raises :class:`~actors.errors.ConfigurationError` for one that cannot be."""
        return cls(Target.from_url(url))

    @property
    def url(self) -> str:
        """The URL, its password masked."""
        return self._target.url

    def __repr__(self) -> str:
        return f"TcpServer({self.url})"

    async def connect(self, purpose: str, *, timeout: float, on_lost: Callable[[RedisFault], None] | None = None) -> Connection:
        """See :meth:`Server.connect`."""
        target = self._target
        loop = asyncio.get_running_loop()
        stream = _Stream(loop, timeout, where=self.url)
        try:
            async with asyncio.timeout(timeout):
                if target.path is not None:
                    await loop.create_unix_connection(lambda: stream, target.path)
                else:
                    await loop.create_connection(
                        lambda: stream,
                        target.host,
                        target.port,
                        ssl=target.tls(),
                        server_hostname=target.host if target.encrypted else None,
                    )
                replies = await asyncio.gather(*[stream.execute(*command) for command in target.greeting(purpose)], return_exceptions=True)
        except TimeoutError:
            await stream.close()
            raise Refused(f"Redis at {self.url} did not answer within {timeout:g} s.") from None
        except OSError as error:
            await stream.close()
            raise _refused(self.url, error) from error
        except BaseException:
            await stream.close()
            raise
        for reply in replies:
            fault = target.judge(reply)
            if fault is not None:
                await stream.close()
                raise fault
        stream.begin(on_lost)
        if stream.closed:
            raise Refused(f"Redis at {self.url} closed the connection at once.")
        return stream

    def connect_sync(self, purpose: str, *, timeout: float) -> SyncConnection:
        """See :meth:`Server.connect_sync`."""
        target = self._target
        try:
            if target.path is not None:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                with _closing_on_error(sock):
                    sock.settimeout(timeout)
                    sock.connect(target.path)
            else:
                sock = socket.create_connection((target.host, target.port), timeout=timeout)
                with _closing_on_error(sock):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    context = target.tls()
                    if context is not None:
                        sock = context.wrap_socket(sock, server_hostname=target.host)
        except OSError as error:
            raise _refused(self.url, error) from error
        connection = _Blocking(sock, timeout, where=self.url)
        for command in target.greeting(purpose):
            try:
                connection.execute(*command)
            except RedisFault as error:
                fault = target.judge(error)
                if fault is not None:
                    connection.close()
                    raise fault from None
        return connection


class Target(NamedTuple):
    """A parsed URL."""

    url: str
    host: str
    port: int
    path: str | None
    username: str | None
    password: str | None
    db: int
    encrypted: bool
    ssl_ca_certs: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None
    ssl_password: str | None
    ssl_cert_reqs: str
    ssl_check_hostname: bool

    @classmethod
    def from_url(cls, url: str) -> Target:
        """Parse ``url``; raises :class:`~actors.errors.ConfigurationError`."""
        masked = masked_url(url)
        try:
            parts: dict[str, Any] = dict(parse_url(url))
        except ValueError as error:
            # Python's own text may quote part of a password that was not encoded.
            told = str(error) if str(error).startswith(("Redis URL", "Invalid value")) else "cannot be read"
            raise _bad_url(masked, told, f"{_EXAMPLE}, with special characters in the password percent-encoded") from None
        scheme = urlsplit(url).scheme
        parts.pop("connection_class", None)
        unknown = sorted(set(parts) - _OPTIONS)
        if unknown:
            known = ", ".join(sorted(_OPTIONS - {"host", "port", "path"}))
            raise _bad_url(masked, f"has the option {unknown[0]!r}, which is not known", f"use one of {known}")
        if scheme == "unix" and not parts.get("path"):
            raise _bad_url(masked, "names no socket", "write unix:///path/to/redis.sock")
        if parts.get("ssl_cert_reqs", "required") not in _CERT_REQS:
            raise _bad_url(masked, "has a wrong ssl_cert_reqs", f"use one of {', '.join(_CERT_REQS)}")
        if parts.get("password") and not parts.get("username"):
            parts["username"] = None
        return cls(
            url=masked,
            host=parts.get("host", "localhost"),
            port=parts.get("port", 6379),
            path=parts.get("path") if scheme == "unix" else None,
            username=parts.get("username"),
            password=parts.get("password"),
            db=parts.get("db", 0),
            encrypted=scheme == "rediss",
            ssl_ca_certs=parts.get("ssl_ca_certs"),
            ssl_certfile=parts.get("ssl_certfile"),
            ssl_keyfile=parts.get("ssl_keyfile"),
            ssl_password=parts.get("ssl_password"),
            ssl_cert_reqs=parts.get("ssl_cert_reqs", "required"),
            ssl_check_hostname=parts.get("ssl_check_hostname", True),
        )

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context the URL asks for; raises OSError where a file of it cannot be read.

        Made anew for each connection, so that renewed certificates are picked up.
        """
        if not self.encrypted:
            return None
        context = ssl.create_default_context(cafile=self.ssl_ca_certs)
        requirement = _CERT_REQS[self.ssl_cert_reqs]
        context.check_hostname = self.ssl_check_hostname and requirement is ssl.CERT_REQUIRED
        context.verify_mode = requirement
        if self.ssl_certfile is not None:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, self.ssl_password)
        return context

    def greeting(self, purpose: str) -> list[Command]:
        """Return what is said first on a new connection."""
        commands: list[Command] = []
        if self.password is not None:
            credentials = (self.password,) if self.username is None else (self.username, self.password)
            commands.append(("AUTH", *credentials))
        if self.db:
            commands.append(("SELECT", self.db))
        commands.append(("CLIENT", "SETNAME", f"actors-{purpose}"))
        return commands

    def judge(self, reply: object) -> RedisFault | None:
        """Return the fault that one reply to the greeting amounts to, worded for whoever configured the URL."""
        if not isinstance(reply, RedisFault):
            return None
        if isinstance(reply, (NoPermission, Loading)):
            return None  # a user who may not name connections; a server whose commands will say it themselves
        if isinstance(reply, AuthenticationFailed) or reply.message.startswith(("ERR AUTH", "ERR invalid password")):
            return AuthenticationFailed(f"Redis at {self.url} refused the credentials: {reply}")
        if isinstance(reply, TimedOut):
            return Refused(reply.message)
        if isinstance(reply, Disconnected):
            return Refused(f"Redis at {self.url} closed the connection at once.")
        return type(reply)(f"Redis at {self.url} refused the connection: {reply}")


def masked_url(url: str) -> str:
    """Return ``url`` without its secrets, for messages and logs; also where it is no proper URL."""
    return _SECRET_OPTION.sub(r"\1***", _SECRET.sub(r"\1***@", url))


class Pipeline:
    """Commands that were sent and the callbacks that wait for their replies, in one order.

    What a :class:`Connection` is apart from its wire: whoever derives from it sends, and
    passes on what comes back by :meth:`answer` and what breaks by :meth:`end`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        on_lost: Callable[[RedisFault], None] | None,
        *,
        where: str,
    ) -> None:
        self.closed = False
        self._loop = loop
        self._context = contextvars.copy_context()  # replies and faults belong to whoever connected
        self._timeout = timeout
        self._on_lost = on_lost
        self.on_error: Callable[[Exception], None] | None = None
        self._where = where
        self._waiting: deque[tuple[OnReply, float]] = deque()
        self._answered = 0
        self._unsent = 0  # how many of those waiting never went out; known at the end
        self._timer: asyncio.TimerHandle | None = None
        self._late = False

    def submit(self, command: Command, on_reply: OnReply) -> None:
        """See :meth:`Connection.submit`."""
        raise NotImplementedError

    def execute(self, *command: Argument) -> asyncio.Future[Any]:
        """See :meth:`Connection.execute`."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.submit(command, functools.partial(settle, future))
        return future

    def statistics(self) -> Statistics:
        """See :meth:`Connection.statistics`."""
        return Statistics(sent=self._answered + len(self._waiting), answered=self._answered)

    def expect(self, on_reply: OnReply) -> None:
        """Note that a command goes out now, and watch over its reply."""
        self._waiting.append((on_reply, self._loop.time()))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._check_oldest, context=self._context)

    def refuse(self, on_reply: OnReply) -> None:
        """Answer a command that cannot go out any more."""
        self._loop.call_soon(on_reply, Refused(f"The connection to Redis at {self._where} is closed."))

    def answer(self, reply: Any) -> None:
        """Hand ``reply`` to the oldest command. Raises IndexError when none waits."""
        on_reply, _ = self._waiting.popleft()
        self._answered += 1
        try:
            on_reply(reply)
        except Exception as error:  # noqa: BLE001 - one caller's mistake must not cost the others their replies
            self._report(error, on_reply)

    def end(self, kind: type[RedisFault], why: str) -> None:
        """Become closed, once; soon after, answer everything that waits, then say so to ``on_lost``."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hang_up()
        # Not from here: this may run inside a caller's own callback.
        self._loop.call_soon(self._answer_all, kind, self._text(why), context=self._context)

    async def close(self) -> None:
        """See :meth:`Connection.close`."""
        self._on_lost = None
        self.end(Disconnected, "closed here")
        self._answer_all(Disconnected, self._text("closed here"))

    def _hang_up(self) -> None:
        """Let go of the wire. Called once."""

    def _check_oldest(self) -> None:
        self._timer = None
        if not self._waiting:
            self._late = False
            return
        left = self._waiting[0][1] + self._timeout - self._loop.time()
        if left > 0:
            self._late = False
            self._timer = self._loop.call_later(left, self._check_oldest, context=self._context)
        elif not self._late:
            # If the loop itself was held up, the reply may be in the socket already: read once more, then judge.
            self._late = True
            self._timer = self._loop.call_later(_GRACE, self._check_oldest, context=self._context)
        else:
            self.end(TimedOut, f"no answer within {self._timeout:g} s")

    def _answer_all(self, kind: type[RedisFault], text: str) -> None:
        waiting = self._waiting
        while waiting:
            fault = kind(text) if len(waiting) > self._unsent else Refused(text)
            on_reply, _ = waiting.popleft()
            try:
                on_reply(fault)
            except Exception as error:  # noqa: BLE001 - as in answer
                self._report(error, on_reply)
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(kind(text))

    def _text(self, why: str) -> str:
        return f"The connection to Redis at {self._where} was lost: {why}."

    def _report(self, error: Exception, on_reply: OnReply) -> None:
        if self.on_error is not None:
            self.on_error(error)
        self._loop.call_exception_handler({"message": "a callback for a reply from Redis raised", "exception": error, "callback": on_reply})


class _Stream(Pipeline, asyncio.Protocol):
    """A :class:`Connection` on an asyncio transport.

    The first command of a turn of the loop is written at once, those that follow in the
    same turn together at its end: a single command is as fast as it can be, and ten cost
    40 µs instead of 100, a hundred 95 instead of 400 (asyncio and uvloop alike).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float, *, where: str) -> None:
        super().__init__(loop, timeout, None, where=where)
        self._reader = hiredis.Reader(replyError=fault_of, notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.Event()
        self._joined: list[bytes] | None = None  # what goes out at the end of this turn; None before its first

    def submit(self, command: Command, on_reply: OnReply) -> None:
        """See :meth:`Connection.submit`."""
        transport = self._transport
        if self.closed or transport is None:
            self.refuse(on_reply)
            return
        data = _pack(command)
        self.expect(on_reply)
        if self._joined is None:
            self._joined = []
            self._loop.call_soon(self._write_joined)
            transport.write(data)
        else:
            self._joined.append(data)

    def begin(self, on_lost: Callable[[RedisFault], None] | None) -> None:
        """Take up service: the greeting was answered, so from here on a loss is worth telling."""
        self._on_lost = on_lost

    async def close(self) -> None:
        """See :meth:`Connection.close`."""
        await super().close()
        if self._transport is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: there is a connection."""
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have come."""
        gets = self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := gets()) is not _NOTHING:
                self.answer(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self.end(Disconnected, f"it sent something that is not Redis' protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._gone.set()
        self.end(Disconnected, str(exc) if exc is not None else "closed by the server")

    def _write_joined(self) -> None:
        joined, self._joined = self._joined, None
        if joined and self._transport is not None and not self.closed:
            self._transport.write(b"".join(joined))

    def _hang_up(self) -> None:
        self._unsent = len(self._joined or ())
        if self._transport is not None:
            self._transport.abort()


class _Blocking:
    """A :class:`SyncConnection` on a plain socket."""

    def __init__(self, sock: socket.socket, timeout: float, *, where: str) -> None:
        self._sock = sock
        self._timeout = timeout
        self._where = where
        self._reader = hiredis.Reader(replyError=fault_of, notEnoughData=_NOTHING)
        self.closed = False

    def execute(self, *command: Argument) -> Any:
        """See :meth:`SyncConnection.execute`."""
        if self.closed:
            raise Refused(f"The connection to Redis at {self._where} is closed.")
        data = _pack(command)
        try:
            reply = self._exchange(data)
        except TimeoutError:
            self.close()
            raise TimedOut(f"Redis at {self._where} did not answer within {self._timeout:g} s.") from None
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise Disconnected(f"The connection to Redis at {self._where} was lost: {error}.") from error
        if isinstance(reply, RedisFault):
            raise reply
        return reply

    def _exchange(self, data: bytes) -> Any:
        deadline = time.monotonic() + self._timeout
        self._sock.settimeout(self._timeout)
        self._sock.sendall(data)
        while (reply := self._reader.gets()) is _NOTHING:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
            received = self._sock.recv(65536)
            if not received:
                raise ConnectionResetError("closed by the server")
            self._reader.feed(received)
        return reply

    def close(self) -> None:
        """See :meth:`SyncConnection.close`."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._sock.close()


def settle(future: asyncio.Future[Any], reply: Any) -> None:
    """Give ``future`` the reply, or the fault as its exception, unless nobody waits for it any more."""
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _refused(url: str, error: OSError) -> Refused:
    if isinstance(error, TimeoutError):
        return Refused(f"Redis at {url} did not answer in time.")
    if isinstance(error, ssl.SSLError):
        return Refused(
            f"TLS with Redis at {url} failed: {error}. "
            "Check ssl_ca_certs, ssl_certfile and ssl_keyfile in the URL, and that the port speaks TLS."
        )
    if isinstance(error, ConnectionRefusedError):
        return Refused(f"Nothing listens at {url}: connection refused. Is Redis running there?")
    if isinstance(error, socket.gaierror):
        return Refused(f"The host of {url} has no address: {error.strerror or error}.")
    return Refused(f"Redis at {url} cannot be reached: {error}.")


def _bad_url(masked: str, problem: str, hint: str) -> ConfigurationError:
    return ConfigurationError(setting="redis", problem=f"{masked!r}: {problem}", hint=hint)


@contextlib.contextmanager
def _closing_on_error(sock: socket.socket) -> Generator[None, None, None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


# Typed by hand: the library's stub takes it for a tuple of one.
_pack: Callable[[Command], bytes] = getattr(hiredis, "pack_command")  # noqa: B009 - as an attribute it would have the stub's type

_EXAMPLE = "write redis://user:password@host:6379/0"
_SECRET = re.compile(r"(://[^:@/?#]*:).*@")
_SECRET_OPTION = re.compile(r"([?&](?:ssl_)?password=)[^&#]+")
_NOTHING = object()
_CLOSE_TIMEOUT = 1.0  # seconds a transport has to say that it is gone
_GRACE = 0.05  # seconds a late reply is waited for once more, after the loop has polled
_OPTIONS = frozenset(
    {
        "db",
        "host",
        "password",
        "path",
        "port",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
        "ssl_password",
        "username",
    }
)
_CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
