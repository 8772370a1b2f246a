"""What can go wrong with a command, by what it means for whoever sent it.

::

    RedisFault
    ├── NotApplied            definitely without effect: the same command may be sent again
    │   ├── Refused           no connection could be made, or it is closed already
    │   ├── NoScript          the server does not know the script (restarted, flushed)
    │   ├── Loading  Busy  OutOfMemory  Misconfigured  NoReplicas
    │   ├── ReadOnly  MasterDown           a replica, or a master that became one
    │   ├── ClusterDown  Moved  Ask  TryAgain
    │   ├── Aborted           EXEC of a transaction that was refused while queueing
    │   └── Unblocked         a blocking command was ended by the server; it took nothing
    ├── Unknown               sent, and no answer: it may have been applied, or may still be
    │   ├── TimedOut
    │   └── Disconnected
    ├── NoGroup               the stream or its consumer group is gone; a read took nothing
    ├── AuthenticationFailed  no or wrong credentials
    ├── NoPermission          the ACL user may not; inside a script earlier writes stand
    ├── CommandFailed         any other definite error
    │   ├── WrongType
    │   └── GroupExists
    └── ScriptFailed          a script raised; what it wrote before stands

A server names an error by its first word; :func:`fault_of` is the only place that reads
it. A script's errors are wrapped in other text by Redis 6.2, which is looked through.

NotApplied also covers errors met *inside* a script: memory, role and persistence are
checked at a script's first write, so a script that is refused for one of them has
written nothing.
"""

from __future__ import annotations

import re


class RedisFault(Exception):
    """A command did not get a reply it can use. ``code`` is the server's word for it, ``message`` its whole text."""

    code = ""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message or type(self).__name__


class NotApplied(RedisFault):
    """The command had no effect, so the same command may be sent again."""


class Refused(NotApplied):
    """There is no connection to send on."""


class NoScript(NotApplied):
    """The server does not know the script by this hash: load it and call again."""

    code = "NOSCRIPT"


class Loading(NotApplied):
    """The server is reading its data from disk."""

    code = "LOADING"


class Busy(NotApplied):
    """The server is held up by a slow script."""

    code = "BUSY"


class ReadOnly(NotApplied):
    """A replica was asked to write; the master is elsewhere."""

    code = "READONLY"


class MasterDown(NotApplied):
    """A replica without its master does not answer."""

    code = "MASTERDOWN"


class OutOfMemory(NotApplied):
    """``maxmemory`` is reached, and the first write of the command would have grown it."""

    code = "OOM"


class Misconfigured(NotApplied):
    """The server refuses writes because it cannot save them."""

    code = "MISCONF"


class NoReplicas(NotApplied):
    """Fewer replicas are connected than ``min-replicas-to-write`` wants."""

    code = "NOREPLICAS"


class ClusterDown(NotApplied):
    """The cluster does not serve this slot just now."""

    code = "CLUSTERDOWN"


class Moved(NotApplied):
    """The slot lives on another node."""

    code = "MOVED"


class Ask(NotApplied):
    """The slot is on its way to another node."""

    code = "ASK"


class TryAgain(NotApplied):
    """The keys of a multi-key command are split over two nodes while their slot moves."""

    code = "TRYAGAIN"


class Aborted(NotApplied):
    """A transaction was discarded because one of its commands could not be queued."""

    code = "EXECABORT"


class Unknown(RedisFault):
    """The command was sent and not answered. It may have been applied, or may be applied later."""


class TimedOut(Unknown):
    """No answer within the connection's time-out."""


class Disconnected(Unknown):
    """The connection was lost before the answer."""


class NoGroup(RedisFault):
    """The consumer group, or its stream, does not exist. Nothing was taken from it."""

    code = "NOGROUP"


class Unblocked(NotApplied):
    """The server ended a blocking command: its key vanished or changed type, or the role changed. Nothing was taken."""

    code = "UNBLOCKED"


class AuthenticationFailed(RedisFault):
    """Credentials are missing or wrong."""

    code = "NOAUTH"


class NoPermission(RedisFault):
    """The ACL user may not run the command or touch the key. Inside a script, what was written before stands."""

    code = "NOPERM"


class CommandFailed(RedisFault):
    """The server refused the command for a reason of its own; sending it again gives the same."""

    code = "ERR"


class WrongType(CommandFailed):
    """The key holds another kind of value."""

    code = "WRONGTYPE"


class GroupExists(CommandFailed):
    """XGROUP CREATE of a group that is there already."""

    code = "BUSYGROUP"


class ScriptFailed(RedisFault):
    """A script raised an error of its own. What it wrote before that stands."""

    code = "ERR"


def fault_of(message: str) -> RedisFault:
    """Return the fault that a server's error reply stands for."""
    code, _, _ = message.partition(" ")
    kind = _BY_CODE.get(code)
    in_script = _IN_SCRIPT.search(message)
    if in_script is not None:
        if kind is None and in_script["code"] is not None:
            code = in_script["code"]
            kind = _BY_CODE.get(code)
        if kind is None or issubclass(kind, CommandFailed):
            kind = NoPermission if _DENIED_IN_SCRIPT.search(message) else ScriptFailed
    elif kind is None:
        kind = Refused if message.startswith(_TOO_MANY_CLIENTS) else CommandFailed
    fault = kind(message)
    fault.code = code
    return fault


_NAMED: tuple[type[RedisFault], ...] = (
    NoScript, Loading, Busy, ReadOnly, MasterDown, OutOfMemory, Misconfigured, NoReplicas,
    ClusterDown, Moved, Ask, TryAgain, Aborted, NoGroup, Unblocked, NoPermission,
    AuthenticationFailed, WrongType, GroupExists,
)  # fmt: skip

_BY_CODE = {kind.code: kind for kind in _NAMED} | {"WRONGPASS": AuthenticationFailed, "DENIED": AuthenticationFailed}

# Redis 6.2: "ERR Error running script (call to f_<sha>): @user_script:3: @user_script: 3: -OOM command not allowed …"
# Redis 7, Valkey: "OOM command not allowed … script: <sha>, on @user_script:3."
_IN_SCRIPT = re.compile(r"@?user_script: ?\d+(?::(?: @user_script: ?\d+:)? -?(?P<code>[A-Z]+(?= ))?)?")

# These share the code ERR with everything else.
_DENIED_IN_SCRIPT = re.compile(r"ACL failure in script|The user executing the script can't")
_TOO_MANY_CLIENTS = "ERR max number of clients"
