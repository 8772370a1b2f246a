"""What happens to a message whose handler failed.

=====================================  ==================================================
the handler raised                     then
=====================================  ==================================================
a domain error, or a group of them     the caller gets it; the turn's changes are dropped
a ``ClusterError`` not retryable       the same
Redis, Postgres or routing is away     tried again, not counted as an attempt
``Fenced``                             nothing here: the shard's new owner runs it
anything else, a *defect*              tried again with backoff, then dead-lettered
=====================================  ==================================================

A group is judged by its leaves: the worst of them decides, in the order defect,
unavailable, error for the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from actors.backoff import Backoff
from actors.errors import ClusterError, DomainError, Fenced, PersistenceFailed, RemoteError, RunnerUnavailable, is_domain_error, leaves

if TYPE_CHECKING:
    from random import Random


class Retry(msgspec.Struct, frozen=True):
    """How a defect is tried again: exponential backoff with jitter.

    With the defaults, four retries within 3 s at most, well inside the default deadline
    of an ask.
    """

    max_attempts: int = 5
    """Runs in all, the first included; then it is dead-lettered."""
    initial: float = 0.2
    """Seconds before the second run."""
    maximum: float = 30.0
    """The longest wait."""
    factor: float = 2.0
    """Each wait is this many times the one before."""
    jitter: float = 0.5
    """The part of each wait that is random, 0 to 1. It only shortens."""
    retryable: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool] | None = None
    """Defects worth another try: error classes, or a function that says so. ``None``: all of them."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}; it must be at least 1")
        if not (0 <= self.initial <= self.maximum and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise ValueError(f"{self}: 0 <= initial <= maximum, factor >= 1 and 0 <= jitter <= 1 must hold")

    def allows(self, error: BaseException) -> bool:
        """Return whether ``error``, or a leaf of it, is worth another try."""
        wanted = self.retryable
        if wanted is None:
            return True
        if isinstance(wanted, type | tuple):
            return any(isinstance(leaf, wanted) for leaf in leaves(error))
        return bool(wanted(error))


class FailWith(msgspec.Struct, frozen=True):
    """Answer with ``error``; drop the turn's changes; the message is done."""

    error: Exception


class RetryAfter(msgspec.Struct, frozen=True):
    """Run it again in ``seconds``. ``counted``: as one attempt more."""

    seconds: float
    counted: bool


class DeadLetter(msgspec.Struct, frozen=True):
    """Set it aside for ``reason`` and answer with ``error``."""

    reason: str
    error: ClusterError


class Abandon(msgspec.Struct, frozen=True):
    """Do nothing: it is no longer this runner's to decide."""


Decision: TypeAlias = FailWith | RetryAfter | DeadLetter | Abandon


def decide(  # noqa: PLR0913 - what the decision depends on, and the address for its errors
    error: BaseException,
    *,
    attempt: int,
    retry: Retry | None,
    random: Random,
    max_attempts: int = 5,
    unavailable: int = 0,
    actor_type: str = "",
    key: str = "",
    method: str = "",
) -> Decision:
    """Return what to do after run number ``attempt`` (from 1) of a message ended with ``error``.

    ``unavailable`` counts the runs before this one that ended because something was away;
    they lengthen the wait, not the count. ``max_attempts`` holds where no ``retry`` is set. What was cancelled because its caller or its
    runner went is not asked here; a turn cut off at its ``turn_timeout`` is a defect.
    """
    retry = retry or Retry(max_attempts=max_attempts)
    backoff = Backoff(random=random, initial=retry.initial, maximum=retry.maximum, factor=retry.factor, jitter=retry.jitter)
    if is_domain_error(error):
        assert isinstance(error, Exception)
        return FailWith(error)
    mine = list(leaves(error))
    if any(isinstance(leaf, Fenced) for leaf in mine):
        return Abandon()
    if any(_is_defect(leaf) for leaf in mine):
        if attempt < retry.max_attempts and retry.allows(error):
            return RetryAfter(backoff.delay(attempt), counted=True)
        return _given_up(error, attempt, retry, {"actor_type": actor_type, "key": key, "method": method})
    if any(isinstance(leaf, PersistenceFailed | RunnerUnavailable) for leaf in mine):
        return RetryAfter(backoff.delay(unavailable + 1), counted=False)
    return FailWith(next(leaf for leaf in mine if isinstance(leaf, ClusterError)))


def _is_defect(leaf: BaseException) -> bool:
    if isinstance(leaf, DomainError | PersistenceFailed | RunnerUnavailable):
        return False
    return not isinstance(leaf, ClusterError) or leaf.retryable


def _given_up(error: BaseException, attempt: int, retry: Retry, where: dict[str, Any]) -> DeadLetter:
    first = next(leaf for leaf in leaves(error) if _is_defect(leaf))
    text = _text(first)
    why = "not retryable" if attempt < retry.max_attempts else f"{attempt} attempts" if attempt > 1 else "1 attempt"
    answer = (
        first
        if isinstance(first, ClusterError)
        else RemoteError(type_name=type(first).__qualname__, message=text, attempts=attempt, **where)
    )
    return DeadLetter(f"{why}: {type(first).__qualname__}: {text}", answer)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - its __str__ is the application's
        return f"(its text failed with {type(second).__qualname__})"
