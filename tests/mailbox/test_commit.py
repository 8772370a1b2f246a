"""What a commit writes down for its script: everything, once, in order."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._mailbox.commit import CLEARED, Effects, Ledger, Limits, Operation, operate, write
from actors._redis.keys import Keys

KEYS = Keys("bank")
LIMITS = Limits(shard_capacity=7, dead_letter_capacity=9)
TOKEN = "00000000000000aa 1700000000000000 {} 0 0-0"


class Part(NamedTuple):
    """A shard's part, read back as the script reads it."""

    label: str
    expected: str
    following: str
    operations: list[tuple[str, list[Any], list[Any]]]


def read(keys: list[Any], args: list[Any]) -> list[Part]:
    """Read a commit's keys and arguments by the script's rules; every count must come out."""
    words, stored = iter(args[4 * args[0] + 1 :]), iter(keys[1:])
    parts: list[Part] = []
    for number in range(args[0]):
        label, expected, following, packed = args[4 * number + 1 : 4 * number + 5]
        rest, entries = divmod(packed, 1024)
        rest, states = divmod(rest, 1024)
        count, inboxes = divmod(rest, 1024)
        operations: list[tuple[str, list[Any], list[Any]]] = []
        if entries:
            operations.append(("D", [next(stored)], list(islice(words, entries))))
        if states:
            operations.append(("S", list(islice(stored, states)), list(islice(words, states))))
        operations += [("R", [next(stored)], list(islice(words, 2 * next(words)))) for _ in range(inboxes)]
        for _ in range(count):
            code, nk, na = islice(words, 3)
            operations.append((code, list(islice(stored, nk)), list(islice(words, na))))
        parts.append(Part(label, expected, following, operations))
    assert (list(words), list(stored), keys[0]) == ([], [], KEYS.own)
    return parts


def ledger(number: int = 0, sequence: int = 0) -> Ledger:
    """Return the ledger of a shard."""
    return Ledger(f"default.{number}", KEYS.mailbox(f"default.{number}"), TOKEN.format(sequence))


STATES = st.one_of(st.none(), st.just(CLEARED), st.binary(min_size=1, max_size=3))


@st.composite
def tells(draw: st.DrawFn) -> tuple[str, bytes | Operation]:
    """Any message to one of three shards, with or without an idempotency key."""
    label, payload = draw(st.sampled_from(["default.5", "default.6", "default.7"])), draw(st.binary(min_size=1, max_size=3))
    if draw(st.booleans()):
        return label, payload
    return label, ("I", (KEYS.mailbox(label), "record"), (payload, "digest"))


@st.composite
def turns(draw: st.DrawFn) -> Effects:
    """Any effects of a turn."""
    effects = Effects(draw(st.one_of(st.none(), st.integers(1, 99).map(lambda n: b"%d-0" % n))))
    effects.state = draw(STATES)
    if effects.state is not None:
        effects.state_key = draw(st.sampled_from(["s:a", "s:b"]))
        effects.state_ttl_ms = draw(st.sampled_from([0, 0, 500]))
    if draw(st.booleans()):
        effects.inbox, effects.call = draw(st.sampled_from(["i:1", "i:2"])), draw(st.integers(0, 9))
        effects.answer = draw(st.binary(max_size=3))
    if draw(st.booleans()):
        effects.tells = draw(st.lists(tells(), min_size=1, max_size=6))
    for number in range(draw(st.integers(0, 2))):
        operate(effects, draw(st.sampled_from("KLBbHMZPGg")), tuple(f"k{i}" for i in range(number)), number, b"x")
    return effects


BATCHES = st.lists(st.lists(turns(), max_size=5), min_size=1, max_size=4)


