"""fakeredis, kept at arm's length: commands in, replies in RESP2's shape out.

What differs here from fakeredis as it comes:

* its time is ours: a stand-in for the ``time`` module answers while one of our commands
  runs, so that expiry, TIME and stream ids follow the given clock;
* it notes which keys a command touched, for whoever waits for them;
* error replies come as :class:`~actors._redis.faults.RedisFault`;
* scripts are compiled once and guarded against global variables as a real server does,
  where fakeredis compiles them at each call and looks through all globals at each command;
* INFO, CONFIG, ROLE and WAIT exist. Commands that would block a thread do not.

All of this leans on fakeredis' inside: its version is pinned, and the tests compare the
replies with a real server's.
"""

from __future__ import annotations

import copy
import fnmatch
import hashlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

try:
    import fakeredis
except ModuleNotFoundError:
    raise ModuleNotFoundError("the test kit needs fakeredis: pip install 'redis-actors[test]'", name="fakeredis") from None
from fakeredis._commands import COMMANDS_WITH_SUB
from fakeredis._core import CommandItem, Database
from fakeredis._helpers import SimpleError
from fakeredis._socket import FakeSocket
from fakeredis.commands_mixins.scripting_mixin import LUA_MODULE

from actors._redis.faults import fault_of


class Engine:
    """The data, and the commands on it, for one thread at a time. Its time is what ``clock`` returns, in seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        _stand_in_for_time()
        self.config = dict(_CONFIG)
        self.info = dict(_INFO)
        self._clock = clock
        self._data = Data()

    @property
    def touched(self) -> set[bytes]:
        """The keys that commands have touched; whoever has dealt with them clears it."""
        return self._data.touched

    def socket(self) -> Socket:
        """Return the server's end of a new connection."""
        return Socket(self._data)

    def run(self, fields: Sequence[bytes], socket: Socket) -> Any:
        """Run one command, its name in capitals, and return its reply or its fault."""
        own = _OWN_COMMANDS.get(fields[0])
        if own is not None:
            return own(self, fields)
        return _standin.at(self._now, socket.run, fields)

    def last_id(self, key: bytes) -> bytes:
        """Return the last id that a stream has given out."""
        return self._data.keyspace.last_id(key)

    def forget_scripts(self) -> None:
        """Empty the script cache, as a restart does."""
        self._data.script_cache.clear()

    def snapshot(self) -> dict[bytes, Any]:
        """Return a copy of all data."""
        return self._data.keyspace.copied()

    def restore(self, snapshot: dict[bytes, Any]) -> None:
        """Replace all data by ``snapshot``, every key touched."""
        self._data.keyspace.replace(snapshot)

    def _now(self) -> float:
        # fakeredis cuts off below the millisecond: an even one must not come out just under it.
        return self._clock() + _ULP


class Data(fakeredis.FakeServer):
    """fakeredis' server, which notes the keys that commands touch and keeps compiled scripts."""

    def __init__(self) -> None:
        super().__init__(version=(7, 2))
        self.touched: set[bytes] = set()
        self.compiled: dict[bytes, Any] = {}
        self.guarded = False
        self.keyspace = self.dbs[0] = _Keyspace(self)


class _Keyspace(Database):
    def __init__(self, data: Data) -> None:
        super().__init__(data.lock)
        self._touched = data.touched

    def notify_watch(self, key: bytes) -> None:
        self._touched.add(key)
        super().notify_watch(key)

    def last_id(self, key: bytes) -> bytes:
        item: Any = self._dict.get(key)
        last: bytes = item.value.last_id.encode() if item is not None else b"0-0"
        return last

    def copied(self) -> dict[bytes, Any]:
        return copy.deepcopy(self._dict)

    def replace(self, items: dict[bytes, Any]) -> None:
        self._touched.update(self._dict, items)
        self._dict.clear()
        for key, item in copy.deepcopy(items).items():
            self[key] = item


_STREAM_FACTS = (
    b"length",
    b"radix-tree-keys",
    b"radix-tree-nodes",
    b"last-generated-id",
    b"max-deleted-entry-id",
    b"entries-added",
    b"recorded-first-entry-id",
    b"groups",
    b"first-entry",
    b"last-entry",
)


