"""The system whose runners these tests start as processes."""

from __future__ import annotations

from actors._redis.keys import Keys
from actors.settings import Settings
from actors.system import ActorSystem

LEASE = 1.5
"""Short, so that a takeover does not take a test's time; long against the pauses of a busy machine."""

system = ActorSystem("integration", settings=Settings(lease=LEASE, shards=32, drain_timeout=5.0))

KEYS = Keys(system.name)
"""Where the system keeps its data."""
