"""What tests of actors are written with: a whole cluster inside one test, in virtual time."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.testing.cluster import ActorCluster as ActorCluster
    from actors.testing.cluster import Leaked as Leaked
    from actors.testing.cluster import NotSettled as NotSettled
    from actors.testing.cluster import TestCluster as TestCluster
    from actors.testing.cluster import simulate as simulate
    from actors.testing.faults import Delays as Delays
    from actors.testing.faults import Disconnects as Disconnects
    from actors.testing.faults import DropsReply as DropsReply
    from actors.testing.faults import DropsRequest as DropsRequest
    from actors.testing.faults import ExecutesLate as ExecutesLate
    from actors.testing.faults import Fails as Fails
    from actors.testing.view import DeadLetter as DeadLetter

# The pytest plugin is imported wherever this package is installed: what it does not need comes at first use.
_HOMES = {
    "actors.testing.cluster": ("ActorCluster", "Leaked", "NotSettled", "TestCluster", "simulate"),
    "actors.testing.faults": ("Delays", "Disconnects", "DropsReply", "DropsRequest", "ExecutesLate", "Fails"),
    "actors.testing.view": ("DeadLetter",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ActorCluster",
    "DeadLetter",
    "Delays",
    "Disconnects",
    "DropsReply",
    "DropsRequest",
    "ExecutesLate",
    "Fails",
    "Leaked",
    "NotSettled",
    "TestCluster",
    "simulate",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'actors.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
