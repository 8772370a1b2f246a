"""Calls that would wait on themselves.

An ask carries the chain of turns that led to it. It waits on itself if a turn of its own
chain is the one that runs at its target. Two chains wait on each other if the turn that
runs at the target waits on an actor of the arriving chain; then the newer of the two, by
the ids of their first messages, gives way. Either owner may see it, both agree on which.
Longer circles across several runners end at their deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors._runner.activation import Activation, Message
from actors._runner.turn import Turn, root_of
from actors.errors import CallCycle

if TYPE_CHECKING:
    from actors._runner.world import World


class Cycles:
    """Finds calls that would wait on themselves, and fails them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._engine = world.engine
        self._failures = world.failures

    def found(self, activation: Activation, message: Message) -> bool:
        """Look whether an ask that just queued waits on itself; true if that settled it."""
        extra = message.envelope.extra
        assert extra is not None
        ids = {link.message_id for link in extra.chain}
        for turn in activation.running:
            if turn.message_id in ids:
                self._engine.take_out(activation, message)
                if message.method.reentrant:
                    self._engine.reenter(activation, message)
                else:
                    self._fail_cycle(activation, message)
                return True
        waits = {(link.type, link.key) for link in extra.chain}
        for turn in activation.running:
            if turn.waiting_on and not waits.isdisjoint(turn.waiting_on) and root_of(message) > turn.root:
                self._engine.take_out(activation, message)
                self._fail_cycle(activation, message)
                return True
        return False

    def begins(self, turn: Turn, target: tuple[str, str]) -> None:
        """A turn begins to wait on ``target``: whatever queued here from there may now wait on itself."""
        activation = turn.activation
        for message in list(activation.queue):
            extra = message.envelope.extra
            if extra is None or not extra.chain:
                continue
            if any((link.type, link.key) == target for link in extra.chain) and root_of(message) > turn.root:
                activation.queue.remove(message)
                self._engine.begin()
                try:
                    self._fail_cycle(activation, message)
                finally:
                    self._engine.finish()

    def _fail_cycle(self, activation: Activation, message: Message) -> None:
        envelope = message.envelope
        extra = envelope.extra
        assert extra is not None
        chain = [f"{link.type}/{link.key}" for link in extra.chain]
        chain.append(f"{envelope.type}/{envelope.key}")
        error = CallCycle(chain=chain, actor_type=envelope.type, key=envelope.key, method=envelope.method)
        self._failures.fail(activation, message, error)
