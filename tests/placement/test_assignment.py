"""The record that all follow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors._placement.assignment import EMPTY, Assignment, Share, decode, eligible, encode, moves, stands, successor
from actors._placement.membership import Member
from actors.ids import ShardId


def member(name: str, *groups: str, weight: int = 1, draining: bool = False) -> Member:
    return Member(name=name, incarnation="f" * 16, groups=groups or ("default",), weight=weight, draining=draining)


def assigned(*members: Member, before: Assignment = EMPTY, **shards: int) -> Assignment:
    return successor(before, eligible(members), shards or {"default": 64})


def test_whoever_is_on_its_way_out_is_assigned_nothing() -> None:
    record = assigned(member("a"), member("b", draining=True))

    assert len(record.wanted("a")) == 64
    assert record.wanted("b") == frozenset()


def test_a_record_stands_for_its_members_weights_groups_and_shard_counts_alone() -> None:
    record = assigned(member("a"), member("b"))

    def same(*members: Member, **shards: int) -> bool:
        return stands(record, eligible(members), shards or {"default": 64})

    assert same(member("b"), member("a"))
    assert not same(member("a"))
    assert not same(member("a"), member("b"), member("c"))
    assert not same(member("a"), member("b", draining=True))
    assert not same(member("a"), member("b", weight=2))
    assert not same(member("a"), member("b", "default", "gpu"))
    assert not same(member("a"), member("b"), default=65)
    assert not same(member("a"), member("b"), default=64, gpu=8)


def test_a_new_incarnation_of_the_same_name_changes_nothing() -> None:
    """A pod that restarts takes its own shards again."""
    record = assigned(member("a"), member("b"))
    again = Member(name="a", incarnation="0" * 16)

    assert stands(record, eligible([again, member("b")]), {"default": 64})


def test_shards_of_a_group_go_to_its_members_only() -> None:
    record = assigned(member("a"), member("g", "gpu"), member("both", "default", "gpu"), default=30, gpu=9)

    assert {shard.group for shard in record.wanted("a")} == {"default"}
    assert {shard.group for shard in record.wanted("g")} == {"gpu"}
    both = record.wanted("both")
    assert sum(shard.group == "default" for shard in both) == 15
    assert sum(shard.group == "gpu" for shard in both) in {4, 5}


def test_a_group_that_nobody_takes_is_assigned_to_nobody() -> None:
    record = assigned(member("a"), default=4, gpu=4)

    assert record.owner(ShardId("gpu", 0)) is None
    assert record.of_group("gpu") == [None] * 4
    assert assigned(before=record, default=4, gpu=4).of_group("default") == [None] * 4


def test_the_next_version_keeps_owners_in_place() -> None:
    first = assigned(member("a"), member("b"))
    second = assigned(member("a"), member("b"), member("c"), before=first)

    assert (first.version, second.version) == (1, 2)
    assert moves(first, second) == 21


def test_owner_and_wanted_agree() -> None:
    record = assigned(member("a"), member("b"), member("c"))

    for name in "abc":
        assert all(record.owner(shard) == name for shard in record.wanted(name))
    assert sum(len(record.wanted(name)) for name in "abc") == 64
    assert record.owner(ShardId("default", 64)) is None
    assert record.owner(ShardId("other", 0)) is None


def test_growing_and_shrinking_groups_keep_what_they_can() -> None:
    first = assigned(member("a"), member("b"), default=10)
    grown = assigned(member("a"), member("b"), before=first, default=20)
    shrunk = assigned(member("a"), member("b"), before=grown, default=4)

    assert grown.of_group("default")[:10] == first.of_group("default")
    assert len(shrunk.of_group("default")) == 4


def test_a_record_reads_as_it_was_written() -> None:
    record = assigned(member("a", "default", "gpu"), member("b"), default=300, gpu=3)

    assert encode(record).startswith(b"1 ")
    assert decode(encode(record)) == record


def test_a_hundred_runners_and_ten_thousand_shards_take_few_bytes() -> None:
    record = assigned(*(member(f"runner-{i:03}") for i in range(100)), default=10_000)

    assert len(encode(record)) < 25_000


def test_no_record_is_version_0() -> None:
    assert decode(None) == decode(b"") == EMPTY


@given(raw=st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"7 " + tail))
def test_a_record_that_cannot_be_read_is_replaced_by_the_next_version(raw: bytes) -> None:
    before = decode(raw)
    after = assigned(member("a"), before=before)

    assert not stands(before, eligible([member("a")]), {"default": 64}) or before == after
    assert after.version == before.version + 1
    assert len(after.wanted("a")) == 64


def test_positions_beyond_the_members_own_nothing() -> None:
    odd = Assignment(version=3, members=(Share("a", 1, ("default",)),), owners={"default": b"\x01\x00\x09\x00\x00\x00\xff"})

    assert odd.of_group("default") == ["a", None, None]
    assert odd.wanted("a") == {ShardId("default", 0)}
    assert odd.owner(ShardId("default", 1)) is None
