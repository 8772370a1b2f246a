"""Names: shards are found by everyone alike, ids are never drawn twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ids import ActorAddress, IdSource, RunnerId, ShardId, check_key, new_incarnation, shard_of

GROUPS = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)


class StepClock:
    """A wall clock that shows the given times in turn, the last one for ever."""

    def __init__(self, *times: float) -> None:
        self._times = list(times)

    def time(self) -> float:
        return self._times.pop(0) if len(self._times) > 1 else self._times[0]


@given(group=GROUPS, index=st.integers(0, 1 << 16))
def test_a_label_names_its_shard(group: str, index: int) -> None:
    shard = ShardId(group, index)

    assert ShardId.parse(shard.label) == shard


@pytest.mark.parametrize("label", ["", "default", "default.", ".3", "default.-1", "default.x", "default.03", "default.٣"])
def test_what_is_no_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="is not a shard"):
        ShardId.parse(label)


@pytest.mark.parametrize(
    ("actor_type", "key", "index"),
    [("Account", "alice", 156), ("Account", "bob", 163), ("Order", "alice", 107), ("A", "\0", 32), ("A", "{x}:é🙂", 124)],
)
def test_the_hash_never_changes(actor_type: str, key: str, index: int) -> None:
    """Another one would look for stored states in other shards: these values are recorded for good."""
    assert shard_of(actor_type, key, 256, "default") == ShardId("default", index)


def test_actors_spread_over_all_shards() -> None:
    shards = Counter(shard_of("Account", f"user-{n}", 64, "default").index for n in range(64_000))

    assert len(shards) == 64
    assert max(shards.values()) < 1_200


@given(st.text(min_size=1, max_size=256))
def test_any_text_is_a_key(text: str) -> None:
    """Spaces, slashes, braces, NUL: four bytes a character at most, so 256 always fit."""
    assert check_key(text) == text


@pytest.mark.parametrize(
    ("key", "said"),
    [("", "empty"), ("x" * 1025, "1,024"), ("é" * 513, "1,026"), ("a\ud800", "surrogate")],
)
def test_what_is_no_key_is_refused(key: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_key(key)


def test_a_key_is_a_text() -> None:
    with pytest.raises(TypeError, match="a str, not int"):
        check_key(3)


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=50))
def test_ids_of_one_source_increase_whatever_the_clock_does(times: list[float]) -> None:
    source = IdSource(StepClock(*times), Random(1))

    ids = [source.next() for _ in times]

    assert ids == sorted(set(ids))
    assert {len(text) for text in ids} == {26}
    assert not set("".join(ids)) - set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_ids_of_different_sources_sort_by_time() -> None:
    early, late = IdSource(StepClock(1_000.0), Random(1)), IdSource(StepClock(1_000.001), Random(2))

    assert max(early.next() for _ in range(1000)) < min(late.next() for _ in range(1000))


def test_ids_go_on_past_a_million_in_one_millisecond() -> None:
    source = IdSource(StepClock(5.0), Random(1))

    last = ""
    for _ in range((1 << 20) + 5):
        drawn = source.next()
        assert drawn > last
        last = drawn


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_repeat_its_parents_ids() -> None:
    """It has a copy of the counter and of the random source, so that it has to draw anew."""
    program = """
import os, sys
from random import Random
from actors.clock import SystemClock
from actors.ids import IdSource
source = IdSource(SystemClock(), Random(7))
source.next()
reader, writer = os.pipe()
if not os.fork():
    os.write(writer, source.next()[10:].encode())
    os._exit(0)
os.wait()
print(source.next()[10:], os.read(reader, 100).decode())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())

    mine, childs = done.stdout.split()
    assert mine != childs


def test_an_incarnation_is_16_hex_digits() -> None:
    assert new_incarnation(Random(1)) != new_incarnation(Random(2))
    assert int(new_incarnation(Random(1)), 16) < 1 << 64
    assert len(new_incarnation(Random(1))) == 16


def test_names_read_well() -> None:
    shown = [str(ActorAddress("Account", "alice")), str(ShardId("default", 3)), str(RunnerId("web-0", "00ff"))]

    assert shown == ["Account/alice", "default.3", "web-0:00ff"]
