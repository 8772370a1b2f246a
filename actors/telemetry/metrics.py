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
MAILBOX_DEPTH: Final = Metric("actors_mailbox_depth", "gauge", "Messages waiting in the mailboxes of this runner's shards.", "group")
BACKLOG_DEPTH: Final = Metric("actors_backlog_depth", "gauge", "Messages waiting in backlogs of held actors of this runner's shards.")
HELD_ACTORS: Final = Metric("actors_held_actors", "gauge", "Actors that run from their backlog.")
OLDEST_AGE: Final = Metric("actors_oldest_message_age_seconds", "gauge", "Age of the oldest message that waits in this runner's mailboxes.")
TIMERS_PENDING: Final = Metric("actors_timers_pending", "gauge", "Delayed messages that wait for their time.")
RESIDENT_ACTORS: Final = Metric("actors_resident_actors", "gauge", "Actors in memory.", "actor")
TURNS_RUNNING: Final = Metric("actors_turns_running", "gauge", "Turns that have begun and not ended.")
PENDING_ASKS: Final = Metric("actors_pending_asks", "gauge", "Asks of this process that wait for their reply.")
LEASE_LEFT: Final = Metric("actors_lease_left_seconds", "gauge", "Time until this runner would stop on its own without another renewal.")
LOOP_LAG_MAX: Final = Metric("actors_loop_lag_max_seconds", "gauge", "Longest lag of the event loop since the last scrape.")
COMMANDS_SENT: Final = Metric("actors_redis_commands_total", "counter", "Commands sent to Redis; a script is one.", "purpose")
BYTES_SENT: Final = Metric("actors_redis_bytes_sent_total", "counter", "Bytes sent to Redis.", "purpose")
BYTES_RECEIVED: Final = Metric("actors_redis_bytes_received_total", "counter", "Bytes received from Redis.", "purpose")
SEND_BATCHES: Final = Metric("actors_send_batches_total", "counter", "Send scripts acknowledged; one carries the sends of many callers.")
DEAD_LETTERS_KEPT: Final = Metric("actors_dead_letters_kept", "gauge", "Dead letters of the whole system.")
PARKED: Final = Metric("actors_parked_messages", "gauge", "Messages that no running runner can handle, of the whole system.")
