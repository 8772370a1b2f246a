"""Becoming a member: is the server fit, do we fit the system, is the name ours.

In this order, so that a runner which must not start has not touched anything yet.
"""

from __future__ import annotations

from actors._placement import facts
from actors._placement.lease import Terms
from actors._placement.membership import Holder, Member, renewed
from actors._placement.server import judge
from actors._placement.store import PlacementStore
from actors.clock import Clock
from actors.errors import ConfigurationError
from actors.settings import Settings
from actors.telemetry.events import DurabilityWarning
from actors.telemetry.hooks import Telemetry

_LOOKS = 20  # at the holder of a name while it is watched


async def check_server(store: PlacementStore, durability: str, telemetry: Telemetry) -> None:
    """Refuse a server that would lose data or cannot do the work; tell what may be wrong with it."""
    verdict = judge(await store.host(), durability)
    for warning in verdict.warnings:
        telemetry.emit(DurabilityWarning(problem=warning))
    if verdict.refusal is not None:
        raise verdict.refusal


async def agree(store: PlacementStore, settings: Settings) -> dict[str, int]:
    """Record what is not recorded yet, or refuse to be a member that does not fit. Returns the shards of each group."""
    own = facts.expected(shards=settings.shards, groups=settings.shard_groups, slot_groups=settings.slot_groups)
    recorded = await store.facts()
    if facts.misfit(recorded, own) is None and facts.missing(recorded, own):
        recorded = await store.record_facts(facts.missing(recorded, own))
    problem = facts.misfit(recorded, own)
    if problem is not None:
        raise problem
    return facts.shard_counts(recorded)


async def take_name(store: PlacementStore, member: Member, *, terms: Terms, clock: Clock) -> float:
    """List ``member`` and give it a lease; return when that was asked, by the boot clock.

    A holder of the name is watched for one renewal interval. Raises
    :class:`~actors.errors.ConfigurationError` naming it when it renews.
    """
    holder: Holder | None = None
    while True:
        asked = clock.boottime()
        if await store.register(member, lease=terms.ttl, holder=holder) is None:
            return asked
        holder = await store.holder(member.name)
        if holder is not None and holder.time_to_live > 0:
            holder = await _watch(store, member.name, holder, terms=terms, clock=clock)


async def _watch(store: PlacementStore, name: str, holder: Holder, *, terms: Terms, clock: Clock) -> Holder | None:
    """Return the holder as last seen, once a renewal interval has passed or there is no need to wait."""
    for _ in range(_LOOKS):
        await clock.sleep(terms.watch / _LOOKS)
        now = await store.holder(name)
        if renewed(holder, now):
            raise await refusal(store, name, holder.incarnation)
        if now is None or now.incarnation != holder.incarnation or now.time_to_live == 0:
            return now
        holder = now
    return holder


async def refusal(store: PlacementStore, name: str, incarnation: str) -> ConfigurationError:
    """Return the error that names who has the runner name."""
    where = next(
        (
            f" on {member.host or 'an unnamed host'}, process {member.pid}"
            for member in await store.members()
            if member.incarnation == incarnation
        ),
        "",
    )
    return ConfigurationError(
        setting="runner_name",
        problem=f"{name!r} belongs to a live runner (incarnation {incarnation}{where})",
        hint="Give every runner a name of its own with ACTORS_RUNNER_NAME or --name, or stop that one",
    )
