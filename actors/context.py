"""What code inside a handler can know of it: its message, its client."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import msgspec

from actors.ids import RunnerId, ShardId
from actors.message import Turn as Turn  # noqa: PLC0414 - a name of this module, declared below it
from actors.message import current as current  # noqa: PLC0414 - for those who know the context, not messages

if TYPE_CHECKING:
    from actors.client import Client

P = ParamSpec("P")
T = TypeVar("T")

TRACE_HEADER = "traceparent"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The message being handled, and who handles it."""

    message_id: str
    """The same in every attempt: a good key for effects outside of the system."""
    actor_type: str
    key: str
    method: str
    shard_id: ShardId
    runner_id: RunnerId
    epoch: str
    """The fencing token of this ownership of the shard."""
    is_leader: bool = False
    """Whether this is the one instance of a singleton."""
    attempt: int = 1
    """Which run of the message this is, from 1."""
    deadline: float | None = None
    """When the caller stops waiting, in seconds since 1970 by this machine's clock."""
    headers: Mapping[str, str] = {}
    """What the sender gave; it travels on with every message sent from here."""

    @property
    def trace(self) -> str | None:
        """The W3C ``traceparent`` of this handler's span."""
        return self.headers.get(TRACE_HEADER)


def current_context() -> Context | None:
    """Return the context of the handler this code runs in, or ``None`` outside of any."""
    turn = current.get()
    return None if turn is None else turn.context


def current_client() -> Client | None:
    """Return the client bound to the handler this code runs in, or ``None`` outside of any.

    Its asks carry keys derived from the handler's message, so that a re-run repeats none;
    its tells leave with the turn's commit.
    """
    turn = current.get()
    return None if turn is None else cast("Client", turn.client)


class ContextExecutor(ThreadPoolExecutor):
    """A thread pool whose calls see the context variables of whoever submitted them."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in a thread, in a copy of this context."""
        return super().submit(partial(contextvars.copy_context().run, fn, *args, **kwargs))


class _Marking:
    """The log-record factory in place, shared by all runners of a process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.before: Callable[..., logging.LogRecord] = logging.LogRecord

    def make(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.before(*args, **kwargs)
        context = current_context()
        if context is not None:
            # Not the plain names: logging refuses an extra= that a record has already.
            vars(record).update(
                actor=f"{context.actor_type}/{context.key}",
                actor_method=context.method,
                actor_message=context.message_id,
                actor_shard=context.shard_id.label,
                actor_epoch=context.epoch,
                actor_attempt=context.attempt,
            )
        return record


_marking = _Marking()


def mark_log_records() -> Callable[[], None]:
    """Put the handler's context on every log record made inside one, until the returned function is called.

    Records get ``actor`` (``type/key``), ``actor_method``, ``actor_message``, ``actor_shard``,
    ``actor_epoch`` and ``actor_attempt``.
    """
    with _marking.lock:
        _marking.users += 1
        if _marking.users == 1:
            _marking.before = logging.getLogRecordFactory()
            logging.setLogRecordFactory(_marking.make)
    done = False

    def undo() -> None:
        nonlocal done
        with _marking.lock:
            if done:
                return
            done = True
            _marking.users -= 1
            if not _marking.users and logging.getLogRecordFactory() == _marking.make:
                logging.setLogRecordFactory(_marking.before)

    return undo
