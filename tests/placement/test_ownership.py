"""What a runner does about each shard, as a table and as laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._placement.ownership import UNOWNED, Plan, Record, plan
from actors.ids import ShardId

ME, OTHER = "a" * 16, "b" * 16
S = ShardId("default", 7)
MINE = Record.parse(f"{ME} 100 5 0 3-1")
MINE_LATER = Record.parse(f"{ME} 200 0 0 3-1")
FREE = Record.parse("- 90 0 1 3-1")
THEIRS = Record.parse(f"{OTHER} 100 5 0 0-0")


def test_a_record_reads_as_it_was_written() -> None:
    assert Record(ME, "100", 5, False, "3-1", f"{ME} 100 5 0 3-1") == MINE
    assert FREE.owner is None
    assert FREE.clean
    assert Record.parse("") is UNOWNED


@pytest.mark.parametrize("text", ["x", "- 1 0 1", f"{ME} 1 x 0 0-0", "- 1 0 1 0-0 more"])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Record.parse(text)


ACQUIRE, DRAIN, RELEASE, LOST, WAITING, LOST_THEN_ACQUIRE, LOST_THEN_WAIT, NOTHING = range(8)


def expected(outcome: int, record: Record) -> Plan:
    match outcome:
        case 0:
            return Plan(acquire=((S, record),))
        case 1:
            return Plan(drain=(S,))
        case 2:
            return Plan(release=((S, record),))
        case 3:
            return Plan(lost=(S,))
        case 4:
            return Plan(waiting=(S,))
        case 5:
            return Plan(lost=(S,), acquire=((S, record),))
        case 6:
            return Plan(lost=(S,), waiting=(S,))
        case _:
            return Plan()


@pytest.mark.parametrize(
    ("record", "wanted", "held", "other_dead", "outcome"),
    [
        # nobody's
        (UNOWNED, True, None, False, ACQUIRE),
        (FREE, True, None, False, ACQUIRE),
        (FREE, False, None, False, NOTHING),
        # somebody's
        (THEIRS, True, None, False, WAITING),
        (THEIRS, True, None, True, ACQUIRE),
        (THEIRS, False, None, True, NOTHING),
        # ours
        (MINE, True, "100", False, NOTHING),
        (MINE, False, "100", False, DRAIN),
        # ours, of an acquire whose answer was lost
        (MINE, True, None, False, ACQUIRE),
        (MINE, False, None, False, RELEASE),
        # held, and not ours any more
        (THEIRS, False, "100", False, LOST),
        (THEIRS, True, "100", False, LOST_THEN_WAIT),
        (THEIRS, True, "100", True, LOST_THEN_ACQUIRE),
        (FREE, True, "100", False, LOST_THEN_ACQUIRE),
        (UNOWNED, True, "100", False, LOST_THEN_ACQUIRE),
        (UNOWNED, False, "100", False, LOST),
        # held in an epoch that a lost acquire of our own has ended
        (MINE_LATER, True, "100", False, LOST_THEN_ACQUIRE),
    ],
)
def test_what_is_done_about_a_shard(record: Record, *, wanted: bool, held: str | None, other_dead: bool, outcome: int) -> None:
    done = plan(
        me=ME,
        wanted={S} if wanted else set(),
        records={S: record},
        dead={OTHER} if other_dead else set(),
        held={S: held} if held else {},
    )

    assert done == expected(outcome, record)


def test_a_lost_epoch_of_ones_own_is_given_back_when_it_is_not_wanted() -> None:
    done = plan(me=ME, wanted=set(), records={S: MINE_LATER}, dead=set(), held={S: "100"})

    assert done == Plan(lost=(S,), release=((S, MINE_LATER),))


shards = st.integers(0, 5).map(lambda index: ShardId("default", index))
records = st.sampled_from([UNOWNED, FREE, THEIRS, MINE, MINE_LATER])


@given(
    wanted=st.sets(shards),
    seen=st.dictionaries(shards, records),
    held=st.dictionaries(shards, st.sampled_from(["100", "200", "300"])),
    dead=st.sampled_from([set[str](), {OTHER}]),
    draining=st.sets(shards),
)
def test_laws_of_every_plan(
    wanted: set[ShardId], seen: dict[ShardId, Record], held: dict[ShardId, str], dead: set[str], draining: set[ShardId]
) -> None:
    done = plan(me=ME, wanted=wanted, records=seen, dead=dead, held=held, draining=draining)
    acquired = {shard for shard, _ in done.acquire}
    released = {shard for shard, _ in done.release}

    assert (acquired | released | set(done.lost) | set(done.drain) | set(done.waiting)).isdisjoint(draining)
    assert acquired <= wanted
    assert wanted.isdisjoint(released | set(done.drain))
    assert all(seen[shard].owner not in {OTHER} - dead for shard in acquired), "nothing is taken from the living"
    assert all(seen[shard].owner == ME for shard in released), "nothing of others is given away"
    kept = held.keys() - set(done.lost) - set(done.drain)
    assert acquired.isdisjoint(kept), "nothing is taken that is held"
    owned_after = kept | acquired
    mine = {shard for shard, record in seen.items() if record.owner == ME and shard not in draining}
    assert mine <= owned_after | released | set(done.drain), "no record of ours is left standing that we do not hold"
