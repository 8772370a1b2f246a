"""Delayed messages: stored with their shard, due to the millisecond."""
