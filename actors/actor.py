"""The base of actors, and what is known of a registered class."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol

import msgspec
from typing_extensions import TypeVar

from actors.context import Context, Turn, current
from actors.errors import ConfigurationError
from actors.ids import ActorAddress, check_key
from actors.message import A, Message, MethodSpec, Sender, seconds
from actors.ref import Ref, ref_class
from actors.wire import types
from actors.wire.codec import decoding_for
from actors.wire.state import StateCodec

if TYPE_CHECKING:
    from actors.client import Client
    from actors.supervision import Retry

S = TypeVar("S", default=None)
T = TypeVar("T")

RESERVED = frozenset(
    {
        *("state", "key", "context", "client", "deactivate", "keep_alive", "clear", "wait", "on_activate", "on_deactivate"),
        *("timer", "remind", "forget", "reminders", "transaction", "send", "migrate"),
    }
)
"""Names that no message may have: an actor's own, now or later."""

_TYPE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_GROUP_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Cell(Protocol):
    """What a live actor needs of its host."""

    def request_deactivate(self) -> None:
        """Deactivate the actor once it has nothing to do."""
        ...

    def keep_alive(self, on: bool, /) -> None:  # noqa: FBT001 - as the actor's own method
        """Keep it resident while ``on``, however idle."""
        ...

    def clear_state(self) -> None:
        """Delete the stored state with this turn's commit."""
        ...

    def wait(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        """Run a coroutine on the event loop, from a handler in a thread, and return its result."""
        ...

    def run_in_turn(self, function: Callable[[], T], /) -> Awaitable[T]:
        """Run a function in a thread, in a copy of this context. Nothing of the actor starts until it has returned."""
        ...


class Actor(Generic[S]):
    """Base of actors. ``Actor[S]`` has a durable state of type ``S``, a bare ``Actor`` has none.

    An instance is one activation of the actor in memory. An ``__init__`` of your own takes
    no arguments; what needs the state or the client goes into :meth:`on_activate`.
    """

    state: S
    """Loaded before the first message, committed with every turn."""

    __cell__: Cell
    __actor_address__: ActorAddress

    @property
    def key(self) -> str:
        """Which of its type it is."""
        return self.__actor_address__.key

    @property
    def context(self) -> Context:
        """The message being handled. ``RuntimeError`` outside of a handler."""
        return self.__turn("context").context

    @property
    def client(self) -> Client:
        """The client bound to the turn: its tells leave with the commit. ``RuntimeError`` outside of a handler."""
        return typing.cast("Client", self.__turn("client").client)

    @classmethod
    def migrate(cls, version: int, raw: Any, /) -> S:
        """Return the state that was stored as ``raw`` (plain lists, dicts and values) under an older ``state_version``."""
        raise NotImplementedError(f"{cls.__name__} has no migrate(version, raw)")

    def deactivate(self) -> None:
        """End this activation once the turn is over and nothing waits. The next message activates the actor again."""
        self.__cell__.request_deactivate()

    def keep_alive(self, on: bool, /) -> None:  # noqa: FBT001 - a switch
        """Stay in memory while ``on``, however idle. A crash or a handoff still ends the activation."""
        self.__cell__.keep_alive(on)

    def clear(self) -> None:
        """Delete the stored state with this turn's commit, whatever the turn still makes of it. The next one has a fresh state."""
        self.__cell__.clear_state()

    def wait(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        """Return what ``coroutine`` returns, from a plain ``def`` handler: ``self.wait(ref.deposit(1))``."""
        return self.__cell__.wait(coroutine)

    async def on_activate(self) -> None:
        """Run before the first message. Changes of state commit with the first turn; raising fails that message."""

    async def on_deactivate(self, reason: str) -> None:
        """Run as the last turn of an activation; not after a crash. Changes of state are committed."""

    def __turn(self, wanted: str) -> Turn:
        turn = current.get()
        if turn is None:
            raise RuntimeError(f"{type(self).__name__}.{wanted} is there inside a handler only, and none runs here")
        return turn

    def __actor_ref__(self) -> Any:
        return registered(type(self)).ref_class.make(self.__actor_address__, None)

    def __to_wire__(self) -> tuple[str, str]:
        return self.__actor_address__.type, self.__actor_address__.key

    @classmethod
    def __from_wire__(cls, value: Any) -> Any:
        match value:
            case [str() as name, str() as key]:
                check_key(key)
            case _:
                raise ValueError(f"a ref to {cls.__name__} is written as [type, key]")
        found = _registered_as(cls, name)
        if found is None:
            raise ValueError(f"a ref to {name} where {cls.__name__} is expected")
        return found.ref_class.make(ActorAddress(name, key), decoding_for.get())


class ActorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``@system.actor(…)`` set for a type; ``None`` means: as the system's setting. Times are seconds."""

    idle_timeout: float | None = None
    """Deactivated after this long without a message."""
    mailbox_capacity: int | None = None
    """Messages waiting in memory; further ones wait in Redis."""
    concurrency: int | None = None
    """Turns of one actor that may overlap. Over 1 only for an actor without state."""
    retry: Retry | None = None
    """What happens after a defect."""
    turn_timeout: float | None = None
    """A turn that takes longer is cancelled, as a defect."""
    state_version: int = 1
    """Raised with a change of the state that old code could not read; see ``migrate``."""
    state_ttl: float | None = None
    """The state is deleted this long after its last change."""


class ActorClass(msgspec.Struct, frozen=True):
    """What is known of a class under its name, whichever system it is registered with."""

    name: str
    cls: type[Actor[Any]]
    methods: dict[str, MethodSpec]
    ref_class: type[Ref]
    state_type: Any


class ActorSpec(msgspec.Struct, frozen=True):
    """One actor type of one system."""

    name: str
    cls: type[Actor[Any]]
    shard_group: str
    options: ActorOptions
    methods: dict[str, MethodSpec]
    state: StateCodec | None
    ref_class: type[Ref]

    @property
    def has_on_activate(self) -> bool:
        """Whether the class has such a hook of its own."""
        return self.cls.on_activate is not Actor.on_activate

    @property
    def has_on_deactivate(self) -> bool:
        """Whether the class has such a hook of its own."""
        return self.cls.on_deactivate is not Actor.on_deactivate

    def make(self, address: ActorAddress, cell: Cell) -> Actor[Any]:
        """Return a live actor in its cell. Its state is the host's to set; without one it is ``None``."""
        actor = self.cls.__new__(self.cls)
        actor.__actor_address__ = address
        actor.__cell__ = cell
        if self.state is None:
            actor.state = None
        actor.__init__()  # type: ignore[misc]
        return actor

    def resolve(self) -> None:
        """Build every codec now. Raises ``TypeError`` or ``NameError`` for what is wrong with an annotation."""
        for method in self.methods.values():
            method.resolve()
        if self.state is not None:
            self.state.resolve()


def actor_options(
    *,
    idle_timeout: float | timedelta | None = None,
    mailbox_capacity: int | None = None,
    concurrency: int | None = None,
    retry: Retry | None = None,
    turn_timeout: float | timedelta | None = None,
    state_version: int = 1,
    state_ttl: float | timedelta | None = None,
) -> ActorOptions:
    """Return the options, checked. ``TypeError`` or ``ValueError`` for one that makes no sense."""
    for name, number in (("mailbox_capacity", mailbox_capacity), ("concurrency", concurrency), ("state_version", state_version)):
        if number is not None and (type(number) is not int or number < 1):
            raise ValueError(f"{name} is {number!r}; it must be a whole number of at least 1")
    return ActorOptions(
        idle_timeout=seconds("idle_timeout", idle_timeout),
        mailbox_capacity=mailbox_capacity,
        concurrency=concurrency,
        retry=retry,
        turn_timeout=seconds("turn_timeout", turn_timeout),
        state_version=state_version,
        state_ttl=seconds("state_ttl", state_ttl),
    )


def actor_spec(
    cls: Any,
    options: ActorOptions | None = None,
    localns: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    shard_group: str = "default",
) -> ActorSpec:
    """Return the spec of a class that is being registered, or raise ``TypeError`` or ``ConfigurationError`` saying what is wrong with it.

    ``localns``: names that annotations may use, besides those of the module: the locals of
    the registering frame. An annotation that names something not defined yet is looked at
    again at first use.
    """
    options = options or ActorOptions()
    _check_class(cls)
    known = _known(cls, cls.__name__ if name is None else name, localns)
    if not _GROUP_NAME.fullmatch(shard_group):
        raise ConfigurationError(setting=f"shard_group of {known.name}", problem=f"is {shard_group!r}", hint="use letters, digits, - and _")
    stateless = known.state_type is type(None)
    if (options.concurrency or 1) > 1 and not stateless:
        raise ConfigurationError(
            setting=f"concurrency of {known.name}",
            problem=f"is {options.concurrency}, but turns that overlap would overwrite each other's state",
            hint="make it an Actor[None], or leave concurrency away and mark readers read_only=True",
        )
    state = None if stateless else StateCodec(known.name, known.state_type, version=options.state_version, migrate=_migration(cls))
    for resolve in [method.resolve for method in known.methods.values()] + ([] if state is None else [state.resolve]):
        try:
            resolve()
        except NameError:
            continue  # not defined yet; at first use it will be, or the error is raised there
    cls.__actor_class__ = known
    return ActorSpec(known.name, cls, shard_group, options, known.methods, state, known.ref_class)


def registered(cls: type[Any]) -> ActorClass:
    """Return what is known of an actor class. ``ConfigurationError`` if it was never registered."""
    known: ActorClass | None = cls.__dict__.get("__actor_class__")
    if known is None:
        raise ConfigurationError(
            setting=cls.__qualname__, problem="is not registered with any system", hint="decorate it with @system.actor"
        )
    return known


def make_ref(cls: type[A], key: str, sender: Sender | None) -> A:
    """Return a ref that sends through ``sender``; ``None``: through the client of the handler that uses it."""
    known = registered(cls)
    ref: A = known.ref_class.make(ActorAddress(known.name, check_key(key)), sender)
    return ref


def _known(cls: type[Actor[Any]], name: str, localns: Mapping[str, Any] | None) -> ActorClass:
    if not _TYPE_NAME.fullmatch(name):
        raise ConfigurationError(
            setting=f"name of {cls.__qualname__}", problem=f"is {name!r}", hint="use letters, digits, and _ . - after the first; not colons"
        )
    known: ActorClass | None = cls.__dict__.get("__actor_class__")
    if known is not None:
        if known.name != name:
            raise ConfigurationError(
                setting=f"name of {cls.__qualname__}",
                problem=f"is {name!r}, but it is registered as {known.name!r}",
                hint="a class has one name",
            )
        return known
    methods = _methods(cls, name, localns)
    return ActorClass(name, cls, methods, ref_class(cls, methods), _state_type(cls, localns))


def _is_actor_class(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Actor) and cls is not Actor


def _check_class(cls: Any) -> None:
    if not _is_actor_class(cls):
        raise TypeError(f"{cls!r} is not an actor class: derive it from Actor[State], or Actor[None] for one without state")
    name = cls.__qualname__
    if dataclasses.is_dataclass(cls) or hasattr(cls, "__struct_fields__") or hasattr(cls, "__attrs_attrs__"):
        raise TypeError(f"{name} is a dataclass: what is durable goes into its state, the rest into an __init__. Take the decorator away")
    if getattr(cls, "__parameters__", ()):
        raise TypeError(f"{name} is generic: register a class for a type instead, such as class IntBox({name}[int])")
    abstract: frozenset[str] = getattr(cls, "__abstractmethods__", frozenset())
    if abstract:
        raise TypeError(f"{name} is abstract: {', '.join(sorted(abstract))} is missing")
    required = [
        parameter.name
        for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]
        if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        raise TypeError(f"{name}.__init__ takes {', '.join(required)}, but an actor is made by its runner, from its key and state alone")


def _methods(cls: type[Actor[Any]], actor_type: str, localns: Mapping[str, Any] | None) -> dict[str, MethodSpec]:
    methods: dict[str, MethodSpec] = {}
    for definer in reversed(cls.__mro__):
        for name, value in vars(definer).items():
            if _is_message(value):
                declared: Message[..., Any] = value
                _check_message(declared, f"{cls.__qualname__}.{name}", name)
                methods[name] = MethodSpec(name, declared, cls, definer, actor_type=actor_type, localns=localns)
            elif name in methods:
                raise TypeError(f"{definer.__qualname__}.{name} hides the message {name}. Decorate it with @message too, or rename it")
    return methods


def _is_message(value: Any) -> bool:
    return isinstance(value, Message)


def _check_message(declared: Message[..., Any], where: str, name: str) -> None:
    if name in RESERVED:
        raise TypeError(f"{where}: {name} is a name of every actor's own and cannot be a message. Rename it")
    if name.startswith("_"):
        raise TypeError(f"{where}: a message is public, its name cannot start with an underscore")
    signature = inspect.signature(declared.function)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise TypeError(f"{where}: a message takes self first")
    for parameter in parameters[0:1] if parameters[0].kind is parameters[0].VAR_POSITIONAL else parameters[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise TypeError(
                f"{where}: {stars}{parameter.name} cannot cross the wire, where arguments go by name. Name them, or take a list or dict"
            )
        if parameter.annotation is parameter.empty:
            raise TypeError(f"{where}: parameter {parameter.name} has no annotation, which says how it is encoded")
    if signature.return_annotation is signature.empty:
        raise TypeError(f"{where} has no return annotation, which says how the reply is encoded: -> None if there is none")


def _state_type(cls: type[Actor[Any]], localns: Mapping[str, Any] | None) -> Any:
    try:
        kind = types.bindings(cls, localns)[Actor][S]
    except NameError as error:
        raise TypeError(f"{cls.__qualname__}: the type of its state is not defined yet: {error}") from None
    return type(None) if kind is None else kind


def _migration(cls: type[Actor[Any]]) -> Callable[[int, Any], Any] | None:
    return None if cls.migrate.__func__ is Actor.migrate.__func__ else cls.migrate  # type: ignore[attr-defined]


def _registered_as(cls: type[Any], name: str) -> ActorClass | None:
    """Return the class registered as ``name``, if it is ``cls`` or derived from it."""
    known: ActorClass | None = cls.__dict__.get("__actor_class__")
    if known is not None and known.name == name:
        return known
    for child in reversed(cls.__subclasses__()):
        found = _registered_as(child, name)
        if found is not None:
            return found
    return None
