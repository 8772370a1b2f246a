"""The listener, as a stranger sees it: by raw sockets, garbage included."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.telemetry.http import CONNECTIONS, HEAD_LIMIT, Answer, Listener, Request, fetch, json_answer, parse


class Peer:
    """A listener on a free port, and what one says to it."""

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener = listener
        self.port = port

    async def say(self, data: bytes, *, end: bool = False) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 5)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async def well() -> Answer:
        return json_answer(200, {"status": "ok"})

    async def sick() -> Answer:
        return json_answer(503, {"status": "failing", "failing": ["redis: timed out"]})

    async def broken() -> Answer:
        raise RuntimeError("no idea")

    async def slow() -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    routes = {"/livez": well, "/readyz": sick, "/broken": broken, "/slow": slow}
    listener = Listener(routes, request_timeout=0.3, answer_timeout=0.3)
    yield Peer(listener, await listener.listen("127.0.0.1", 0))
    await listener.close()


def status(response: bytes) -> int:
    assert response.startswith(b"HTTP/1.1 "), response
    return int(response.split(b" ")[1])


def body(response: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(response.partition(b"\r\n\r\n")[2])
    return found


async def test_a_probe_is_answered_with_its_reasons(peer: Peer) -> None:
    well = await peer.say(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    sick = await peer.say(b"GET /readyz?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (status(well), body(well)) == (200, {"status": "ok"})
    assert (status(sick), body(sick)["failing"]) == (503, ["redis: timed out"])


async def test_head_has_no_body(peer: Peer) -> None:
    response = await peer.say(b"HEAD /livez HTTP/1.1\r\n\r\n")

    assert status(response) == 200
    assert response.endswith(b"\r\n\r\n")
    assert b"Content-Length: 16" in response


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /livez HTTP/2.0\r\n\r\n", 505),
        (b"GET /livez\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"*1\r\n$4\r\nPING\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * HEAD_LIMIT + b"\r\n\r\n", 431),
        (b"a" * (2 * HEAD_LIMIT), 431),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
        (b"GET /slow HTTP/1.1\r\n\r\n", 503),
    ],
)
async def test_what_cannot_be_answered_is_told_so(peer: Peer, sent: bytes, expected: int) -> None:
    response = await peer.say(sent)

    assert status(response) == expected
    assert body(response)["error"]
    assert status(await peer.say(b"GET /livez HTTP/1.1\r\n\r\n")) == 200


async def test_half_a_request_is_not_waited_for(peer: Peer) -> None:
    """A stranger that opens and says little holds a connection for the request's time-out, no longer."""
    assert status(await peer.say(b"GET /livez HT")) == 408
    assert status(await peer.say(b"GET /livez HT", end=True)) == 400
    assert await peer.say(b"", end=True) == b""


async def test_one_connection_too_many_is_turned_away(peer: Peer) -> None:
    held = [await asyncio.open_connection("127.0.0.1", peer.port) for _ in range(CONNECTIONS)]
    try:
        assert status(await peer.say(b"")) == 503
    finally:
        for _, writer in held:
            writer.close()


async def test_a_closed_listener_leaves_nothing_open(peer: Peer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
    writer.write(b"GET /slow HTTP/1.1\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0)

    await peer.listener.close()
    await peer.listener.close()

    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_connection("127.0.0.1", peer.port)
    writer.close()
    del reader


async def test_a_parent_asks_its_child_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "child.sock")

    async def metrics() -> Answer:
        return Answer(200, b"a 1\n" * 100_000, "text/plain")

    listener = Listener({"/metrics": metrics})
    await listener.listen_unix(path)
    try:
        answer = await fetch(path, "/metrics", timeout=5)
        missing = await fetch(path, "/nowhere", timeout=5)
    finally:
        await listener.close()

    assert (answer.status, len(answer.body), answer.content_type) == (200, 400_000, "text/plain")
    assert missing.status == 404
    with pytest.raises(OSError, match=r".*"):
        await fetch(path, "/metrics", timeout=5)


async def test_a_child_that_does_not_speak_http_is_an_os_error(tmp_path: Path) -> None:
    path = str(tmp_path / "child.sock")

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(nonsense, path)
    async with server:
        with pytest.raises(OSError, match=r".*"):
            await fetch(path, "/metrics", timeout=5)


@given(st.binary(max_size=200))
def test_any_head_is_a_request_or_an_answer(head: bytes) -> None:
    assert isinstance(parse(head), Request | Answer)
