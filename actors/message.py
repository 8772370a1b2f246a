"""Messages: what ``@message`` makes of a method, and what one does with it.

Four things come out of one declaration, by where it is looked up:

* ``Account.deposit`` — a :class:`MessageType`: the message itself, of that class;
* ``ref.deposit`` — a :class:`Bound` (or :class:`BoundStream`): the message with its
  target, to ask, tell, or hand on as an :class:`Outgoing`;
* ``self.deposit`` — a :class:`LiveBound`: calling it runs the method, in the same turn;
* the actor's :class:`MethodSpec` — what the runner needs to run it.
"""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, get_origin, overload

import msgspec

from actors.errors import StreamInterrupted
from actors.ids import ActorAddress
from actors.wire import reply, types
from actors.wire.codec import Arguments, Result, Target

if TYPE_CHECKING:
    from actors.actor import Actor
    from actors.context import Context
    from actors.supervision import Retry

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
A = TypeVar("A", bound="Actor[Any]")
A_contra = TypeVar("A_contra", bound="Actor[Any]", contravariant=True)


class Kind(Enum):
    """How a method runs."""

    COROUTINE = "coroutine"
    THREAD = "thread"
    """A plain ``def``: in a thread."""
    STREAM = "stream"
    """An async generator: a streaming reply."""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """A message is stored. ``duplicate``: its idempotency key was used before, this one was dropped."""

    message_id: str
    duplicate: bool


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``options(…)`` set for one call. ``None`` everywhere means: as by default."""

    timeout: float | None = None
    """Seconds an ask waits for its reply, or a tell for its acknowledgement."""
    idempotency_key: str | None = None
    """Calls to one actor under one key are run once, and get the same reply."""
    headers: Mapping[str, str] | None = None
    """Text that travels with the message and what is sent from its handler."""
    after: float | None = None
    """Seconds from now until it is delivered."""
    at: float | None = None
    """When it is delivered, in seconds since 1970."""


NO_OPTIONS = CallOptions()


class Outgoing(msgspec.Struct, frozen=True, eq=False):
    """A message with its target and encoded arguments, not sent yet. Equal if those and the options are equal."""

    address: ActorAddress
    method: str
    payload: bytes
    options: CallOptions
    spec: MethodSpec

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outgoing):
            return NotImplemented
        return self._identity() == other._identity() and self.options == other.options

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"<Outgoing {self.address}.{self.method}, {len(self.payload)} bytes>"

    def _identity(self) -> tuple[ActorAddress, str, bytes]:
        return self.address, self.method, self.payload


class Sender(Protocol):
    """What a ref sends through: a client, or the client of a turn."""

    def ask(self, call: Outgoing, /) -> Awaitable[bytes]:
        """Return the reply's body."""
        ...

    def tell(self, call: Outgoing, /) -> Awaitable[Receipt]:
        """Return once the message is stored."""
        ...

    def stream(self, call: Outgoing, /) -> AsyncGenerator[bytes, None]:
        """Yield the bodies of a streaming reply's items."""
        ...


class Turn(Protocol):
    """A handler being run: what :data:`current` holds inside it."""

    @property
    def context(self) -> Context:
        """What the handler may know of its message."""
        ...

    @property
    def client(self) -> Sender:
        """The client bound to it."""
        ...


current: ContextVar[Turn | None] = ContextVar("actors.current", default=None)
"""The handler this code runs in. It follows tasks, ``to_thread`` and the loop's executor."""


