"""Calls that would wait on themselves.

An ask carries the chain of turns that led to it. It waits on itself if a turn of its own
chain is the one that runs at its target. Two chains wait on each other if the turn that
runs at the target waits on an actor of the arriving chain; then the newer of the two, by
the ids of their first messages, gives way. Either owner may see it, both agree on which.
Longer circles across several runners end at their deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors._runner.activation import Activation, Message, Phase
from actors._runner.turn import Turn
from actors.errors import CallCycle
from actors.wire.envelope import Link

if TYPE_CHECKING:
    from actors._runner.world import World


_PATIENCE = 0.25
"""Seconds a turn waits on an ask before its actor's backlog is searched."""


class Cycles:
    """Finds calls that would wait on themselves, and fails them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._engine = world.engine
        self._failures = world.failures
        self._searching: set[Activation] = set()

    def found(self, activation: Activation, message: Message) -> bool:
        """Look whether an ask that waits in the queue, or goes to the backlog, waits on itself; true if that settled it."""
        extra = message.envelope.extra
        if extra is None or not extra.chain:
            return False
        chain = extra.chain
        for turn in activation.running:
            if any(link.message_id == turn.message_id for link in chain):
                self._engine.take_out(activation, message)
                if message.method.reentrant:
                    self._engine.reenter(activation, message)
                else:
                    self._fail_cycle(activation, message)
                return True
        hook = activation.hook
        if (hook is not None and _began_in(chain, activation)) or any(
            _gives_way(chain, turn) for turn in (*activation.running, *(() if hook is None else (hook,)))
        ):
            self._engine.take_out(activation, message)
            self._fail_cycle(activation, message)
            return True
        return False

    def begins(self, activation: Activation) -> None:
        """A turn begins to wait on an ask: what is queued behind it may now wait on itself."""
        if activation.queue and any(message.envelope.extra is not None for message in activation.queue):
            self._world.loop.call_soon(self._look, activation)
        if activation.more and activation not in self._searching:
            # Its backlog may hold a call that waits for this turn. Most turns are over before it is worth a look.
            self._searching.add(activation)
            self._world.loop.call_later(_PATIENCE, self._search, activation)

    def _search(self, activation: Activation) -> None:
        self._searching.discard(activation)
        waits = any(turn.waiting_on for turn in activation.running) or activation.hook is not None
        if activation.phase is Phase.GONE or not activation.more or not waits:
            return
        if not self._world.backlogs.search(activation, lambda message: self._shown(activation, message)):
            self.begins(activation)

    def _shown(self, activation: Activation, message: Message) -> None:
        extra = message.envelope.extra
        if extra is None or not extra.chain:
            return
        self._engine.begin()
        try:
            self.found(activation, message)
        finally:
            self._engine.finish()

    def _look(self, activation: Activation) -> None:
        if activation.phase is Phase.GONE:
            return
        self._engine.begin()
        try:
            self.look(activation)
        finally:
            self._engine.finish()

    def look(self, activation: Activation) -> None:
        """Look through the queue for what waits on itself, inside a stretch of work."""
        if activation.running or activation.hook is not None:
            for message in list(activation.queue):
                self.found(activation, message)

    def _fail_cycle(self, activation: Activation, message: Message) -> None:
        envelope = message.envelope
        extra = envelope.extra
        assert extra is not None
        chain = [f"{link.type}/{link.key}" for link in extra.chain]
        chain.append(f"{envelope.type}/{envelope.key}")
        error = CallCycle(chain=chain, actor_type=envelope.type, key=envelope.key, method=envelope.method)
        self._failures.fail(activation, message, error)


def _began_in(chain: Sequence[Link], activation: Activation) -> bool:
    """Whether a hook of this actor is in the chain: hooks have no message, and so no id to be known by."""
    address = activation.address
    return any(not link.message_id and link.type == address.type and link.key == address.key for link in chain)


def _gives_way(chain: Sequence[Link], turn: Turn) -> bool:
    """Whether ``turn`` waits on an actor of the chain, and the chain is the newer of the two.

    Each chain is known by its beginning, and by its turn that waits on the other; so both
    sides compare the same, also where both have one beginning.
    """
    if not turn.waiting_on:
        return False
    address = turn.activation.address
    mine = (*turn.root, address.type, address.key)
    return any(
        (link.type, link.key) in turn.waiting_on and (chain[0].message_id, link.message_id, link.type, link.key) > mine for link in chain
    )
