"""A small HTTP/1.1 listener for probes and metrics.

It answers GET and HEAD on a few fixed paths and closes. Everything a stranger can send
is bounded: the head's size, the time it may take, the time an answer may take, the
connections at once. What is not HTTP gets a 400 and is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

HEAD_LIMIT: Final = 8192
"""Longest request head in bytes."""

CONNECTIONS: Final = 64
"""Connections at once; one more is turned away with a 503."""

BODY_LIMIT: Final = 64 << 20
"""Longest body :func:`fetch` takes."""

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

_log = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True):
    """A response."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Request(msgspec.Struct, frozen=True):
    """The part of a request that matters here. ``path`` is without its query."""

    method: str
    path: str


def json_answer(status: int, value: object) -> Answer:
    """Return an answer with ``value`` as JSON."""
    return Answer(status, msgspec.json.encode(value) + b"\n")


_NOT_HTTP: Final = json_answer(400, {"error": "this is not an HTTP/1.1 request"})


def parse(head: bytes) -> Request | Answer:
    """Return the request that ``head`` asks for, or the answer it gets for being none."""
    line, _, _ = head.partition(b"\n")
    parts = line.rstrip(b"\r").split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/") or not parts[0].isalpha() or not parts[1].isascii():
        return _NOT_HTTP
    if parts[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        return json_answer(505, {"error": "HTTP/1.1 is spoken here"})
    if parts[0] not in {b"GET", b"HEAD"}:
        return json_answer(405, {"error": f"{parts[0].decode()} is not answered here, GET is"})
    path, _, _ = parts[1].decode().partition("?")
    return Request(parts[0].decode(), path)


def render(answer: Answer, *, head_only: bool = False) -> bytes:
    """Return the bytes of a response that closes the connection."""
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\n"
        f"{'Allow: GET, HEAD' + chr(13) + chr(10) if answer.status == 405 else ''}"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else answer.body)


class Listener:
    """Answers ``routes`` until it is closed. Works on any asyncio loop."""

    def __init__(
        self, routes: Mapping[str, Callable[[], Awaitable[Answer]]], *, request_timeout: float = 5.0, answer_timeout: float = 5.0
    ) -> None:
        self._routes = dict(routes)
        self._request_timeout = request_timeout
        self._answer_timeout = answer_timeout
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> int:
        """Listen on ``host:port`` and return the port, a free one if 0 was asked for.

        Raises :class:`OSError` when the port is taken.
        """
        self._server = await asyncio.start_server(self._accept, host, port, limit=HEAD_LIMIT)
        return int(self._server.sockets[0].getsockname()[1])

    async def listen_unix(self, path: str) -> None:
        """Listen on a unix socket, for another process of this host."""
        self._server = await asyncio.start_unix_server(self._accept, path, limit=HEAD_LIMIT)

    async def close(self) -> None:
        """Stop listening and drop what is open. May be called again."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS:
            writer.write(render(json_answer(503, {"error": "too many connections"})))
            writer.close()
            return
        # A task of ours: asyncio's own for a connection complains when it is cancelled.
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer, head_only = await self._handle(reader)
            if answer is not None:
                async with asyncio.timeout(self._answer_timeout):
                    writer.write(render(answer, head_only=head_only))
                    writer.write_eof()
                    # Closing on unread bytes would reset the connection, and the answer with it.
                    await _discard(reader)
        except (OSError, TimeoutError):
            writer.transport.abort()  # the other side has gone, or reads too slowly to be waited for
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader) -> tuple[Answer | None, bool]:
        try:
            async with asyncio.timeout(self._request_timeout):
                head = await reader.readuntil(b"\n\r\n")
        except TimeoutError:
            return json_answer(408, {"error": f"no whole request within {self._request_timeout:g} s"}), False
        except asyncio.LimitOverrunError:
            return json_answer(431, {"error": f"a request's head may have {HEAD_LIMIT} bytes"}), False
        except asyncio.IncompleteReadError as error:
            return (_NOT_HTTP if error.partial else None), False
        match parse(head):
            case Answer() as refusal:
                return refusal, False
            case Request(method, path):
                return await self._answer(path), method == "HEAD"

    async def _answer(self, path: str) -> Answer:
        route = self._routes.get(path)
        if route is None:
            return json_answer(404, {"error": f"{path} is not here", "paths": sorted(self._routes)})
        try:
            async with asyncio.timeout(self._answer_timeout):
                return await route()
        except TimeoutError:
            return json_answer(503, {"error": f"no answer within {self._answer_timeout:g} s"})
        except Exception:  # noqa: BLE001 - whatever a route raises, the listener goes on
            _log.exception("%s could not be answered", path)
            return json_answer(500, {"error": "internal error; the log has it"})


async def _discard(reader: asyncio.StreamReader) -> None:
    left = 8 * HEAD_LIMIT
    while left > 0 and (data := await reader.read(left)):
        left -= len(data)


async def fetch(socket_path: str, path: str, *, timeout: float) -> Answer:
    """Return what the listener on a unix socket answers to a GET.

    Raises :class:`OSError` or :class:`TimeoutError` where nobody answers, or not in HTTP.
    """
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_unix_connection(socket_path)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: runner\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            length = int(headers.get("content-length", "-1"))
            if not 0 <= length <= BODY_LIMIT:
                raise OSError(f"{socket_path} answered a body of {length} bytes")
            body = await reader.readexactly(length)
            return Answer(int(lines[0].split(" ")[1]), body, headers.get("content-type", ""))
        except (ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise OSError(f"{socket_path} did not answer in HTTP: {error}") from error
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
