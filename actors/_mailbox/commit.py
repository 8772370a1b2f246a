"""What a commit is made of, and how it is written down for the commit script. Pure.

A turn that has ended leaves its *effects*: the entry it handled, the state it left, its
answer and whatever else becomes real with it. Effects gather per shard in a *ledger*,
which also knows the shard's place in its commit sequence. A batch takes from several
ledgers; the script applies each ledger's part whole or not at all.

The sequence is what makes a retry safe: a part names the own value it expects and the
one it leaves behind, so the same batch sent twice is recognised by the value it left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from actors._redis.keys import Keys


class Cleared:
    """The state an actor leaves when it has cleared it: none."""


CLEARED: Final = Cleared()

Operation = tuple[str, tuple[str | bytes, ...], tuple[Any, ...]]
"""Code, keys and arguments of one rarer operation, as commit_ops.lua lists them."""


class Effects:
    """What one ended turn makes real. Filled by the turn; written once, read by the commit.

    What a turn does not set stands on the class: most turns set few of these, and one is
    made for each message.
    """

    state_key: str | None = None
    state: bytes | Cleared | None = None
    """The state left behind; ``None``: unchanged."""
    state_ttl_ms: int = 0
    inbox: str | None = None
    """Key of the inbox of whoever waits for ``answer``."""
    call: int = 0
    answer: bytes = b""
    tells: list[tuple[str, bytes | Operation]] | None = None
    """Shard label and envelope of each message that leaves, in order; an operation for one that leaves under a key."""
    operations: list[Operation] | None = None
    settled: Callable[[], None] | None = None
    """Called once when they are acknowledged."""

    def __init__(self, entry: bytes | None, activation: Any = None) -> None:
        self.entry = entry
        """The mailbox entry this turn handled; ``None`` where an operation removes it."""
        self.activation = activation
        """Whose effects these are; not looked at here."""


class Ledger:
    """One owned shard's place in its commit sequence, and the effects that gather for it."""

    __slots__ = ("clean", "gathered", "holder", "label", "mailbox", "sequence", "upto")

    def __init__(self, label: str, mailbox: str, token: str) -> None:
        incarnation, epoch, sequence, clean, upto = token.split(" ")
        self.label = label
        self.mailbox = mailbox
        self.holder = f"{incarnation} {epoch} "
        self.sequence = int(sequence)
        self.clean = clean
        self.upto = upto
        self.gathered: list[Effects] = []

    @property
    def token(self) -> str:
        """The own value as the last acknowledged commit left it."""
        return f"{self.holder}{self.sequence} {self.clean} {self.upto}"

    @property
    def following(self) -> str:
        """The own value the next commit leaves."""
        return f"{self.holder}{self.sequence + 1} {self.clean} {self.upto}"


class Limits:
    """Bounds a commit applies to what it sends on."""

    __slots__ = ("dead_letter_capacity", "shard_capacity")

    def __init__(self, *, shard_capacity: int, dead_letter_capacity: int) -> None:
        self.shard_capacity = shard_capacity
        self.dead_letter_capacity = dead_letter_capacity


def operate(effects: Effects, code: str, keys: tuple[str | bytes, ...], *args: Any) -> None:
    """Add a rarer operation to ``effects``."""
    if effects.operations is None:
        effects.operations = []
    effects.operations.append((code, keys, args))


Part = tuple[Ledger, Sequence[Effects]]


def write(parts: Iterable[Part], keys: Keys, limits: Limits) -> tuple[list[str | bytes], list[Any]]:
    """Return the keys and arguments with which the commit script applies ``parts``."""
    all_keys: list[str | bytes] = [keys.own]
    args: list[Any] = [0]
    count = 0
    for ledger, effects in parts:
        count += 1
        head = len(args)
        args += (ledger.label, ledger.token, ledger.following, 0, 0, 0)
        first_key = len(all_keys)
        operations = _write_part(ledger, effects, keys, limits, all_keys, args)
        args[head + 3] = len(all_keys) - first_key
        args[head + 4] = len(args) - head - 6
        args[head + 5] = operations
    args[0] = count
    return all_keys, args


def _write_part(
    ledger: Ledger, effects: Sequence[Effects], keys: Keys, limits: Limits, all_keys: list[str | bytes], args: list[Any]
) -> int:
    entries: list[bytes] = []
    states: dict[str, Effects] = {}
    answers: dict[str, list[Any]] = {}
    tells: dict[str, list[bytes | Operation]] | None = None
    rarer: list[Operation] | None = None
    for effect in effects:
        if effect.entry is not None:
            entries.append(effect.entry)
        if effect.state is not None and effect.state_key is not None:
            states[effect.state_key] = effect  # a later turn's state stands for the earlier ones
        if effect.inbox is not None:
            answered = answers.get(effect.inbox)
            if answered is None:
                answers[effect.inbox] = [effect.call, effect.answer]
            else:
                answered += (effect.call, effect.answer)
        if effect.tells is not None:
            tells = tells if tells is not None else {}
            for label, payload in effect.tells:
                tells.setdefault(label, []).append(payload)
        if effect.operations is not None:
            rarer = rarer if rarer is not None else []
            rarer += effect.operations
    count = 0
    if entries:
        all_keys.append(ledger.mailbox)
        args += ("D", 1, len(entries), *entries)
        count += 1
    if rarer is not None:
        for code, op_keys, op_args in rarer:
            all_keys += op_keys
            args += (code, len(op_keys), len(op_args), *op_args)
        count += len(rarer)
    if states:
        count += _write_states(states, all_keys, args)
    for inbox, answered in answers.items():
        all_keys.append(inbox)
        args += ("R", 1, len(answered), *answered)
        count += 1
    if tells is not None:
        for label, messages in tells.items():
            count += _write_tells(label, messages, keys, limits, all_keys, args)
    return count


def _write_tells(
    label: str, messages: Sequence[bytes | Operation], keys: Keys, limits: Limits, all_keys: list[str | bytes], args: list[Any]
) -> int:
    """Write what is sent to one shard, in its order: plain messages by the run, each one under a key by itself."""
    count = at = 0
    while at < len(messages):
        first = messages[at]
        if isinstance(first, tuple):
            code, op_keys, op_args = first
            all_keys += op_keys
            args += (code, len(op_keys), len(op_args), *op_args)
            at += 1
        else:
            end = at + 1
            while end < len(messages) and not isinstance(messages[end], tuple):
                end += 1
            all_keys += (keys.mailbox(label), keys.dead, keys.dead_lost, keys.backlogs)
            args += ("T", 4, 3 + end - at, limits.shard_capacity, limits.dead_letter_capacity, label, *messages[at:end])
            at = end
        count += 1
    return count


def _write_states(states: dict[str, Effects], all_keys: list[str | bytes], args: list[Any]) -> int:
    lasting: list[Any] = []
    count = 0
    at = len(all_keys)
    for key, effect in states.items():
        if effect.state is not CLEARED and not effect.state_ttl_ms:
            all_keys.append(key)
            lasting.append(effect.state)
    if lasting:
        args += ("S", len(all_keys) - at, len(lasting), *lasting)
        count += 1
    for key, effect in states.items():
        if effect.state is CLEARED:
            all_keys.append(key)
            args += ("E", 1, 0)
            count += 1
        elif effect.state_ttl_ms:
            all_keys.append(key)
            args += ("X", 1, 2, effect.state, effect.state_ttl_ms)
            count += 1
    return count