class MethodSpec:
    """One message of one actor class, as clients and runners use it.

    The last five attributes are functions. They are built from the method's signature at
    first use, when everything that its annotations name is defined, and only then;
    :meth:`resolve` does it at once.
    """

    __slots__ = (
        "_definer",
        "_localns",
        "_owner",
        "actor_type",
        "arguments",
        "bind",
        "decode_reply",
        "encode_args",
        "encode_reply",
        "function",
        "kind",
        "name",
        "read_only",
        "reentrant",
        "result",
        "retry",
        "start",
        "timeout",
    )

    encode_args: Callable[..., bytes]
    """``(args, kwargs, key="") -> bytes``. ``TypeError`` for a wrong call, ``SerializationFailed``, ``MalformedMessage``."""
    start: Callable[[Any, Any], Any]
    """``(actor, raw)``: decodes the arguments and calls the method. Returns its coroutine or async generator; for
    :attr:`Kind.THREAD`, the call to be made in the executor. ``MalformedMessage`` if they do not fit."""
    bind: Callable[[Any, Any], Callable[[], Any]]
    """``(actor, raw)``: decodes the arguments and returns the call."""
    encode_reply: Callable[..., bytes]
    """``(value, key="") -> bytes``: of what the method returned, or of one item it yielded. ``SerializationFailed``."""
    decode_reply: Callable[..., Any]
    """``(raw, sender=None, key="")``: the value; refs in it belong to ``sender``. ``SerializationFailed``."""

    def __init__(
        self, name: str, declared: Message[..., Any], owner: type, definer: type, *, actor_type: str, localns: Mapping[str, Any] | None
    ) -> None:
        self.name = name
        self.actor_type = actor_type
        self.kind = declared.kind
        self.read_only = declared.read_only
        self.reentrant = declared.reentrant
        self.timeout = declared.timeout
        self.retry = declared.retry
        self.function = declared.function
        self._owner = owner
        self._definer = definer
        self._localns = localns
        self.arguments: Arguments | None = None
        self.result: Result | None = None
        for function in ("encode_args", "start", "bind", "encode_reply", "decode_reply"):
            setattr(self, function, self._resolving(function))

    def resolve(self) -> None:
        """Build the codecs now. ``TypeError`` for a signature that cannot cross the wire, ``NameError`` for an unknown name in it."""
        if self.arguments is not None:
            return
        where = f"{self._owner.__qualname__}.{self.name}"
        function = inspect.unwrap(self.function)
        try:
            hints = types.hints_of(function, self._owner, self._definer, self._localns)
        except NameError as error:
            problem = f"{where}: an annotation names {error.name!r}, which is not there at run time. Import it for real"
            raise NameError(problem, name=error.name) from None
        parameters = list(inspect.signature(self.function).parameters)[1:]
        refs = [types.check(hints[name], f"{where}({name})") for name in parameters]
        returned = hints["return"]
        if get_origin(returned) in _ASYNC_ITERABLES or returned in _ASYNC_ITERABLES:
            if self.kind is Kind.COROUTINE:
                raise TypeError(f"{where}: an async def that returns {returned} without a yield. Write it as an async generator")
            returned = (*typing.get_args(returned), Any)[0]
        elif self.kind is Kind.STREAM:
            raise TypeError(f"{where}: a generator is annotated AsyncIterator[…], not {returned}")
        target = Target(self.actor_type, self.name)
        result = Result(target, returned, refs=types.check(returned, f"{where} -> …"))
        arguments = Arguments(target, self._callable(), hints, refs=any(refs))
        self.encode_args = arguments.encoder()
        self.bind = arguments.binder()
        self.start = self.bind if self.kind is Kind.THREAD else arguments.starter()
        self.encode_reply = result.encoder()
        self.decode_reply = result.decoder()
        self.arguments, self.result = arguments, result
        self._localns = None

    def _callable(self) -> Callable[..., Any]:
        function: Callable[..., Any] = self.function
        if self.kind is not Kind.COROUTINE or inspect.iscoroutinefunction(function):
            return function
        return _as_coroutine(function)

    def _resolving(self, name: str) -> Callable[..., Any]:
        def first_use(*args: Any, **kwargs: Any) -> Any:
            self.resolve()
            return getattr(self, name)(*args, **kwargs)

        return first_use

    def __repr__(self) -> str:
        return f"<MethodSpec {self.actor_type}.{self.name}>"


_ASYNC_ITERABLES: tuple[Any, ...] = (AsyncIterator, AsyncGenerator, AsyncIterable)


