"""What happens to a message whose handler failed."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import (
    ActivationFailed,
    AskTimeout,
    CallCycle,
    DomainError,
    Fenced,
    IdempotencyConflict,
    MailboxFull,
    MalformedMessage,
    PersistenceFailed,
    RemoteError,
    RunnerUnavailable,
    StreamInterrupted,
    is_domain_error,
)
from actors.supervision import Abandon, DeadLetter, Decision, FailWith, Retry, RetryAfter, decide


class Broke(DomainError):
    pass


def decided(error: BaseException, *, attempt: int = 1, retry: Retry | None = None, **options: Any) -> Decision:
    return decide(error, attempt=attempt, retry=retry, random=Random(1), **options)


CALLERS = [
    Broke(),
    IdempotencyConflict(),
    CallCycle(),
    MalformedMessage(),
    RemoteError(),
    ExceptionGroup("g", [Broke(), ExceptionGroup("h", [Broke()])]),
]
AWAY = [PersistenceFailed(), RunnerUnavailable()]
DEFECTS = [ValueError("x"), KeyboardInterrupt(), MailboxFull(scope="actor"), AskTimeout(), ActivationFailed(), StreamInterrupted()]


@pytest.mark.parametrize("error", CALLERS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("attempt", [1, 5, 50])
def test_what_is_the_callers_fails_the_call_at_once(error: Exception, attempt: int) -> None:
    assert decided(error, attempt=attempt) == FailWith(error)


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("attempt", [1, 5, 50])
def test_what_is_away_is_waited_for_without_counting(error: Exception, attempt: int) -> None:
    decision = decided(error, attempt=attempt)

    assert isinstance(decision, RetryAfter)
    assert not decision.counted


def test_waiting_for_what_is_away_grows_longer() -> None:
    retry = Retry(initial=1, maximum=100, jitter=0)

    waits = [decided(PersistenceFailed(), unavailable=before, retry=retry) for before in range(4)]

    assert waits == [RetryAfter(seconds, counted=False) for seconds in (1, 2, 4, 8)]


@pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
def test_a_defect_is_tried_again_and_then_set_aside(error: BaseException) -> None:
    decisions = [decided(error, attempt=attempt) for attempt in range(1, 6)]

    assert all(isinstance(decision, RetryAfter) and decision.counted for decision in decisions[:4])
    last = decisions[4]
    assert isinstance(last, DeadLetter)
    assert last.reason.startswith(f"5 attempts: {type(error).__name__}")


def test_the_asker_of_a_dead_letter_hears_of_the_last_error() -> None:
    decision = decided(KeyError("x"), attempt=5, actor_type="Account", key="alice", method="deposit")

    assert isinstance(decision, DeadLetter)
    assert isinstance(decision.error, RemoteError)
    assert decision.error.evidence() == {
        "type_name": "KeyError",
        "message": "'x'",
        "attempts": 5,
        "actor_type": "Account",
        "key": "alice",
        "method": "deposit",
    }
    full = MailboxFull(scope="actor")
    kept = decided(full, attempt=5)
    assert isinstance(kept, DeadLetter)
    assert kept.error is full


def test_a_fenced_turn_is_no_longer_ours_to_decide() -> None:
    """Its shard's new owner runs the message."""
    assert decided(Fenced()) == Abandon()
    assert decided(ExceptionGroup("g", [ValueError(), Fenced()])) == Abandon()


def test_a_group_is_judged_by_the_worst_of_its_leaves() -> None:
    defect = decided(ExceptionGroup("g", [Broke(), PersistenceFailed(), ValueError("x")]), attempt=5)
    away = decided(ExceptionGroup("g", [Broke(), PersistenceFailed()]), attempt=5)
    conflict = IdempotencyConflict()

    assert isinstance(defect, DeadLetter)
    assert "ValueError: x" in defect.reason
    assert isinstance(away, RetryAfter)
    assert decided(ExceptionGroup("g", [Broke(), ExceptionGroup("h", [conflict])])) == FailWith(conflict)


def test_attempts_are_those_of_the_retry_or_else_of_the_system() -> None:
    assert isinstance(decided(ValueError(), attempt=2, retry=Retry(2), max_attempts=9), DeadLetter)
    assert isinstance(decided(ValueError(), attempt=8, max_attempts=9), RetryAfter)
    assert isinstance(decided(ValueError(), attempt=1, retry=Retry(1)), DeadLetter)


def an_os_error(error: BaseException) -> bool:
    return isinstance(error, OSError)


RETRYABLE: list[Any] = [OSError, (OSError, KeyError), an_os_error]


@pytest.mark.parametrize("retryable", RETRYABLE, ids=["a class", "classes", "a function"])
def test_only_what_is_worth_it_is_tried_again(retryable: Any) -> None:
    retry = Retry(retryable=retryable)

    assert isinstance(decided(ConnectionResetError(), retry=retry), RetryAfter)
    hopeless = decided(ValueError("x"), retry=retry)
    assert isinstance(hopeless, DeadLetter)
    assert hopeless.reason == "not retryable: ValueError: x"
    assert isinstance(decided(Broke(), retry=Retry(retryable=Broke)), FailWith), "it is about defects alone"


def test_the_default_waits_end_well_within_the_default_deadline() -> None:
    """An asker hears of a hopeless message before it gives up by itself."""
    retry = Retry()
    waits = [decided(ValueError(), attempt=attempt, retry=Retry(jitter=0)) for attempt in range(1, retry.max_attempts)]

    assert sum(wait.seconds for wait in waits if isinstance(wait, RetryAfter)) <= 10


@given(attempt=st.integers(1, 1000), seed=st.integers(), maximum=st.floats(1, 60))
def test_no_wait_is_longer_than_the_longest(attempt: int, seed: int, maximum: float) -> None:
    retry = Retry(max_attempts=2000, initial=1, maximum=maximum)

    decision = decide(ValueError(), attempt=attempt, retry=retry, random=Random(seed))

    assert isinstance(decision, RetryAfter)
    assert 0 <= decision.seconds <= maximum


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"initial": -1}, {"initial": 5, "maximum": 1}, {"factor": 0.5}, {"jitter": 2}])
def test_a_retry_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retry(**wrong)


LEAVES = st.sampled_from([*CALLERS[:5], *AWAY, *DEFECTS[2:], ValueError(), Fenced()])


@given(
    st.recursive(LEAVES, lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda errors: ExceptionGroup("g", errors))),
    st.integers(1, 9),
)
def test_every_error_has_a_decision(error: Any, attempt: int) -> None:
    decision = decided(error, attempt=attempt)

    if is_domain_error(error):
        assert decision == FailWith(error)
    match decision:
        case FailWith(failure):
            assert isinstance(failure, Exception)
        case RetryAfter(seconds, _):
            assert seconds >= 0
        case DeadLetter(reason, _):
            assert reason
        case Abandon():
            pass
