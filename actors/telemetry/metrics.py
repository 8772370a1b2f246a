"""The names of everything that can be watched, for scrapes and dashboards.

A name is a promise to whoever has built an alert on it. Times are seconds.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec


class Metric(msgspec.Struct, frozen=True):
    """One number, or a family of them told apart by one label."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    label: str | None = None


SHARDS_OWNED: Final = Metric("actors_shards_owned", "gauge", "Shards this runner owns.", "group")
MAILBOX_DEPTH: Final = Metric("actors_mailbox_depth", "gauge", "Messages in the mailboxes of this runner's shards, running ones included.")
BACKLOG_DEPTH: Final = Metric("actors_backlog_depth", "gauge", "Messages in backlogs of this runner's shards.")
OLDEST_AGE: Final = Metric("actors_oldest_message_age_seconds", "gauge", "Age of the oldest message in this runner's mailboxes.")
QUEUED: Final = Metric("actors_queued_messages", "gauge", "Messages read that wait for their actor's turn.")
RESIDENT_ACTORS: Final = Metric("actors_resident_actors", "gauge", "Actors in memory.")
TURNS_RUNNING: Final = Metric("actors_turns_running", "gauge", "Turns that have begun and not ended.")
STREAMS_RUNNING: Final = Metric("actors_streams_running", "gauge", "Streaming replies under way.")
PENDING_ASKS: Final = Metric("actors_pending_asks", "gauge", "Asks of this process that wait for their reply.")
LEASE_LEFT: Final = Metric("actors_lease_left_seconds", "gauge", "Time until this runner would stop on its own without another renewal.")
MEMBERS: Final = Metric("actors_members", "gauge", "Runners of the system that this one sees.")
COMMANDS_SENT: Final = Metric("actors_redis_commands_total", "counter", "Commands sent to Redis; a script is one.")
COMMITS_RETRIED: Final = Metric("actors_commits_retried_total", "counter", "Commit scripts sent again because nothing was heard of them.")
DEAD_LETTERS_KEPT: Final = Metric("actors_dead_letters_kept", "gauge", "Dead letters of the whole system.")
PARKED: Final = Metric("actors_parked_messages", "gauge", "Messages of the whole system that no running runner can handle.")
