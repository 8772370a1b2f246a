"""How long to wait before trying again."""

from __future__ import annotations

from random import Random

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_exponential


class Backoff:
    """Exponential delays with jitter: ``initial * factor ** (attempt - 1)``, at most ``maximum``.

    ``jitter`` is the part of each delay that is random: 0 always waits the full delay, 1
    anything between nothing and it. It only ever shortens, so that the sum of the full
    delays bounds how long a retry takes.
    """

    __slots__ = ("_strategy",)

    def __init__(
        self,
        *,
        random: Random,
        initial: float = 0.1,
        maximum: float = 10.0,
        factor: float = 2.0,
        jitter: float = 0.5,
    ) -> None:
        if not 0.0 <= jitter <= 1.0:
            raise ValueError(f"jitter is {jitter}; it must be between 0 and 1")
        if initial < 0 or maximum < 0 or factor < 1:
            raise ValueError(
                f"initial={initial}, maximum={maximum}, factor={factor}: the first two must not be negative, factor at least 1"
            )
        self._strategy = _JitteredExponential(random, jitter, multiplier=initial, max=maximum, exp_base=factor)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number ``attempt``, the first being 1."""
        if attempt < 1:
            raise ValueError(f"attempt is {attempt}; the first is 1")
        state = RetryCallState(_NOBODY, None, (), {})
        state.attempt_number = attempt
        return self._strategy(state)


class _JitteredExponential(wait_exponential):
    """tenacity's exponential wait, its jitter drawn from a given random source."""

    def __init__(self, random: Random, jitter: float, *, multiplier: float, max: float, exp_base: float) -> None:
        super().__init__(multiplier=multiplier, max=max, exp_base=exp_base)
        self._random = random
        self._jitter = jitter

    def __call__(self, retry_state: RetryCallState) -> float:
        full = super().__call__(retry_state)
        return full - full * self._jitter * self._random.random()


_NOBODY = Retrying()  # a wait strategy is handed the state of a retry; ours belong to none