@given(BATCHES)
def test_every_effect_is_written_once_and_in_order(batch: list[list[Effects]]) -> None:
    """Per shard: entries, answers by inbox, tells by shard, and the rarer operations."""
    ledgers = [ledger(number, sequence=number) for number in range(len(batch))]
    parts = read(*write(list(zip(ledgers, batch, strict=True)), KEYS, LIMITS))

    assert [part[:3] for part in parts] == [(each.label, each.token, each.following) for each in ledgers]
    for part, effects, own in zip(parts, batch, ledgers, strict=True):
        entries = [each.entry for each in effects if each.entry is not None]
        assert [(keys, args) for code, keys, args in part.operations if code == "D"] == ([([own.mailbox], entries)] if entries else [])

        answers: dict[str, list[Any]] = defaultdict(list)
        for each in effects:
            if each.inbox is not None:
                answers[each.inbox] += [each.call, each.answer]
        assert {keys[0]: args for code, keys, args in part.operations if code == "R"} == answers

        assert sent(part) == told(effects)

        rarer = [(code, list(keys), list(args)) for each in effects for code, keys, args in each.operations or ()]
        assert [operation for operation in part.operations if operation[0] in "KLBbHMZPGg"] == rarer


def told(effects: list[Effects]) -> dict[str, list[bytes]]:
    """Return what the turns send to each mailbox, in order."""
    tells: dict[str, list[bytes]] = defaultdict(list)
    for each in effects:
        for label, message in each.tells or ():
            tells[KEYS.mailbox(label)].append(message if isinstance(message, bytes) else message[2][0])
    return tells


def sent(part: Part) -> dict[str, list[bytes]]:
    """Return what a part sends to each mailbox, in order."""
    tells: dict[str, list[bytes]] = defaultdict(list)
    for code, keys, args in part.operations:
        if code == "T":
            assert (keys[1:], args[:2]) == ([KEYS.dead, KEYS.dead_lost, KEYS.backlogs], [7, 9])
            assert keys[0] == KEYS.mailbox(args[2])
            tells[keys[0]] += args[3:]
        elif code == "I":
            tells[keys[0]].append(args[0])
    return tells


@given(BATCHES)
def test_the_last_state_of_a_key_is_the_one_that_is_written(batch: list[list[Effects]]) -> None:
    """Each key once: set, set to expire, or deleted."""
    for effects in batch:
        ((_, _, _, operations),) = read(*write([(ledger(), effects)], KEYS, LIMITS))
        written: dict[str, Any] = {}
        for code, keys, args in operations:
            if code == "S":
                assert not written.keys() & set(keys)
                written |= dict(zip(keys, args, strict=True))
            elif code == "X":
                written[keys[0]] = tuple(args)
            elif code == "E":
                written[keys[0]] = CLEARED

        last = {each.state_key: each for each in effects if each.state is not None}
        assert written == {
            key: CLEARED if each.state is CLEARED else (each.state, each.state_ttl_ms) if each.state_ttl_ms else each.state
            for key, each in last.items()
        }


def test_handled_entries_go_first() -> None:
    """The commit begins with what frees memory, and a shard's own tells find the room that this makes."""
    effects = Effects(b"1-0")
    effects.state_key, effects.state = "s:a", b"S"
    effects.tells = [("default.0", b"t")]
    operate(effects, "Z", ("d",), "x")
    ((_, _, _, operations),) = read(*write([(ledger(), [effects])], KEYS, LIMITS))

    assert [code for code, _, _ in operations] == ["D", "S", "Z", "T"]


@given(st.integers(0, 10**9))
def test_a_commit_leads_to_the_next_place_in_the_sequence(sequence: int) -> None:
    """Nothing else of the record changes."""
    place = ledger(sequence=sequence)

    assert place.token == TOKEN.format(sequence)
    assert place.following == TOKEN.format(sequence + 1)
    assert place.token.startswith(place.holder)


@pytest.mark.parametrize("token", ["", "a b c", "00000000000000aa 17 x 0 0-0"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    """It would be compared with a record it can never equal."""
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        Ledger("default.0", "m", token)
