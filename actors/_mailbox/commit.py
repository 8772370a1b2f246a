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


def size_of(effects: Effects) -> int:
    """Return about how many bytes ``effects`` add to a commit."""
    size = len(effects.answer)
    if type(effects.state) is bytes:
        size += len(effects.state)
    if effects.tells is not None:
        size += sum(len(payload) for _, payload in effects.tells if type(payload) is bytes)
    if effects.operations is not None:
        size += sum(len(part) for _, _, args in effects.operations for part in args if type(part) is bytes)
    return size


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


_STATES, _INBOXES, _OPERATIONS = 1024, 1024**2, 1024**3
"""What a part's counts are multiplied by, to travel as one number."""

Part = tuple[Ledger, Sequence[Effects]]


def write(parts: Iterable[Part], keys: Keys, limits: Limits) -> tuple[list[str | bytes], list[Any]]:
    """Return the keys and arguments with which the commit script applies ``parts``. A part holds at most 1,000 effects."""
    all_keys: list[str | bytes] = [keys.own]
    heads: list[Any] = [0]
    args: list[Any] = []
    for ledger, effects in parts:
        heads[0] += 1
        heads += (ledger.label, ledger.token, ledger.following, _write_part(ledger, effects, keys, limits, all_keys, args))
    return all_keys, heads + args


def _write_part(  # noqa: PLR0912 - one arm for each kind of effect, on the hot path
    ledger: Ledger, effects: Sequence[Effects], keys: Keys, limits: Limits, all_keys: list[str | bytes], args: list[Any]
) -> int:
    """Append a part's keys and arguments; return its counts as the script reads them."""
    entries: list[bytes] = []
    states: dict[str, Effects] | None = None
    answers: dict[str, list[Any]] | None = None
    tells: dict[str, list[bytes | Operation]] | None = None
    rarer: list[Operation] | None = None
    for effect in effects:
        if effect.entry is not None:
            entries.append(effect.entry)
        if effect.state is not None and effect.state_key is not None:
            states = states if states is not None else {}
            states[effect.state_key] = effect  # a later turn's state stands for the earlier ones
        if effect.inbox is not None:
            answers = answers if answers is not None else {}
            answered = answers.get(effect.inbox)
            if answered is None:
                answers[effect.inbox] = [1, effect.call, effect.answer]
            else:
                answered[0] += 1
                answered += (effect.call, effect.answer)
        if effect.tells is not None:
            tells = tells if tells is not None else {}
            for label, payload in effect.tells:
                tells.setdefault(label, []).append(payload)
        if effect.operations is not None:
            rarer = rarer if rarer is not None else []
            rarer += effect.operations
    counts = len(entries)
    if entries:
        all_keys.append(ledger.mailbox)
        args += entries
    passing: list[tuple[str, Effects]] = []
    if states is not None:
        for key, effect in states.items():
            if effect.state is CLEARED or effect.state_ttl_ms:
                passing.append((key, effect))
            else:
                all_keys.append(key)
                args.append(effect.state)
        counts += _STATES * (len(states) - len(passing))
    if answers is not None:
        for inbox, answered in answers.items():
            all_keys.append(inbox)
            args += answered
        counts += _INBOXES * len(answers)
    operations = 0
    if rarer is not None:
        for code, op_keys, op_args in rarer:
            all_keys += op_keys
            args += (code, len(op_keys), len(op_args), *op_args)
        operations += len(rarer)
    for key, effect in passing:
        all_keys.append(key)
        args += ("E", 1, 0) if effect.state is CLEARED else ("X", 1, 2, effect.state, effect.state_ttl_ms)
        operations += 1
    if tells is not None:
        for label, messages in tells.items():
            operations += _write_tells(label, messages, keys, limits, all_keys, args)
    return counts + _OPERATIONS * operations


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
