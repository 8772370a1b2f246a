"""The embedded server: it comes up, keeps what it acknowledged, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from actors._redis.embedded import EmbeddedServer
from actors.errors import ConfigurationError

pytestmark = pytest.mark.server


def test_a_killed_server_comes_back_on_its_port_with_what_it_acknowledged(own_server: EmbeddedServer) -> None:
    """Tests of recovery rest on this: the log of commands survives SIGKILL, and clients find the server again."""
    port = own_server.port
    assert _command(port, "SET k v") == b"+OK\r\n"
    own_server.kill()

    own_server.start()

    assert own_server.port == port
    assert _command(port, "GET k") == b"$1\r\nv\r\n"


def test_a_server_does_not_outlive_the_process_that_started_it() -> None:
    """Also when that process had no chance to say goodbye."""
    program = (
        "from actors._redis.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(persistent=False).start()\n"
        "print(server.pid, flush=True)\n"
        "input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        fd = os.pidfd_open(server)

        owner.send_signal(signal.SIGKILL)

        assert _ends(fd)


def test_ctrl_c_in_its_owners_terminal_does_not_reach_it(own_server: EmbeddedServer) -> None:
    """The owner still needs it then: its runners give back their shards first."""
    assert os.getsid(own_server.pid) != os.getsid(0)


def test_a_server_that_cannot_start_says_what_it_logged() -> None:
    """An option the server does not take must not end in a time-out without a word."""
    with pytest.raises(ConfigurationError, match="did not come up"):
        EmbeddedServer(options={"no-such-option": "1"}).start()


def _command(port: int, text: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(text.encode() + b"\r\n")
        return connection.recv(256)


def _ends(process_fd: int) -> bool:
    poll = select.poll()
    poll.register(process_fd, select.POLLIN)
    return bool(poll.poll(10_000))