class Socket(FakeSocket):
    """The server's end of a connection: takes a command's fields, returns the reply in RESP2's shape.

    Scripts are compiled once, and guarded against global variables as a real server does,
    where fakeredis compiles them at each call and looks through all globals at each command.
    """

    def __init__(self, data: Data) -> None:
        super().__init__(data, 0, None, type(self))
        self._result: Any = None

    def run(self, fields: Sequence[bytes]) -> Any:
        """Run a command and return its reply, an error reply as its fault."""
        self._result = None
        self._process_command(list(fields))
        return self._result

    def put_response(self, msg: Any) -> None:
        self._result = msg

    def _decode_error(self, error: SimpleError) -> Any:
        return fault_of(error.value)

    # commands whose replies or effects differ from a real server's

    def xread(self, *args: bytes) -> Any:
        return super().xread(*args) or None

    def xreadgroup(self, group_const: bytes, group_name: bytes, consumer_name: bytes, *args: bytes) -> Any:
        try:
            return super().xreadgroup(group_const, group_name, consumer_name, *args)
        except SimpleError as error:
            if error.value.startswith("ERR The XGROUP subcommand requires the key to exist"):
                group = group_name.decode("utf-8", "replace")
                raise SimpleError(f"NOGROUP No such key or consumer group '{group}' in XREADGROUP with GROUP option") from None
            raise

    def xinfo_stream(self, key: CommandItem, *args: bytes) -> Any:
        reply: Any = super().xinfo_stream(key, *args)
        if args:
            return reply
        facts: dict[bytes, Any] = {**reply} if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return [part for name in _STREAM_FACTS for part in (name, facts[name])]

    def xgroup_create(self, key: CommandItem, group_name: bytes, start_key: bytes, *args: bytes) -> Any:
        try:
            return super().xgroup_create(key, group_name, start_key, *args)
        except SimpleError as error:
            raise SimpleError(error.value.removeprefix("ERR ") if "BUSYGROUP" in error.value else error.value) from None

    def xpending(self, key: CommandItem, group_name: bytes, *args: bytes) -> Any:
        reply: Any = super().xpending(key, group_name, *args)
        if args:
            return reply
        total, first, last, consumers = reply
        return [total, first, last, [[name, b"%d" % count] for name, count in consumers] or None]

    def xgroup_destroy(self, key: CommandItem, group_name: bytes) -> int:
        destroyed: int = super().xgroup_destroy(key, group_name)
        self._db.notify_watch(key.key)  # whoever is blocked in that group hears of it
        return destroyed

    # scripts

    def eval(self, script: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        sha = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
        self._server.script_cache[sha] = script
        return self._run_script(sha, script, numkeys, keys_and_args)

    def evalsha(self, sha1: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        script = self._server.script_cache.get(sha1)
        if script is None:
            raise SimpleError("NOSCRIPT No matching script. Please use EVAL.")
        return self._run_script(sha1, script, numkeys, keys_and_args)

    def _run_script(self, sha: bytes, script: bytes, numkeys: int, keys_and_args: tuple[bytes, ...]) -> Any:
        if not 0 <= numkeys <= len(keys_and_args):
            raise SimpleError("ERR Number of keys can't be greater than number of args")
        data: Any = self._server
        runtime = self._get_server_runtime(data)
        if not data.guarded:
            data.guarded = True
            runtime.execute(_GUARD)
        data._lua_current_socket[0] = self  # noqa: SLF001 - as fakeredis' own EVAL
        data._lua_set_keys_argv(  # noqa: SLF001 - as above
            runtime.table_from(keys_and_args[:numkeys]), runtime.table_from(keys_and_args[numkeys:])
        )
        where = f"script: {sha.decode()}, on @user_script:1."
        self._script_resp = 2
        try:
            function = data.compiled.get(sha)
            if function is None:
                function = data.compiled[sha] = runtime.compile(script, name=b"@user_script")
            return self._convert_lua_result(_first_of(function()), nested=False)
        except LUA_MODULE.LuaSyntaxError as error:
            raise SimpleError(f"ERR Error compiling script (new function): {_first_line(error)}") from None
        except LUA_MODULE.LuaError as error:
            raise SimpleError(f"ERR {_first_line(error)} {where}") from None
        except _Raised as error:
            raise SimpleError(f"{error.value} {where}") from None
        finally:
            self._script_resp = None

    def _lua_redis_call(self, lua_runtime: Any, expected_globals: Any, op: bytes, *args: Any) -> Any:  # noqa: ARG002 - as overridden
        name = op.decode("utf-8", "replace").lower()
        fields = [arg if type(arg) is bytes else _lua_argument(arg) for arg in args]
        if name in COMMANDS_WITH_SUB and fields:
            name += " " + fields.pop(0).decode("utf-8", "replace").lower()
        try:
            func, sig = self._name_to_func(name)
            if func is None:
                raise SimpleError("ERR Unknown Redis command called from script")
            reply = self._run_command(func, sig, fields, True)
            return self._convert_redis_result(lua_runtime, reply)
        except SimpleError as error:
            raise _Raised(error.value) from None

    def _lua_redis_pcall(self, lua_runtime: Any, expected_globals: Any, op: bytes, *args: Any) -> Any:
        try:
            return self._lua_redis_call(lua_runtime, expected_globals, op, *args)
        except SimpleError as error:
            return lua_runtime.table_from({b"err": error.value.encode()})


class _Raised(SimpleError):
    """An error that redis.call raised inside a script."""


def _first_of(result: Any) -> Any:
    """Return what a server takes of a script's result: of several values the first."""
    return result[0] if type(result) is tuple else result  # pyright: ignore[reportUnknownVariableType]


def _first_line(error: Exception) -> str:
    """Return a Lua error's text without its traceback."""
    text: object = error.args[0] if error.args else ""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return str(text).partition("\n")[0]


def _lua_argument(value: Any) -> bytes:
    if type(value) in {int, float}:
        return f"{value:.17g}".encode()
    raise _Raised("ERR Lua redis lib command arguments must be strings or integers")


def _info(engine: Engine, _fields: Sequence[bytes]) -> Any:
    return "".join(f"{name}:{value}\r\n" for name, value in engine.info.items()).encode()


def _config(engine: Engine, fields: Sequence[bytes]) -> Any:
    if len(fields) > 2 and fields[1].upper() == b"GET":
        patterns = [pattern.decode().lower() for pattern in fields[2:]]
        names = [name for name in engine.config if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
        return [part.encode() for name in names for part in (name, engine.config[name])]
    if len(fields) == 4 and fields[1].upper() == b"SET":
        engine.config[fields[2].decode().lower()] = fields[3].decode()
        return b"OK"
    return fault_of("ERR wrong number of arguments for 'config' command")


def _role(_engine: Engine, _fields: Sequence[bytes]) -> Any:
    return [b"master", 0, []]


def _wait(_engine: Engine, _fields: Sequence[bytes]) -> Any:
    return 0


def _never_blocks(_engine: Engine, fields: Sequence[bytes]) -> Any:
    return fault_of(f"ERR the fake server cannot block, so it has no {fields[0].decode()}")


_OWN_COMMANDS: dict[bytes, Callable[[Engine, Sequence[bytes]], Any]] = {
    b"INFO": _info,
    b"CONFIG": _config,
    b"ROLE": _role,
    b"WAIT": _wait,
} | dict.fromkeys((b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BLMPOP", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP"), _never_blocks)

_CONFIG = {
    "appendfsync": "everysec",
    "appendonly": "yes",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "save": "",
}

_INFO = {
    "redis_version": "7.2.4",
    "redis_mode": "standalone",
    "role": "master",
    "loading": "0",
    "used_memory": "1000000",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "connected_slaves": "0",
}

_ULP = 2.4e-7  # the distance of two floats at today's date, in seconds

# What a real server's scripts cannot reach, and its guard against forgotten `local`s.
_GUARD = """
io, python, require, package, module, dofile, loadfile, newproxy = nil  -- but debug: the binding reads it when something fails
os = {clock = os.clock}
setmetatable(_G, {
  __newindex = function(_, name) error("Script attempted to create global variable '" .. tostring(name) .. "'", 2) end,
  __index = function(_, name) error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2) end,
})
"""


class _StandIn:
    """The ``time`` module as fakeredis sees it: our server's clock while a command of ours runs, else the real one."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time(self) -> float:
        clock: Callable[[], float] = getattr(self._local, "clock", time.time)
        return clock()

    def at(self, clock: Callable[[], float], run: Callable[[Sequence[bytes]], Any], fields: Sequence[bytes]) -> Any:
        local = self._local
        before = getattr(local, "clock", time.time)
        local.clock = clock
        try:
            return run(fields)
        finally:
            local.clock = before


def _stand_in_for_time() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "fakeredis" and getattr(module, "time", None) is time:
            module.time = _standin  # type: ignore[attr-defined]


_standin = _StandIn()
