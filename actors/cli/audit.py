"""The audit of the demo: every transfer happened once, at both ends, and no money came or went."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


class Statement(Protocol):
    """One account as the audit reads it."""

    balance: int
    sent: list[int]
    received: list[int]


class Audit(NamedTuple):
    """What was found."""

    transfers: int
    """Transfers that were acknowledged to the sender."""
    lost: tuple[int, ...]
    """Acknowledged ones that are missing at one end or both."""
    doubled: tuple[int, ...]
    """Those that happened more than once at either end."""
    halves: tuple[int, ...]
    """Those of unknown outcome that happened at one end only."""
    money: int
    """Money that is there beyond what was put in; below zero: missing."""

    @property
    def clean(self) -> bool:
        """Whether all is as it was promised."""
        return not (self.lost or self.doubled or self.halves or self.money)


def audit(acknowledged: Collection[int], unknown: Collection[int], statements: Sequence[Statement], *, opening: int) -> Audit:
    """Compare what was acknowledged with what the accounts have seen.

    A transfer of ``unknown`` outcome (its sender got an error) may have happened or not,
    but not twice and not by half.
    """
    sent = Counter(_all(statement.sent for statement in statements))
    received = Counter(_all(statement.received for statement in statements))
    return Audit(
        transfers=len(acknowledged),
        lost=tuple(sorted(number for number in acknowledged if not (sent[number] and received[number]))),
        doubled=tuple(sorted({number for seen in (sent, received) for number, times in seen.items() if times > 1})),
        halves=tuple(sorted(number for number in unknown if bool(sent[number]) != bool(received[number]))),
        money=sum(statement.balance - opening for statement in statements),
    )


def _all(lists: Iterable[list[int]]) -> Iterable[int]:
    return (number for numbers in lists for number in numbers)
