"""One message handled by one activated actor: what it carries while it runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any

from actors._mailbox.commit import Effects

if TYPE_CHECKING:
    from actors._runner.activation import Activation, Message
    from actors._runner.asks import TurnClient
    from actors.context import Context
    from actors.telemetry.hooks import ProcessSpan


class Cut(Enum):
    """Why a running turn was cancelled by us."""

    DEADLINE = "its deadline passed"
    TURN_TIMEOUT = "its turn took too long"
    CALLER = "its caller cancelled it"
    DRAIN = "its shard moves and the drain time is over"
    LOST = "this runner lost its shard"

    @property
    def keeps_asks(self) -> bool:
        """Whether the message runs again elsewhere and will want the replies of the asks it has made."""
        return self in (Cut.DRAIN, Cut.LOST)


class Turn(Effects):
    """A turn from its start to the acknowledgement of its commit."""

    deadline: float = 0.0
    """Boottime; 0: none."""
    ended: bool = False
    cut: Cut | None = None
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    asked: Counter[bytes] | None = None
    """Asks made so far, equal ones counted."""
    waiting_on: Counter[tuple[str, str]] | None = None
    """Actors this turn waits for."""
    waited_on: str = ""
    """What it waited for when it was cut, for people."""
    output: int = 0
    """Bytes of messages sent so far."""
    outputs: int = 0
    waits: set[asyncio.Task[Any]] | None = None
    """What its thread waits for on the loop."""
    leaves: bool = False
    """A run of ``on_activate`` that asked for deactivation, which comes after the first turn: else that would never be run."""
    reentrant: bool = False
    """It runs inside another turn, or beside all: it sees a state that is not its own, and sends nothing but asks."""
    streaming: bool = False
    """It is a streaming reply, and so is never run again."""
    span: ProcessSpan | None = None
    started_at: float = 0.0
    """Boottime; 0: not measured."""
    ended_at: float = 0.0
    _client: TurnClient | None = None
    _context: Context | None = None

    def __init__(self, activation: Activation, message: Message | None) -> None:
        self.activation: Activation = activation
        self.message = message
        """``None`` for a hook's run."""
        self.entry = None if message is None else message.entry
        self.attempt = 1 if message is None else message.attempt + 1

    @property
    def client(self) -> TurnClient:
        """The client bound to this turn."""
        client = self._client
        if client is None:
            client = self._client = self.activation.shard.world.client_of(self)
        return client

    @property
    def context(self) -> Context:
        """What the handler may know of its message."""
        context = self._context
        if context is None:
            context = self._context = self.activation.shard.world.context_of(self)
        return context

    @property
    def message_id(self) -> str:
        """Id of the message; empty in a hook."""
        return self.message.envelope.id if self.message is not None else ""

    @property
    def root(self) -> tuple[str, str]:
        """The chain this turn belongs to: its first message's id, then this one's. Orders chains by age."""
        if self.message is None:
            return ("", "")
        envelope = self.message.envelope
        chain = envelope.extra.chain if envelope.extra is not None else ()
        return (chain[0].message_id if chain else envelope.id, envelope.id)

    @property
    def label(self) -> str:
        """Actor type, key and method, for people."""
        method = self.message.envelope.method if self.message is not None else "hook"
        return f"{self.activation.address}.{method}"