class Bound(msgspec.Struct, Generic[P, R_co], frozen=True, eq=False):
    """A message with its target. Calling it asks; the call's arguments are encoded there and then."""

    spec: MethodSpec
    address: ActorAddress
    sender: Sender | None
    chosen: CallOptions = NO_OPTIONS

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, R_co]:
        """Ask: send the message and wait for its reply.

        Raises the handler's domain error, or a :class:`~actors.errors.ClusterError`. A caller
        that is cancelled cancels the call.
        """
        return self._ask(self.message(*args, **kwargs))

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, Receipt]:
        """Send the message; it is durable once this returns. In a handler it leaves with the turn's commit."""
        return _tell(self.sender or sender_of(self.address), self.message(*args, **kwargs))

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Outgoing:
        """Return the message, to be sent with others by ``client.send``."""
        address = self.address
        return Outgoing(address, self.spec.name, self.spec.encode_args(args, kwargs, address.key), self.chosen, self.spec)

    @overload
    def options(
        self, *, timeout: float | timedelta | None = None, idempotency_key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Bound[P, R_co]: ...
    @overload
    def options(
        self,
        *,
        after: float | timedelta,
        timeout: float | timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Delayed[P]: ...
    @overload
    def options(
        self,
        *,
        at: datetime,
        timeout: float | timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Delayed[P]: ...
    def options(self, **options: Any) -> Bound[P, R_co] | Delayed[P]:
        """Return the message with options for its calls; those set before stay.

        With ``after`` (seconds or a timedelta) or ``at`` (a datetime with a time zone) it
        is delivered later, and can only be told.
        """
        chosen = _chosen(self.chosen, options)
        if chosen.after is None and chosen.at is None:
            return Bound(self.spec, self.address, self.sender, chosen)
        return Delayed(self.spec, self.address, self.sender, chosen)

    async def _ask(self, outgoing: Outgoing) -> R_co:
        sender = self.sender or sender_of(self.address)
        value: R_co = reply.decode(await sender.ask(outgoing), self.spec, sender, self.address.key)
        return value


class Delayed(msgspec.Struct, Generic[P], frozen=True, eq=False):
    """A message with its target that is delivered later."""

    spec: MethodSpec
    address: ActorAddress
    sender: Sender | None
    chosen: CallOptions

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, Receipt]:
        """Send the message; it is durable once this returns, and delivered when it is due."""
        return _tell(self.sender or sender_of(self.address), self.message(*args, **kwargs))

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Outgoing:
        """Return the message, to be sent with others by ``client.send``."""
        return Outgoing(self.address, self.spec.name, self.spec.encode_args(args, kwargs, self.address.key), self.chosen, self.spec)

    if not TYPE_CHECKING:  # type checkers refuse the call by themselves

        def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
            """Refuse: nothing can wait for it."""
            raise TypeError(f"{self.address.type}.{self.spec.name} with after= or at= has no reply to wait for: send it with .tell(…)")

    def options(
        self, *, timeout: float | timedelta | None = None, idempotency_key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Delayed[P]:
        """Return the message with more options."""
        chosen = _chosen(self.chosen, {"timeout": timeout, "idempotency_key": idempotency_key, "headers": headers})
        return Delayed(self.spec, self.address, self.sender, chosen)


class BoundStream(msgspec.Struct, Generic[P, R_co], frozen=True, eq=False):
    """A message with a streaming reply, with its target: ``async for item in ref.prices(…)``."""

    spec: MethodSpec
    address: ActorAddress
    sender: Sender | None
    chosen: CallOptions = NO_OPTIONS

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R_co, None]:
        """Ask, and yield the items as they come. Closing it early frees the producer."""
        payload = self.spec.encode_args(args, kwargs, self.address.key)
        return self._items(Outgoing(self.address, self.spec.name, payload, self.chosen, self.spec))

    def options(self, *, timeout: float | timedelta | None = None, headers: Mapping[str, str] | None = None) -> BoundStream[P, R_co]:
        """Return the message with options. ``timeout`` is for each item."""
        return BoundStream(self.spec, self.address, self.sender, _chosen(self.chosen, {"timeout": timeout, "headers": headers}))

    async def _items(self, outgoing: Outgoing) -> AsyncGenerator[R_co, None]:
        sender = self.sender or sender_of(self.address)
        count = 0
        async with aclosing(sender.stream(outgoing)) as bodies:
            async for body in bodies:
                try:
                    item = reply.decode(body, self.spec, sender, self.address.key)
                except StreamInterrupted as error:
                    evidence: dict[str, Any] = {**error.evidence(), "items": count}  # which only the reader knows
                    raise StreamInterrupted(**evidence) from None
                if item is reply.END_OF_STREAM:
                    return
                count += 1
                yield item


class LiveBound(msgspec.Struct, frozen=True, eq=False):
    """A message of a live actor, as its own code finds it: on ``self``, or on ``super()``.

    Called, it runs the method as any method runs: here, now, within the turn. What sends
    (``tell``, ``message``, ``options``) is that of a ref to the actor.
    """

    declared: Any  # a Message; naming it here would make it a descriptor
    actor: Actor[Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method. A plain ``def`` runs in a thread: await it."""
        declared = self.declared
        if declared.threaded:
            return self._in_thread(functools.partial(declared.function, self.actor, *args, **kwargs))
        return declared.function(self.actor, *args, **kwargs)

    def tell(self, *args: Any, **kwargs: Any) -> Coroutine[None, None, Receipt]:
        """Send the message to this actor's own mailbox, with the turn's commit."""
        return _tell(sender_of(self.actor.__actor_address__), self.message(*args, **kwargs))

    def message(self, *args: Any, **kwargs: Any) -> Outgoing:
        """Return the message, addressed to this actor."""
        outgoing: Outgoing = self._bound().message(*args, **kwargs)
        return outgoing

    def options(self, **options: Any) -> Any:
        """Return the message with options, addressed to this actor."""
        return self._bound().options(**options)

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await self.actor.__cell__.run_in_turn(call)

    def _bound(self) -> Any:
        return getattr(self.actor.__actor_ref__(), self.declared.name)


class MessageType(msgspec.Struct, Generic[A_contra, P, R_co], frozen=True):
    """What ``Account.deposit`` is: the message, of this class, without a target."""

    actor: type[Any]
    name: str

    if not TYPE_CHECKING:  # type checkers refuse the call by themselves

        def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
            """Refuse: a message needs a target."""
            raise TypeError(f"{self!r} has no target: call it on a ref, client.get({self.actor.__name__}, key).{self.name}(…)")

    def __repr__(self) -> str:
        return f"<message {self.actor.__name__}.{self.name}>"


class StreamMessageType(msgspec.Struct, Generic[A_contra, P, R_co], frozen=True):
    """What ``Quotes.prices`` is: the message with a streaming reply, without a target."""

    actor: type[Any]
    name: str

    def __repr__(self) -> str:
        return f"<message {self.actor.__name__}.{self.name}>"


class Message(Generic[P, R_co]):
    """What ``@message`` makes of a method. It does not name the actor, so a subclass may override a message."""

    def __init__(
        self,
        function: Callable[Concatenate[Any, P], object],
        *,
        read_only: bool = False,
        reentrant: bool = False,
        timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.function = function
        self.kind = _kind_of(function)
        self.threaded = self.kind is Kind.THREAD
        self.name: str = inspect.unwrap(function).__name__
        self.reentrant = reentrant
        self.read_only = read_only or reentrant or self.kind is Kind.STREAM
        self.timeout = seconds("timeout", timeout)
        self.retry = retry
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, obj: None, owner: type[A]) -> MessageType[A, P, R_co]: ...
    @overload
    def __get__(self, obj: Actor[Any], owner: type[Any] | None = None) -> Bound[P, R_co]: ...
    def __get__(self, obj: Any, owner: Any = None) -> Any:
        if obj is None:
            return MessageType[Any, ..., Any](owner, self.name)
        return LiveBound(self, obj)


class StreamMessage(Message[P, R_co]):
    """What ``@message`` makes of an async generator."""

    @overload  # type: ignore[override]
    def __get__(self, obj: None, owner: type[A]) -> StreamMessageType[A, P, R_co]: ...
    @overload
    def __get__(self, obj: Actor[Any], owner: type[Any] | None = None) -> BoundStream[P, R_co]: ...
    def __get__(self, obj: Any, owner: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if obj is None:
            return StreamMessageType[Any, ..., Any](owner, self.name)
        return LiveBound(self, obj)


class MessageDecorator(Protocol):
    """What ``@message(…)`` returns."""

    @overload
    def __call__(self, fn: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], /) -> Message[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[A, P], AsyncIterator[R]], /) -> StreamMessage[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[A, P], R], /) -> Message[P, R]: ...


@overload
def message(fn: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], /) -> Message[P, R]: ...
@overload
def message(fn: Callable[Concatenate[A, P], AsyncIterator[R]], /) -> StreamMessage[P, R]: ...
@overload
def message(fn: Callable[Concatenate[A, P], R], /) -> Message[P, R]: ...
@overload
def message(
    *, read_only: bool = False, reentrant: bool = False, timeout: float | timedelta | None = None, retry: Retry | None = None
) -> MessageDecorator: ...
def message(fn: Any = None, /, **options: Any) -> Any:
    """Make a method a message: an ``async def``, a plain ``def`` (runs in a thread) or an async generator (a streaming reply).

    ``read_only``: it changes no state; such turns overlap each other. ``reentrant``: it may
    also run while another turn of its actor waits on the asker; implies ``read_only``.
    ``timeout``: the default deadline of its asks, in seconds or as a timedelta. ``retry``:
    what happens after a defect, instead of the actor's.
    """
    if fn is None:
        return functools.partial(_declared, **options)
    return _declared(fn, **options)


def _declared(function: Any, **options: Any) -> Message[..., Any]:
    kind = _kind_of(function)
    return (StreamMessage if kind is Kind.STREAM else Message)(function, **options)


def _kind_of(function: Any) -> Kind:
    inner = inspect.unwrap(function) if callable(function) else None
    if not inspect.isfunction(inner):
        shown = type(function).__name__
        raise TypeError(
            f"@message goes on a method, not on a {shown}"
            + (", and below no other decorator of its kind" if shown in {"staticmethod", "classmethod", "property"} else "")
        )
    if inspect.isasyncgenfunction(inner):
        return Kind.STREAM
    if inspect.iscoroutinefunction(inner):
        return Kind.COROUTINE
    if inspect.isgeneratorfunction(inner):
        raise TypeError(f"{inner.__qualname__}: a streaming reply is an async generator. Make it an async def")
    returned: Any = inner.__annotations__.get("return")
    if isinstance(returned, str):
        streams = returned.partition("[")[0].rpartition(".")[2] in {kind.__name__ for kind in _ASYNC_ITERABLES}
    else:
        streams = get_origin(returned) in _ASYNC_ITERABLES
    return Kind.STREAM if streams else Kind.THREAD


def _as_coroutine(function: Callable[..., Awaitable[Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    awaited.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return awaited


async def _tell(sender: Sender, outgoing: Outgoing) -> Receipt:
    return await sender.tell(outgoing)


def sender_of(address: ActorAddress) -> Sender:
    """Return the client of the handler this code runs in, for a ref that came without one. ``RuntimeError`` outside of any."""
    turn = current.get()
    if turn is None:
        raise RuntimeError(
            f"the ref to {address} came out of a message or a state and belongs to no client, and no handler runs here. "
            f"Take one from a client: client.get({address.type}, {address.key!r})"
        )
    return turn.client


def seconds(name: str, value: float | timedelta | None, *, zero: bool = False) -> float | None:
    """Return a time given as seconds or a timedelta in seconds. ``TypeError`` or ``ValueError`` if it is none above (or at) ``zero``."""
    if value is None:
        return None
    given: Any = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise TypeError(f"{name} is {value!r}; it must be seconds or a timedelta")
    if not (given > 0 or (zero and given == 0)) or math.isinf(given):
        raise ValueError(f"{name} is {value!r}; it must be a finite time {'of at least' if zero else 'above'} 0 s")
    return float(given)


def _chosen(before: CallOptions, options: Mapping[str, Any]) -> CallOptions:
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        match name:
            case "timeout" | "after":
                changes[name] = seconds(name, value, zero=name == "after")
            case "idempotency_key":
                if not isinstance(value, str) or not 0 < len(value) <= 1024:
                    raise ValueError(f"idempotency_key is {value!r}; it must be a text of 1 to 1,024 characters")
                changes[name] = value
            case "headers":
                if not all(isinstance(part, str) for pair in value.items() for part in pair):
                    raise TypeError(f"headers are {value!r}; they must map text to text")
                changes[name] = {**(before.headers or {}), **value}
            case "at":
                if not isinstance(value, datetime) or value.tzinfo is None:
                    raise ValueError(f"at is {value!r}; it must be a datetime with a time zone, such as datetime.now(UTC)")
                changes[name] = value.timestamp()
            case _:
                raise TypeError(f"options() got an unexpected keyword argument {name!r}")
    chosen = msgspec.structs.replace(before, **changes)
    if chosen.after is not None and chosen.at is not None:
        raise TypeError("options() takes after= or at=, not both")
    return chosen
