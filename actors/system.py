"""The composition root: an application's actor types, and what is built from them.

An :class:`ActorSystem` is pure: constructing it and registering classes does no I/O and
reads nothing. Connecting or running reads the environment, checks the settings once,
and puts stores, channels and services together; nothing else in the package does.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, overload

import msgspec

from actors._redis.connection import Server, TcpServer
from actors._redis.keys import Keys
from actors.actor import Actor, ActorSpec, actor_options, actor_spec
from actors.client import Client, ConnectedClient
from actors.clock import Clock, SystemClock
from actors.errors import ConfigurationError
from actors.message import A
from actors.settings import Settings, from_environment
from actors.telemetry.hooks import Telemetry
from actors.telemetry.logs import EventLog
from actors.telemetry.recorder import Recorder
from actors.telemetry.tracing import tracer

if TYPE_CHECKING:
    from actors._runner.runner import Runner
    from actors.supervision import Retry

REDIS_URL = "ACTORS_REDIS_URL"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ActorSystem:
    """One application: a name, its actor types, its settings."""

    def __init__(self, name: str, *, redis: str | None = None, postgres: str | None = None, settings: Settings | None = None) -> None:
        """Make a system. Nothing is connected or read.

        ``redis`` and ``postgres``: URLs; ``None`` is read from ``ACTORS_REDIS_URL`` and
        ``ACTORS_POSTGRES_URL`` when something connects or runs. ``settings``: what the
        application sets; ``ACTORS_…`` variables and command-line flags go before it.
        Raises :class:`~actors.errors.ConfigurationError` for a name that cannot be a key prefix.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                setting="system name",
                problem=f"is {name!r}, but it is the prefix of every key in Redis",
                hint="use 1 to 64 letters, digits, _ . and -",
            )
        self.name = name
        self.redis = redis
        self.postgres = postgres
        self.settings = settings or Settings()
        self._specs: dict[str, ActorSpec] = {}

    @property
    def actors(self) -> Mapping[str, ActorSpec]:
        """The registered actor types, by name."""
        return self._specs

    @overload
    def actor(self, cls: type[A], /) -> type[A]: ...
    @overload
    def actor(
        self,
        *,
        name: str | None = None,
        idle_timeout: timedelta | float | None = None,
        mailbox_capacity: int | None = None,
        concurrency: int | None = None,
        retry: Retry | None = None,
        turn_timeout: timedelta | float | None = None,
        state_version: int = 1,
        state_ttl: timedelta | float | None = None,
        shard_group: str = "default",
    ) -> Callable[[type[A]], type[A]]: ...
    def actor(self, cls: Any = None, **options: Any) -> Any:
        """Register an actor class. Use it as ``@system.actor`` or ``@system.actor(…)``.

        ``name``: what it is called on the wire, the class name by default. ``idle_timeout``:
        seconds without a message before an actor is deactivated. ``mailbox_capacity``:
        messages of one actor kept in memory. ``concurrency``: turns of one actor that may
        overlap, for ``Actor[None]`` only. ``retry``: what happens after a defect.
        ``turn_timeout``: bound of one turn. ``state_version``: raised with a change of the
        state that old code cannot read; ``migrate`` upgrades. ``state_ttl``: the state is
        deleted this long after its last change. ``shard_group``: runners that take it.

        Raises ``TypeError`` or :class:`~actors.errors.ConfigurationError` saying what is wrong with the class.
        """
        localns = sys._getframe(1).f_locals  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - annotations may name them

        def register(decorated: type[Actor[Any]]) -> type[Actor[Any]]:
            return self._register(decorated, localns, **options)

        return register if cls is None else register(cls)

    def _register(
        self,
        cls: type[Actor[Any]],
        localns: Mapping[str, Any],
        *,
        name: str | None = None,
        shard_group: str = "default",
        **options: Any,
    ) -> type[Actor[Any]]:
        spec = actor_spec(cls, actor_options(**options), localns, name=name, shard_group=shard_group)
        other = self._specs.get(spec.name)
        if other is not None and other.cls is not cls:
            raise ConfigurationError(
                setting=f"actor type {spec.name}",
                problem=f"is registered twice: {other.cls.__module__}.{other.cls.__qualname__} and {cls.__module__}.{cls.__qualname__}",
                hint="give one of them another name with @system.actor(name=…)",
            )
        self._specs[spec.name] = spec
        return cls

    def connect(self, url: str | None = None) -> Client:
        """Return a client, to be used as an async context manager.

        Entering it raises :class:`~actors.errors.PersistenceFailed` where Redis cannot be reached.
        """
        settings = from_environment(self.settings, os.environ)
        return self.build_client(TcpServer.from_url(self.redis_url(url)), settings=settings)

    def runner(self, url: str | None = None, *, name: str | None = None, settings: Settings | None = None) -> Runner:
        """Return a runner inside this process, to be used as an async context manager.

        ``settings`` go before the system's and the environment's. ``name``: unique among
        the live runners of the system; the host's name by default.
        """
        chosen = settings if settings is not None else from_environment(self.settings, os.environ)
        server = TcpServer.from_url(self.redis_url(url))
        return self.build_runner(server, settings=chosen, name=name or chosen.name_of_runner)

    def redis_url(self, url: str | None = None) -> str:
        """Return the URL to use: the one given, the system's, or the environment's."""
        found = url or self.redis or os.environ.get(REDIS_URL)
        if not found:
            raise ConfigurationError(
                setting=REDIS_URL,
                problem=f"is not set, and system {self.name} names no Redis",
                hint=f"set it to redis://host:6379, or pass redis=… to ActorSystem({self.name!r})",
            )
        return found

    # with every seam given, for the test kit and the command line

    def build_client(
        self,
        server: Server,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        telemetry: Telemetry | None = None,
    ) -> ConnectedClient:
        """Return a client on ``server``."""
        return ConnectedClient(
            server,
            Keys(self.name),
            settings or self.settings,
            self._specs,
            clock=clock or SystemClock(),
            random=random or SystemRandom(),
            telemetry=telemetry or Recorder(tracer=tracer()),
        )

    def build_runner(
        self,
        server: Server,
        *,
        name: str,
        settings: Settings | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        telemetry: Telemetry | None = None,
        strict: bool = False,
        http: str = "",
    ) -> Runner:
        """Return a runner on ``server``. ``strict``: check that ``read_only`` turns change nothing."""
        from actors._runner.runner import Runner  # noqa: PLC0415 - a client needs none of it

        return Runner(
            server=server,
            system=self.name,
            specs=dict(self._specs),
            settings=settings or self.settings,
            name=name,
            clock=clock or SystemClock(),
            random=random or SystemRandom(),
            telemetry=telemetry or Recorder(tracer=tracer(), sinks=[EventLog()]),
            strict=strict,
            http=http,
        )

    def __repr__(self) -> str:
        return f"ActorSystem({self.name!r}, {len(self._specs)} actor types)"


def replaced(settings: Settings, **changes: Any) -> Settings:
    """Return ``settings`` with some of them changed, checked again."""
    return msgspec.structs.replace(settings, **{name: value for name, value in changes.items() if value is not None})
