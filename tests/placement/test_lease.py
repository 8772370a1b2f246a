"""How long a runner trusts itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._placement.lease import Lease, Progress, Renew, Silent, Wait, next_step, terms

TERMS = terms(10.0)


class Now:
    """A clock set by hand."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def lease_at(now: Now, asked: float) -> Lease:
    lease = Lease(now, TERMS)
    lease.granted(asked=asked, unbroken=False)
    lease.resume()
    return lease


@pytest.mark.parametrize("seconds", [0.5, 1.0, 10.0, 60.0])
def test_two_renewals_can_fail_before_trust_ends(seconds: float) -> None:
    it = terms(seconds)

    assert it.margin > 0
    assert 2 * it.renew_every + it.timeout + it.retry_every < it.ttl - it.margin
    assert it.renew_every < it.watch, "a newcomer must not mistake a healthy holder for a dead one"
    assert it.renew_every + it.silence < it.ttl - it.margin


def test_trust_is_counted_from_before_the_renewal_was_sent() -> None:
    """A slow round trip shortens the lease. Else it would last past the moment Redis gives the shards away."""
    now = Now(3.0)
    lease = lease_at(now, asked=0.0)

    assert lease.until == TERMS.ttl - TERMS.margin
    assert lease.remaining == TERMS.ttl - TERMS.margin - 3.0


def test_a_new_lease_is_not_trusted() -> None:
    assert not Lease(Now(), TERMS).trusted()
    assert Lease(Now(), TERMS).remaining == 0.0


def test_trust_ends_by_the_clock_alone() -> None:
    now = Now()
    lease = lease_at(now, asked=0.0)
    now.at = 8.999
    assert lease.trusted()
    now.at = 9.0

    assert not lease.trusted()


def test_a_renewal_in_time_prolongs_trust() -> None:
    now = Now()
    lease = lease_at(now, asked=0.0)
    now.at = 4.0

    assert lease.granted(asked=3.5, unbroken=True)
    assert lease.until == 12.5


def test_an_earlier_answer_that_comes_late_shortens_nothing() -> None:
    now = Now()
    lease = lease_at(now, asked=0.0)
    lease.granted(asked=5.0, unbroken=True)
    lease.granted(asked=4.0, unbroken=True)

    assert lease.until == 14.0


def test_an_answer_after_the_deadline_is_only_an_offer() -> None:
    now = Now()
    lease = lease_at(now, asked=0.0)
    now.at = 9.5

    assert not lease.granted(asked=8.5, unbroken=True)
    assert not lease.trusted()
    assert lease.offered
    assert lease.resume()
    assert lease.until == 17.5


def test_a_key_that_had_been_gone_ends_trust_though_there_was_time_left() -> None:
    """Somebody may have taken shards meanwhile: Redis lost its memory, or its clock jumped."""
    now = Now()
    lease = lease_at(now, asked=0.0)
    now.at = 3.0

    assert not lease.granted(asked=2.5, unbroken=False)
    assert not lease.trusted()
    assert lease.offered


def test_an_offer_that_nobody_took_in_time_is_worth_nothing() -> None:
    now = Now()
    lease = lease_at(now, asked=0.0)
    lease.granted(asked=1.0, unbroken=False)
    now.at = 11.0

    assert not lease.offered
    assert not lease.resume()
    assert not lease.trusted()


def test_an_ended_lease_is_not_trusted_and_offers_nothing() -> None:
    lease = lease_at(Now(), asked=0.0)
    lease.granted(asked=1.0, unbroken=False)
    lease.end()

    assert not lease.trusted()
    assert not lease.resume()
    assert not lease.granted(asked=2.0, unbroken=False)
    assert not lease.offered


calls = st.lists(
    st.tuples(st.floats(0, 12), st.floats(0, 6), st.sampled_from(["in time", "gone", "resume", "nothing"])),
    max_size=12,
)


@given(calls=calls)
def test_trust_never_outlives_the_key(calls: list[tuple[float, float, str]]) -> None:
    """Whatever comes late: trusted means that some renewal was sent less than a lease ago, and Redis had the key since."""
    now = Now()
    lease = Lease(now, TERMS)
    newest = float("-inf")
    for pause, round_trip, what in calls:
        asked = now.at + pause
        now.at = asked + round_trip
        if what == "in time":
            lease.granted(asked=asked, unbroken=True)
            newest = asked
        elif what == "gone":
            lease.granted(asked=asked, unbroken=False)
            newest = asked
            assert not lease.trusted()
        elif what == "resume":
            lease.resume()

        assert not lease.trusted() or now.at < newest + TERMS.ttl - TERMS.margin


# when to renew


def test_the_first_renewal_is_due_after_a_while() -> None:
    assert next_step(Progress(0.0, 0.0), now=1.0, ticked=1.0, terms=TERMS) == Wait(1.5)
    assert next_step(Progress(0.0, 0.0), now=2.5, ticked=2.5, terms=TERMS) == Renew()


def test_without_an_answer_the_next_one_comes_sooner() -> None:
    failing = Progress(0.0, 0.0).sent(2.5)

    assert next_step(failing, now=2.75, ticked=2.75, terms=TERMS) == Wait(0.25)
    assert next_step(failing, now=3.0, ticked=3.0, terms=TERMS) == Renew()


def test_an_answer_counts_from_when_its_renewal_was_sent() -> None:
    progress = Progress(0.0, 0.0).sent(2.5).answered()

    assert progress == Progress(2.5, 2.5)
    assert next_step(progress, now=4.0, ticked=4.0, terms=TERMS) == Wait(1.0)


def test_a_silent_loop_is_not_renewed_for() -> None:
    """It cannot serve its shards; somebody else must be able to."""
    progress = Progress(0.0, 0.0)

    assert next_step(progress, now=3.0, ticked=1.5, terms=TERMS) == Renew()
    assert next_step(progress, now=3.0, ticked=0.5, terms=TERMS) == Silent(2.5)
