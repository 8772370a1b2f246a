"""Errors by what they mean for the caller. The texts were taken from Redis 6.2, 7.0 and 8.2 and Valkey 9.1."""

from __future__ import annotations

import threading

import pytest

from actors._redis import faults
from actors._redis.connection import TcpServer
from actors._redis.embedded import EmbeddedServer
from actors._redis.faults import RedisFault, fault_of

TEXTS = [
    ("NOSCRIPT No matching script. Please use EVAL.", faults.NoScript),
    ("NOSCRIPT No matching script.", faults.NoScript),
    ("NOGROUP No such key 'st' or consumer group 'g' in XREADGROUP with GROUP option", faults.NoGroup),
    ("NOGROUP the consumer group this client was blocked on no longer exists", faults.NoGroup),
    ("UNBLOCKED the stream key no longer exists", faults.Unblocked),
    ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", faults.Unblocked),
    ("READONLY You can't write against a read only replica.", faults.ReadOnly),
    ("LOADING Redis is loading the dataset in memory", faults.Loading),
    ("CLUSTERDOWN Hash slot not served", faults.ClusterDown),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", faults.MasterDown),
    ("OOM command not allowed when used memory > 'maxmemory'.", faults.OutOfMemory),
    ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", faults.Misconfigured),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", faults.Busy),
    ("NOREPLICAS Not enough good replicas to write.", faults.NoReplicas),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", faults.WrongType),
    ("BUSYGROUP Consumer Group name already exists", faults.GroupExists),
    ("NOPERM User u has no permissions to run the 'set' command", faults.NoPermission),
    ("NOAUTH Authentication required.", faults.AuthenticationFailed),
    ("WRONGPASS invalid username-password pair or user is disabled.", faults.AuthenticationFailed),
    ("TRYAGAIN Multiple keys request during rehashing of slot", faults.TryAgain),
    ("MOVED 3999 127.0.0.1:6381", faults.Moved),
    ("ASK 3999 127.0.0.1:6381", faults.Ask),
    ("EXECABORT Transaction discarded because of previous errors.", faults.Aborted),
    ("ERR max number of clients reached", faults.Refused),
    ("ERR unknown command 'FOO', with args beginning with: ", faults.CommandFailed),
    ("SOMETHING new", faults.CommandFailed),
    ("", faults.CommandFailed),
]

