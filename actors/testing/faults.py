"""What can go wrong between a client and the fake server: named, as values, aimed at chosen commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from actors._redis.faults import Disconnected, RedisFault, Unblocked


@dataclass(frozen=True, slots=True)
class Call:
    """A command on its way to the server, as faults see it."""

    owner: str
    """Whose connection it is on: the name given to :meth:`FakeServer.for_owner`."""
    purpose: str
    name: str
    """The command in capitals; ``CONNECT`` for the making of a connection."""
    script: str
    """The script's file name, for a script of this package; else empty."""
    command: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Fails:
    """The server does nothing and answers with this fault."""

    fault: RedisFault


@dataclass(frozen=True, slots=True)
class DropsRequest:
    """The command, and every later one on that connection, never arrives."""


@dataclass(frozen=True, slots=True)
class DropsReply:
    """The command is applied; its reply, and every later one on that connection, is lost."""


@dataclass(frozen=True, slots=True)
class Disconnects:
    """The connection breaks, before the command was applied or after."""

    applied: bool


@dataclass(frozen=True, slots=True)
class Delays:
    """The command takes ``request`` seconds to arrive, its reply ``reply`` seconds to return.

    Those behind it on the connection wait as well. What is on its way arrives even when
    its caller has given up meanwhile.
    """

    request: float = 0.0
    reply: float = 0.0


@dataclass(frozen=True, slots=True)
class ExecutesLate:
    """The caller never hears of it; ``seconds`` after it was sent the command is applied all the same."""

    seconds: float


Action = Fails | DropsRequest | DropsReply | Disconnects | Delays | ExecutesLate


class Wire(Protocol):
    """A connection, as faults reach into it."""

    owner: str
    purpose: str

    def end(self, kind: type[RedisFault], why: str) -> None:
        """Break."""
        ...

    def go_on(self) -> None:
        """Take up what a pause held back."""
        ...

    def arrive_late(self, fields: list[bytes]) -> None:
        """Let a command reach the server whose caller has long given up."""
        ...

    def unblock(self, fault: RedisFault) -> None:
        """Let the server end the read that blocks here, if one does."""
        ...


@dataclass(slots=True)
class Injection:
    """A fault that waits for its commands. ``hits`` counts those it has befallen."""

    action: Action
    matches: Callable[[Call], bool]
    skip: int
    times: int | None
    hits: int = 0

    def take(self, call: Call) -> bool:
        """Whether it befalls ``call``; if so it is counted."""
        if (self.times is not None and self.hits >= self.times) or not self.matches(call):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True


