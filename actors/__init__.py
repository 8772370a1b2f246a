"""Durable virtual actors on Redis Streams."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.actor import Actor as Actor
    from actors.client import Client as Client
    from actors.context import Context as Context
    from actors.context import current_client as current_client
    from actors.context import current_context as current_context
    from actors.errors import ActivationFailed as ActivationFailed
    from actors.errors import AskTimeout as AskTimeout
    from actors.errors import CallCycle as CallCycle
    from actors.errors import CallTooDeep as CallTooDeep
    from actors.errors import ClusterError as ClusterError
    from actors.errors import ConfigurationError as ConfigurationError
    from actors.errors import DeadLettered as DeadLettered
    from actors.errors import DomainError as DomainError
    from actors.errors import Fenced as Fenced
    from actors.errors import IdempotencyConflict as IdempotencyConflict
    from actors.errors import MailboxFull as MailboxFull
    from actors.errors import MalformedMessage as MalformedMessage
    from actors.errors import PartialSend as PartialSend
    from actors.errors import PayloadTooLarge as PayloadTooLarge
    from actors.errors import PersistenceFailed as PersistenceFailed
    from actors.errors import Reason as Reason
    from actors.errors import RemoteError as RemoteError
    from actors.errors import RunnerUnavailable as RunnerUnavailable
    from actors.errors import SerializationFailed as SerializationFailed
    from actors.errors import StreamInterrupted as StreamInterrupted
    from actors.errors import Suspended as Suspended
    from actors.errors import UnknownActorType as UnknownActorType
    from actors.errors import UnknownMessage as UnknownMessage
    from actors.ids import RunnerId as RunnerId
    from actors.ids import ShardId as ShardId
    from actors.message import Bound as Bound
    from actors.message import BoundStream as BoundStream
    from actors.message import Message as Message
    from actors.message import Outgoing as Outgoing
    from actors.message import Receipt as Receipt
    from actors.message import message as message
    from actors.settings import Settings as Settings
    from actors.supervision import Retry as Retry
    from actors.system import ActorSystem as ActorSystem

# Where each public name lives. They are resolved at first use, so that `--help` starts fast.
_HOMES = {
    "actors.actor": ("Actor",),
    "actors.client": ("Client",),
    "actors.context": ("Context", "current_client", "current_context"),
    "actors.errors": (
        "ActivationFailed",
        "AskTimeout",
        "CallCycle",
        "CallTooDeep",
        "ClusterError",
        "ConfigurationError",
        "DeadLettered",
        "DomainError",
        "Fenced",
        "IdempotencyConflict",
        "MailboxFull",
        "MalformedMessage",
        "PartialSend",
        "PayloadTooLarge",
        "PersistenceFailed",
        "Reason",
        "RemoteError",
        "RunnerUnavailable",
        "SerializationFailed",
        "StreamInterrupted",
        "Suspended",
        "UnknownActorType",
        "UnknownMessage",
    ),
    "actors.ids": ("RunnerId", "ShardId"),
    "actors.message": ("Bound", "BoundStream", "Message", "Outgoing", "Receipt", "message"),
    "actors.settings": ("Settings",),
    "actors.supervision": ("Retry",),
    "actors.system": ("ActorSystem",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604 # pyright: ignore[reportUnsupportedDunderAll] - every name of _HOMES
    *_HOME_OF,
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'actors' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """``actors.message`` is a module and a function; as an attribute of the package it is the function."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system sets each submodule as an attribute of its package.
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