# What the same errors look like when a script met them: (Redis 6.2, Redis 7 and later, Valkey 9).
IN_SCRIPTS = [
    (faults.OutOfMemory, "OOM", "OOM command not allowed when used memory > 'maxmemory'."),
    (faults.ReadOnly, "READONLY", "READONLY You can't write against a read only replica."),
    (faults.NoReplicas, "NOREPLICAS", "NOREPLICAS Not enough good replicas to write."),
    (faults.NoGroup, "NOGROUP", "NOGROUP No such key 'st' or consumer group 'nog' in XREADGROUP with GROUP option"),
    (faults.ScriptFailed, "WRONGTYPE", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    (faults.ScriptFailed, "BUSYGROUP", "BUSYGROUP Consumer Group name already exists"),
]


@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_an_error_is_known_by_its_first_word(text: str, kind: type[RedisFault]) -> None:
    """The whole text stays in the message, for people."""
    fault = fault_of(text)

    assert type(fault) is kind
    assert fault.message == text


@pytest.mark.parametrize(("kind", "code", "text"), IN_SCRIPTS)
@pytest.mark.parametrize(
    "wrapped",
    [
        "ERR Error running script (call to f_c64d47b1c117015b685b0f5175558658ff454375): @user_script:1: {}",
        "ERR Error running script (call to f_c64d47b1c117015b685b0f5175558658ff454375): @user_script:12: @user_script: 12: -{}",
        "{} script: c64d47b1c117015b685b0f5175558658ff454375, on @user_script:1.",
        "{} script: on @user_script:1.",
    ],
)
def test_a_script_s_error_is_looked_through(wrapped: str, kind: type[RedisFault], code: str, text: str) -> None:
    """A full server is a full server, whichever version says it and however it wraps it."""
    fault = fault_of(wrapped.format(text))

    assert type(fault) is kind
    assert fault.code == code


@pytest.mark.parametrize(
    "text",
    [
        "ERR Error running script (call to f_d5): @user_script:1: @user_script: 1: The user executing the script can't run this",
        "ERR The user executing the script can't run this command or subcommand script: d5994196, on @user_script:1.",
        "ERR ACL failure in script: User u has no permissions to run the 'set' command script: on @user_script:1.",
    ],
)
def test_missing_rights_inside_a_script_are_missing_rights(text: str) -> None:
    """They are no bug of the script, and an operator can grant them."""
    assert type(fault_of(text)) is faults.NoPermission


@pytest.mark.parametrize(
    "text",
    [
        "ERR Error running script (call to f_82903a0434f1503e152f89c03c9acd881a0e8150): @user_script:1: user_script:1: boom",
        "ERR user_script:1: boom script: 82903a0434f1503e152f89c03c9acd881a0e8150, on @user_script:1.",
        "ERR Error compiling script (new function): user_script:1: '=' expected near '<eof>'",
        "ERR Unknown Redis command called from script script: 9f6fe5b2, on @user_script:3.",
    ],
)
def test_a_script_s_own_error_is_its_own(text: str) -> None:
    """Sending it again gives the same, and it may have written before."""
    assert type(fault_of(text)) is faults.ScriptFailed


def test_what_may_be_sent_again_is_told_apart_from_what_is_unknown() -> None:
    """The one decision every caller takes from a fault."""
    again = {kind for _, kind in TEXTS if issubclass(kind, faults.NotApplied)}

    assert faults.OutOfMemory in again
    assert not {kind for kind in again if issubclass(kind, faults.Unknown)}
    assert not issubclass(faults.NoGroup, faults.NotApplied)
    assert not issubclass(faults.NoPermission, faults.NotApplied)


# ---------------------------------------------------------------------------------------
# The same from real servers, in the states that produce them


@pytest.mark.server
def test_a_full_server_is_known_by_name_and_still_frees(own_server: EmbeddedServer) -> None:
    """Also from inside a script; one that frees first runs to its end."""
    connection = TcpServer.from_url(own_server.url).connect_sync("control", timeout=5)
    connection.execute("SET", "k", "v")
    connection.execute("CONFIG", "SET", "maxmemory", 1)
    for refused in (("SET", "k", "v"), ("EVAL", "return redis.call('SET', KEYS[1], 'v')", 1, "k")):
        with pytest.raises(faults.OutOfMemory):
            connection.execute(*refused)

    assert connection.execute("EVAL", "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'v')", 1, "k") == b"OK"
    connection.close()


@pytest.mark.server
def test_a_server_held_up_by_a_script_is_busy(own_server: EmbeddedServer) -> None:
    """Whoever is told so has changed nothing; the one whose script was killed is told that."""
    server = TcpServer.from_url(own_server.url)
    slow, other = server.connect_sync("slow", timeout=30), server.connect_sync("control", timeout=30)
    other.execute("CONFIG", "SET", "lua-time-limit", 10)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            slow.execute("EVAL", "while true do end", 0)
        except RedisFault as fault:
            ended.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    with pytest.raises(faults.Busy):
        while True:
            other.execute("PING")
    assert other.execute("SCRIPT", "KILL") == b"OK"
    thread.join()
    assert [type(fault) for fault in ended] == [faults.ScriptFailed]

    slow.close()
    other.close()


@pytest.mark.server
def test_a_replica_is_known_by_name(own_server: EmbeddedServer) -> None:
    """A master that was demoted refuses writes, and without its own master answers nothing if told so."""
    connection = TcpServer.from_url(own_server.url).connect_sync("control", timeout=5)
    connection.execute("REPLICAOF", "127.0.0.1", 1)
    for write in (("SET", "k", 1), ("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "k")):
        with pytest.raises(faults.ReadOnly):
            connection.execute(*write)

    connection.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
    with pytest.raises(faults.MasterDown):
        connection.execute("GET", "k")
    connection.close()