class Faults:
    """What goes wrong between clients and a :class:`FakeServer`. Everything is whole at first.

    ``owner=None`` and ``purpose=None`` mean any.
    """

    def __init__(self, wires: Sequence[Wire]) -> None:
        self._wires = wires
        self._injections: list[Injection] = []
        self._cuts: set[tuple[str | None, str | None]] = set()
        self._held: list[tuple[Wire, list[bytes]]] = []
        self._paused: set[str] = set()
        self._dead: set[str] = set()
        self._resumed: asyncio.Event | None = None
        self.decide: Callable[[Call], Action | None] | None = None
        """Asked about every command that no injection has befallen: the place for seeded chance."""

    def inject(
        self,
        action: Action,
        *,
        owner: str | None = None,
        purpose: str | None = None,
        name: str | None = None,
        script: str | None = None,
        when: Callable[[Call], bool] | None = None,
        skip: int = 0,
        times: int | None = 1,
    ) -> Injection:
        """Let ``action`` befall the next ``times`` matching commands, after ``skip`` that it spares. ``times=None``: all."""

        def matches(call: Call) -> bool:
            return (
                (owner is None or owner == call.owner)
                and (purpose is None or purpose == call.purpose)
                and (name is None or name == call.name)
                and (script is None or script == call.script)
                and (when is None or when(call))
            )

        injection = Injection(action, matches, skip, times)
        self._injections.append(injection)
        return injection

    def withdraw(self, injection: Injection) -> None:
        """Let ``injection`` befall nothing any more."""
        self._injections.remove(injection)

    def partition(self, owner: str | None = None, purpose: str | None = None) -> None:
        """Cut off: requests do not arrive, replies do not return, until :meth:`heal`. Both sides notice by their time-outs alone.

        A read that is blocked at the server stays so, and what it takes is lost with its reply.
        """
        self._cuts.add((owner, purpose))

    def heal(self, owner: str | None = None, purpose: str | None = None, *, late: bool = False) -> None:
        """End that :meth:`partition`. Connections that lost something on the way stay broken until they time out.

        ``late``: the requests that were sent meanwhile arrive now, though nobody waits for them any more.
        """
        self._cuts.discard((owner, purpose))
        held, self._held = self._held, []
        for wire, fields in held:
            if self.is_cut(wire.owner, wire.purpose):
                self._held.append((wire, fields))
            elif late:
                wire.arrive_late(fields)

    def pause(self, owner: str) -> None:
        """Stop a client as SIGSTOP does: it sends nothing, hears nothing and lets no time-out pass, until :meth:`resume`."""
        self._paused.add(owner)

    def resume(self, owner: str) -> None:
        """Let a paused client go on: what it meant to send goes out, what was answered meanwhile comes in."""
        self._paused.discard(owner)
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None
        for wire in self._of(owner, None):
            wire.go_on()

    def kill(self, owner: str) -> None:
        """End a client as SIGKILL does: its connections are closed, and whatever is left of it reaches nothing."""
        self._dead.add(owner)
        self._paused.discard(owner)
        self.disconnect(owner)

    def revive(self, owner: str) -> None:
        """Let a killed client's name connect again."""
        self._dead.discard(owner)

    def disconnect(self, owner: str | None = None, purpose: str | None = None) -> None:
        """Break the existing connections. What was sent and not answered yet is unknown to its caller."""
        for wire in self._of(owner, purpose):
            wire.end(Disconnected, "reset by peer")

    def unblock(self, owner: str | None = None, purpose: str | None = None, *, fault: RedisFault | None = None) -> None:
        """Let the server end blocked reads, as it does when its role changes."""
        text = "UNBLOCKED force unblock from blocking operation, instance state changed"
        for wire in self._of(owner, purpose):
            wire.unblock(copy_of(fault) if fault is not None else Unblocked(text))

    def is_cut(self, owner: str, purpose: str) -> bool:
        """Whether a partition stands between that client and the server."""
        cuts = self._cuts
        return bool(cuts) and not cuts.isdisjoint({(owner, purpose), (owner, None), (None, purpose), (None, None)})

    def is_paused(self, owner: str) -> bool:
        """Whether that client is paused."""
        return owner in self._paused

    def is_dead(self, owner: str) -> bool:
        """Whether that client was killed."""
        return owner in self._dead

    async def until_resumed(self) -> None:
        """Return when some client was resumed."""
        if self._resumed is None:
            self._resumed = asyncio.Event()
        await self._resumed.wait()

    def hold(self, wire: Wire, fields: list[bytes]) -> None:
        """Keep a request that a partition stopped."""
        self._held.append((wire, fields))

    def action(self, call: Call) -> Action | None:
        """Return what befalls ``call``."""
        for injection in self._injections:
            if injection.take(call):
                return injection.action
        return self.decide(call) if self.decide is not None else None

    @property
    def none(self) -> bool:
        """Whether no command has anything to fear; spares describing it."""
        return not self._injections and self.decide is None

    def _of(self, owner: str | None, purpose: str | None) -> list[Wire]:
        return [wire for wire in self._wires if owner in {None, wire.owner} and purpose in {None, wire.purpose}]


def copy_of(fault: RedisFault) -> RedisFault:
    """Return an equal fault: one exception must not be raised at two callers."""
    fresh = type(fault)(fault.message)
    fresh.code = fault.code
    return fresh
