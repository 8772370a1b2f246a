"""What happens rarely enough to be told one by one.

Each event is a frozen record; its class says how loud it is (``level``, of
:mod:`logging`) and in which words (``text``, filled from the fields). Sinks count,
log or forward them; whoever emits one does not care.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import msgspec

_DEBUG, _INFO, _WARNING, _ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events."""

    level: ClassVar[int] = _INFO
    text: ClassVar[str] = ""

    def fields(self) -> dict[str, Any]:
        """Return the event's fields by name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def __str__(self) -> str:
        return self.text.format_map(self.fields())


class RunnerStarted(Event, frozen=True, kw_only=True):
    text = "runner {runner} of system {system} is ready after {seconds:.2f} s: {types} actor types, shard groups {groups}"
    runner: str
    incarnation: str
    system: str
    types: int
    groups: str
    seconds: float


class RunnerDraining(Event, frozen=True, kw_only=True):
    text = "runner {runner} drains {shards} shards: {why}"
    runner: str
    shards: int
    why: str


class RunnerStopped(Event, frozen=True, kw_only=True):
    text = "runner {runner} stopped, {shards} shards given back in {seconds:.2f} s"
    runner: str
    shards: int
    seconds: float


class MembershipChanged(Event, frozen=True, kw_only=True):
    text = "members are now {members} (joined: {joined}; left: {left})"
    members: int
    joined: str
    left: str


class AssignmentWritten(Event, frozen=True, kw_only=True):
    text = "wrote assignment {version} for {members} runners: {moved} shards move"
    version: int
    members: int
    moved: int


class ShardAcquired(Event, frozen=True, kw_only=True):
    """``seconds`` is the time from the first sight of the shard being free to its first turn allowed."""

    level = _DEBUG
    text = "took shard {shard} at epoch {epoch} after {seconds:.3f} s (previous owner: {previous}, unclean: {unclean})"
    shard: str
    epoch: str
    previous: str
    unclean: bool
    seconds: float


class ShardReleased(Event, frozen=True, kw_only=True):
    level = _DEBUG
    text = "released shard {shard} of epoch {epoch} after {seconds:.3f} s of draining"
    shard: str
    epoch: str
    seconds: float


class ShardLost(Event, frozen=True, kw_only=True):
    level = _WARNING
    text = "lost shard {shard} of epoch {epoch}: {why}; its actors and what they had pending are dropped here"
    shard: str
    epoch: str
    why: str


class Fenced(Event, frozen=True, kw_only=True):
    level = _WARNING
    text = "{operation} on shard {shard} was refused: epoch {epoch} is not its owner any more"
    shard: str
    epoch: str
    operation: str


class TakeoverEnded(Event, frozen=True, kw_only=True):
    """All shards of one dead owner that fall to this runner are served again."""

    text = "took over {shards} shards of {previous} in {seconds:.2f} s"
    previous: str
    shards: int
    seconds: float


class LeaseAtRisk(Event, frozen=True, kw_only=True):
    level = _WARNING
    text = "the lease could not be renewed ({error}); this runner stops by itself in {left:.1f} s"
    error: str
    left: float


class LeaseExpired(Event, frozen=True, kw_only=True):
    level = _ERROR
    text = "the lease ended {late:.1f} s ago without a renewal ({error}): {shards} shards stop here until it is back"
    error: str
    late: float
    shards: int


class LeaseRevived(Event, frozen=True, kw_only=True):
    text = "the lease is back after {seconds:.1f} s: {kept} shards kept, {lost} lost"
    seconds: float
    kept: int
    lost: int


class HandlerBlockedLoop(Event, frozen=True, kw_only=True):
    level = _ERROR
    text = "{handler} has blocked the event loop for {seconds:.1f} s; a plain `def` message runs in a thread. It stands at:\n{stack}"
    handler: str
    seconds: float
    stack: str


class HandlerFailed(Event, frozen=True, kw_only=True):
    """A defect: anything but a domain error. ``error`` holds the traceback."""

    level = _ERROR
    text = "{actor_type}/{key}.{method} failed ({reason}), message {message_id}, attempt {attempt}; {outcome}\n{error}"
    actor_type: str
    key: str
    method: str
    message_id: str
    attempt: int
    reason: str
    outcome: str
    error: str


class ActivationFailed(Event, frozen=True, kw_only=True):
    level = _ERROR
    text = "{actor_type}/{key} could not be activated: {error}"
    actor_type: str
    key: str
    error: str


class DeactivationFailed(Event, frozen=True, kw_only=True):
    level = _ERROR
    text = "on_deactivate of {actor_type}/{key} failed, its last changes are lost: {error}"
    actor_type: str
    key: str
    error: str


class StateUnreadable(Event, frozen=True, kw_only=True):
    level = _ERROR
    text = "the stored state of {actor_type}/{key} cannot be read by this code and is left alone: {problem}"
    actor_type: str
    key: str
    problem: str


class DeadLettered(Event, frozen=True, kw_only=True):
    level = _ERROR
    text = "message {message_id} to {actor_type}/{key}.{method} went to the dead letters ({reason}) after {attempts} attempts: {error}"
    actor_type: str
    key: str
    method: str
    message_id: str
    reason: str
    attempts: int
    error: str
    shard: str


class MessagesParked(Event, frozen=True, kw_only=True):
    level = _WARNING
    text = "no running runner has {actor_type}.{method}: {count} messages wait for one"
    actor_type: str
    method: str
    count: int


class CommitRefused(Event, frozen=True, kw_only=True):
    level = _ERROR
    text = "Redis refused the commit of a turn of {handler} on shard {shard}: {error}"
    handler: str
    shard: str
    error: str


class ConnectionLost(Event, frozen=True, kw_only=True):
    level = _WARNING
    text = "the {purpose} connection to {server} was lost: {error}"
    purpose: str
    server: str
    error: str


class ConnectionRecovered(Event, frozen=True, kw_only=True):
    text = "the {purpose} connection to {server} is back after {seconds:.1f} s"
    purpose: str
    server: str
    seconds: float


class HistoryLost(Event, frozen=True, kw_only=True):
    """The commit sequence in Redis is not the one this runner knows: data was rolled back."""

    level = _ERROR
    text = "Redis has lost history of shard {shard} ({problem}): everything of it is read anew"
    shard: str
    problem: str


class DurabilityWarning(Event, frozen=True, kw_only=True):
    level = _WARNING
    text = "{problem}; acknowledged messages may be lost when the server stops"
    problem: str


class ServiceFailed(Event, frozen=True, kw_only=True):
    level = _ERROR
    text = "{service} failed, the runner ends: {error}"
    service: str
    error: str
