"""Which shard an actor lives in, as a sender finds it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from actors.ids import shard_of

if TYPE_CHECKING:
    from actors.actor import ActorSpec

_REMEMBERED = 50_000
"""Actors whose shard is remembered: finding it costs three times as much as looking it up."""


class Shards:
    """The shards of a system's actors, once their number is known."""

    def __init__(self, specs: Mapping[str, ActorSpec]) -> None:
        self._specs = specs
        self._labels: dict[str, list[str]] = {}
        self._found: dict[tuple[str, str], str] = {}
        self._most = 0

    def learn(self, counts: Mapping[str, int]) -> None:
        """Take in how many shards each group has."""
        for group, count in counts.items():
            self._labels[group] = _labels(group, count)
        self._found.clear()
        self._most = max((len(labels) for labels in self._labels.values()), default=0)

    @property
    def known(self) -> bool:
        """Whether the numbers of shards are known yet."""
        return bool(self._labels)

    def label(self, actor_type: str, key: str) -> str:
        """Return the label of an actor's shard. Ask only once they are :attr:`known`."""
        label = self._found.get((actor_type, key))
        if label is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            label = self._found[actor_type, key] = self._find(actor_type, key)
        return label

    def _find(self, actor_type: str, key: str) -> str:
        spec = self._specs.get(actor_type)
        group = spec.shard_group if spec is not None else "default"
        labels = self._labels.get(group)
        if labels is None:
            # A group that no runner has served yet has as many shards as the others.
            labels = self._labels[group] = _labels(group, self._most)
        return labels[shard_of(actor_type, key, len(labels), group).index]


def _labels(group: str, count: int) -> list[str]:
    return [f"{group}.{index}" for index in range(count)]
