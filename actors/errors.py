"""Every exception a user of the package can meet.

::

    Exception
    ├── DomainError               the application's own: dataclasses, rebuilt at the caller
    └── ClusterError              ours: reason, retryable, outcome, and the evidence
        ├── MailboxFull           an actor's backlog, a shard or Redis' memory is full
        ├── PayloadTooLarge       too many bytes or levels
        ├── SerializationFailed   a value that cannot be encoded, or not under its annotation
        ├── MalformedMessage      arguments that do not fit the method
        ├── UnknownActorType      nobody running has that type
        ├── UnknownMessage        nobody running has that method
        ├── IdempotencyConflict   the key was used with another payload
        ├── AskTimeout            the deadline passed
        ├── RunnerUnavailable     no runner owned the shard until the deadline
        ├── PersistenceFailed     Redis or Postgres unreachable or refusing
        ├── RemoteError           a defect in the callee
        ├── DeadLettered          the message was set aside
        ├── ActivationFailed      the actor could not be activated
        ├── CallCycle             the call would wait on itself
        ├── CallTooDeep           too many asks inside asks
        ├── StreamInterrupted     a streaming reply's actor moved or died
        ├── Fenced                this runner lost the shard (inside a handler only)
        ├── Suspended             a durable call is parked
        ├── PartialSend           some of a batch were refused
        └── ConfigurationError    start refused

``retryable`` says whether the same call may succeed later without anybody changing
anything. ``outcome`` says what became of the message: ``not_delivered`` means its
handler never had an effect, ``failed`` that it ran and its effects were dropped,
``unknown`` that it may have had them.
"""

from __future__ import annotations

import difflib
import inspect
import weakref
from dataclasses import Field, InitVar, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from actors.message import Receipt

Outcome: TypeAlias = Literal["not_delivered", "unknown", "failed"]


class Reason(StrEnum):
    """Why a call failed, one value for each class of :class:`ClusterError`."""

    MAILBOX_FULL = "mailbox_full"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    SERIALIZATION_FAILED = "serialization_failed"
    MALFORMED_MESSAGE = "malformed_message"
    UNKNOWN_ACTOR_TYPE = "unknown_actor_type"
    UNKNOWN_MESSAGE = "unknown_message"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    ASK_TIMEOUT = "ask_timeout"
    RUNNER_UNAVAILABLE = "runner_unavailable"
    PERSISTENCE_FAILED = "persistence_failed"
    REMOTE_ERROR = "remote_error"
    DEAD_LETTERED = "dead_lettered"
    ACTIVATION_FAILED = "activation_failed"
    CALL_CYCLE = "call_cycle"
    CALL_TOO_DEEP = "call_too_deep"
    STREAM_INTERRUPTED = "stream_interrupted"
    FENCED = "fenced"
    SUSPENDED = "suspended"
    PARTIAL_SEND = "partial_send"
    CONFIGURATION = "configuration"


class ClusterError(Exception):
    """Base of what the framework raises. Never raised itself.

    Every leaf takes its evidence as keywords and keeps it under the same names; they
    cross the wire, so that a caller sees the same class with the same attributes.
    """

    reason: ClassVar[Reason]
    retryable: ClassVar[bool] = False
    outcome: ClassVar[Outcome] = "not_delivered"

    def evidence(self) -> dict[str, Any]:
        """Return the error's fields by name."""
        return {name: getattr(self, name) for name in _parameters(type(self))}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.evidence())


class MailboxFull(ClusterError):
    """There is no room for the message. Nothing was stored; try again later, with backoff."""

    reason = Reason.MAILBOX_FULL
    retryable = True

    def __init__(
        self,
        *,
        scope: Literal["actor", "shard", "memory", "process", "turn"],
        limit: int = 0,
        depth: int = 0,
        actor_type: str = "",
        key: str = "",
        shard: str = "",
    ) -> None:
        self.scope, self.limit, self.depth = scope, limit, depth
        self.actor_type, self.key, self.shard = actor_type, key, shard
        where = _where(actor_type, key)
        match scope:
            case "actor":
                text = (
                    f"{where}: its backlog is full, {depth:,} messages of at most {limit:,} wait. "
                    "Send slower or later, or raise backlog_capacity"
                )
            case "shard":
                text = (
                    f"{where}: shard {shard or '?'} is full, {depth:,} messages of at most {limit:,} wait. "
                    "Send slower or later, add runners, or raise shard_capacity"
                )
            case "turn":
                text = f"{where}: this turn sends too much, {depth:,} of at most {limit:,}. Spread it over several turns"
            case "process":
                text = (
                    f"{where}: {depth:,} messages of at most {limit:,} wait in this process for Redis to take them. "
                    "Send slower or later, and see whether Redis answers"
                )
            case _:
                text = f"{where}: Redis is at its memory limit and takes no new messages. Let it drain, or give it more memory"
        super().__init__(text)


class PayloadTooLarge(ClusterError):
    """A message, reply or state is larger or nested deeper than the limit."""

    reason = Reason.PAYLOAD_TOO_LARGE

    def __init__(
        self,
        *,
        what: str = "message",
        size: int = 0,
        limit: int = 0,
        unit: Literal["bytes", "levels", "messages"] = "bytes",
        actor_type: str = "",
        key: str = "",
        method: str = "",
    ) -> None:
        self.what, self.size, self.limit, self.unit = what, size, limit, unit
        self.actor_type, self.key, self.method = actor_type, key, method
        size_text = f"{size:,} {unit}" if size else f"more than {limit:,} {unit}"
        advice = "Flatten it" if unit == "levels" else "Send less in one message, or store it elsewhere and send where it is"
        super().__init__(f"{_where(actor_type, key, method)}: the {what} has {size_text}, the limit is {limit:,}. {advice}")


class SerializationFailed(ClusterError):
    """A value cannot be encoded, or does not fit the annotation it is encoded under."""

    reason = Reason.SERIALIZATION_FAILED

    def __init__(
        self, *, what: str = "argument", problem: str = "", path: str = "", actor_type: str = "", key: str = "", method: str = ""
    ) -> None:
        self.what, self.problem, self.path = what, problem, path
        self.actor_type, self.key, self.method = actor_type, key, method
        at = f" at {path}" if path else ""
        super().__init__(
            f"{_where(actor_type, key, method)}: the {what} cannot be encoded{at}: {problem}. "
            "What crosses the wire or is stored is built of msgspec's types: numbers, text, bytes, dates, lists, dicts, "
            "structs, dataclasses, refs"
        )


class MalformedMessage(ClusterError):
    """The arguments do not fit the method. ``path`` says where."""

    reason = Reason.MALFORMED_MESSAGE

    def __init__(self, *, path: str = "", problem: str = "", actor_type: str = "", key: str = "", method: str = "") -> None:
        self.path, self.problem = path, problem
        self.actor_type, self.key, self.method = actor_type, key, method
        at = f" at {path}" if path else ""
        super().__init__(
            f"{_where(actor_type, key, method)}: the arguments do not fit{at}: {problem}. "
            "Sender and receiver must agree on the method's signature"
        )


class UnknownActorType(ClusterError):
    """No running runner has registered that actor type."""

    reason = Reason.UNKNOWN_ACTOR_TYPE

    def __init__(self, *, actor_type: str, key: str = "", known: Sequence[str] = (), waited: float = 0.0) -> None:
        self.actor_type, self.key, self.known, self.waited = actor_type, key, list(known), waited
        super().__init__(
            f"no running runner has an actor type {actor_type!r}{_after(waited)}. {_meant(actor_type, known)}"
            "Register it with @system.actor and deploy runners that import it"
        )


class UnknownMessage(ClusterError):
    """No running runner's version of the actor has that message."""

    reason = Reason.UNKNOWN_MESSAGE

    def __init__(self, *, actor_type: str, method: str, key: str = "", known: Sequence[str] = (), waited: float = 0.0) -> None:
        self.actor_type, self.method, self.key, self.known, self.waited = actor_type, method, key, list(known), waited
        super().__init__(
            f"no running runner has a message {actor_type}.{method}{_after(waited)}. {_meant(method, known)}"
            "Decorate it with @message and deploy runners that have it"
        )


class IdempotencyConflict(ClusterError):
    """The idempotency key was used before, for another method or other arguments."""

    reason = Reason.IDEMPOTENCY_CONFLICT

    def __init__(self, *, idempotency_key: str = "", actor_type: str = "", key: str = "", method: str = "") -> None:
        self.idempotency_key, self.actor_type, self.key, self.method = idempotency_key, actor_type, key, method
        super().__init__(
            f"{_where(actor_type, key, method)}: the idempotency key {idempotency_key!r} was used with another method or other arguments. "
            "Use one key for one call; what was done under it stands"
        )


class AskTimeout(ClusterError):
    """The deadline passed before a reply came. The call may still have had its effect, unless it was only queued."""

    reason = Reason.ASK_TIMEOUT
    retryable = True
    outcome = "unknown"

    def __init__(
        self,
        *,
        timeout: float = 0.0,
        stage: Literal["queued", "running", "no_runner", "unknown"] = "unknown",
        seconds: float = 0.0,
        waiting_on: str = "",
        actor_type: str = "",
        key: str = "",
        method: str = "",
    ) -> None:
        self.timeout, self.stage, self.seconds, self.waiting_on = timeout, stage, seconds, waiting_on
        self.actor_type, self.key, self.method = actor_type, key, method
        match stage:
            case "queued":
                found = f"it was still queued after {seconds:.1f} s and will not be run"
            case "running":
                found = f"its handler had run for {seconds:.1f} s"
            case "no_runner":
                found = f"no runner had served its shard for {seconds:.1f} s"
            case _:
                found = "nothing was heard of it"
        waits = f", waiting on {waiting_on}" if waiting_on else ""
        super().__init__(
            f"{_where(actor_type, key, method)}: no reply within {timeout:g} s: {found}{waits}. "
            "Ask again under an idempotency key to be safe, or give it more time with options(timeout=…)"
        )


class RunnerUnavailable(ClusterError):
    """No runner owned the actor's shard until the deadline. The message was not delivered."""

    reason = Reason.RUNNER_UNAVAILABLE
    retryable = True

    def __init__(self, *, shard: str = "", waited: float = 0.0, actor_type: str = "", key: str = "", method: str = "") -> None:
        self.shard, self.waited = shard, waited
        self.actor_type, self.key, self.method = actor_type, key, method
        problem = f"no runner owns shard {shard}" if shard else "no runner of this system has ever run on this Redis"
        super().__init__(f"{_where(actor_type, key, method)}: {problem}{_after(waited)}. Start one: actor-runner run module:system")


class PersistenceFailed(ClusterError):
    """Redis or Postgres was unreachable or refused until the deadline. The call may have had its effect."""

    reason = Reason.PERSISTENCE_FAILED
    retryable = True
    outcome = "unknown"

    def __init__(
        self, *, store: str = "Redis", problem: str = "", waited: float = 0.0, actor_type: str = "", key: str = "", method: str = ""
    ) -> None:
        self.store, self.problem, self.waited = store, problem, waited
        self.actor_type, self.key, self.method = actor_type, key, method
        where = f"{_where(actor_type, key, method)}: " if actor_type else ""
        text = f"{where}{store} did not take it{_after(waited)}: {problem.removesuffix('.')}"
        hint = "Is it up, reachable and not full? Then try again, under an idempotency key to be safe"
        super().__init__(text if problem.endswith("?") else f"{text}. {hint}")


class RemoteError(ClusterError):
    """The handler failed with an error that is no domain error, in every attempt; or with a class this process does not have.

    ``type_name`` and ``message`` are those of the last error.
    """

    reason = Reason.REMOTE_ERROR
    outcome = "failed"

    def __init__(
        self, *, type_name: str = "", message: str = "", attempts: int = 1, actor_type: str = "", key: str = "", method: str = ""
    ) -> None:
        self.type_name, self.message, self.attempts = type_name, message, attempts
        self.actor_type, self.key, self.method = actor_type, key, method
        tries = f" in each of {attempts} attempts" if attempts > 1 else ""
        super().__init__(
            f"{_where(actor_type, key, method)}: it failed{tries} with {type_name}: {message}. The runner's log has the traceback"
        )


class DeadLettered(ClusterError):
    """The message was set aside; ``why`` says for what. It can be looked at and replayed."""

    reason = Reason.DEAD_LETTERED
    outcome = "failed"

    def __init__(self, *, why: str = "", message_id: str = "", actor_type: str = "", key: str = "", method: str = "") -> None:
        self.why, self.message_id = why, message_id
        self.actor_type, self.key, self.method = actor_type, key, method
        super().__init__(
            f"{_where(actor_type, key, method)}: message {message_id or '?'} went to the dead letters: {why}. "
            "See actor-runner dead-letters list"
        )


class ActivationFailed(ClusterError):
    """The actor could not be activated: its ``on_activate`` raised or hung, or its state cannot be read. The next call tries again."""

    reason = Reason.ACTIVATION_FAILED
    retryable = True

    def __init__(self, *, problem: str = "", type_name: str = "", actor_type: str = "", key: str = "", method: str = "") -> None:
        self.problem, self.type_name = problem, type_name
        self.actor_type, self.key, self.method = actor_type, key, method
        kind = f"{type_name}: " if type_name else ""
        super().__init__(f"{_where(actor_type, key, method)}: the actor could not be activated: {kind}{problem}. The next call tries again")


class CallCycle(ClusterError):
    """The call would wait on itself. ``chain`` names who waits on whom, the first again at the end."""

    reason = Reason.CALL_CYCLE

    def __init__(self, *, chain: Sequence[str] = (), actor_type: str = "", key: str = "", method: str = "") -> None:
        self.chain = list(chain)
        self.actor_type, self.key, self.method = actor_type, key, method
        super().__init__(
            f"{_where(actor_type, key, method)}: the call would wait on itself: {' → '.join(chain)}. "
            "Use tell where no answer is needed, or make the message reentrant=True if it only reads"
        )


class CallTooDeep(ClusterError):
    """There are too many asks inside asks."""

    reason = Reason.CALL_TOO_DEEP

    def __init__(self, *, limit: int = 0, chain: Sequence[str] = (), actor_type: str = "", key: str = "", method: str = "") -> None:
        self.limit, self.chain = limit, list(chain)
        self.actor_type, self.key, self.method = actor_type, key, method
        super().__init__(
            f"{_where(actor_type, key, method)}: more than {limit} asks inside each other: {' → '.join(chain)}. "
            "Use tell, or raise max_call_depth"
        )


class StreamInterrupted(ClusterError):
    """A streaming reply ended before its end. Items received so far are good; start it again for the rest."""

    reason = Reason.STREAM_INTERRUPTED
    retryable = True
    outcome = "unknown"

    def __init__(self, *, why: str = "", items: int = 0, actor_type: str = "", key: str = "", method: str = "") -> None:
        self.why, self.items = why, items
        self.actor_type, self.key, self.method = actor_type, key, method
        super().__init__(f"{_where(actor_type, key, method)}: the stream broke off after {items} items: {why}. Start it again")


class Fenced(ClusterError):
    """This runner lost the actor's shard while the handler ran: nothing of this turn will be committed. Let it pass."""

    reason = Reason.FENCED
    outcome = "unknown"

    def __init__(self, *, shard: str = "", epoch: str = "", why: str = "", actor_type: str = "", key: str = "") -> None:
        self.shard, self.epoch, self.why = shard, epoch, why
        self.actor_type, self.key = actor_type, key
        because = f" ({why})" if why else ""
        super().__init__(
            f"{_where(actor_type, key)}: this runner does not own shard {shard or '?'} any more{because}: nothing of this "
            "turn takes effect here; the owner runs the message"
        )


class Suspended(ClusterError):
    """A durable call is parked. ``token`` resumes it."""

    reason = Reason.SUSPENDED
    outcome = "unknown"

    def __init__(self, *, token: str = "") -> None:
        self.token = token
        super().__init__(f"the call is suspended; it resumes under token {token!r}")


class PartialSend(ClusterError):
    """Some messages of one ``send`` were refused.

    ``results`` holds a :class:`~actors.message.Receipt` or a :class:`ClusterError` each,
    in the order sent; what became of a message is said there. It stays with the sender:
    where the error crossed the wire, ``results`` is empty and ``refused`` tells in words.
    """

    reason = Reason.PARTIAL_SEND
    outcome = "unknown"

    def __init__(self, *, results: Sequence[Receipt | ClusterError] = (), sent: int = 0, refused: Sequence[str] = ()) -> None:
        self.results = list(results)
        errors = [result for result in results if isinstance(result, ClusterError)]
        self.refused = [str(error) for error in errors] or list(refused)
        self.sent = len(results) - len(errors) if results else sent
        first = f" The first refusal: {self.refused[0]}" if self.refused else ""
        super().__init__(f"{len(self.refused)} of {self.sent + len(self.refused)} messages were refused, the others are sent.{first}")

    def evidence(self) -> dict[str, Any]:
        """Return what crosses the wire: how many were sent, and the refusals in words."""
        return {"sent": self.sent, "refused": self.refused}


class ConfigurationError(ClusterError):
    """Something is set up in a way that cannot work, so that it was not started."""

    reason = Reason.CONFIGURATION

    def __init__(self, *, setting: str, problem: str, hint: str = "") -> None:
        self.setting, self.problem, self.hint = setting, problem, hint
        super().__init__(f"{setting} {problem}. {hint[0].upper()}{hint[1:]}." if hint else f"{setting} {problem}.")


class DomainError(Exception):
    """Base of the application's own errors.

    Make each subclass a dataclass; its fields cross the wire, and the caller gets the
    same class built from them::

        @dataclass
        class InsufficientFunds(DomainError):
            balance: int
            requested: int

    It fails the call: the turn's changes are dropped and nothing is retried. A subclass
    without fields may be a plain class. Not frozen: Python itself sets attributes on an
    exception that is raised.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__hash__" not in cls.__dict__:  # an explicit __hash__ survives @dataclass, which would take it away
            cls.__hash__ = DomainError.__hash__  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **fields: Any) -> DomainError:  # noqa: ARG004, PYI034 - @dataclass gives the signature
        check_domain_error(cls)
        return super().__new__(cls, *args)

    def __hash__(self) -> int:
        # Dataclasses compare by value and may hold lists: the class alone is what equal ones surely share.
        return hash(type(self))

    def __str__(self) -> str:
        if not hasattr(self, "__dataclass_fields__"):
            return super().__str__()
        return ", ".join(f"{field.name}={getattr(self, field.name, None)!r}" for field in _fields(self))

    def __reduce__(self) -> tuple[Any, ...]:
        if not hasattr(self, "__dataclass_fields__"):
            return super().__reduce__()  # type: ignore[return-value]
        return _rebuild, (type(self), {field.name: getattr(self, field.name) for field in _fields(self) if field.init})


def _fields(error: Any) -> tuple[Field[Any], ...]:
    return fields(error)


def check_domain_error(cls: type[DomainError]) -> None:
    """Raise ``TypeError``, saying what to change, if errors of this class could not cross the wire."""
    if cls in _sound:
        return
    name = f"{cls.__module__}.{cls.__qualname__}"
    for owner in cls.__mro__[: cls.__mro__.index(DomainError)]:
        own = owner.__dict__
        if "__dataclass_fields__" in own:
            if own["__dataclass_params__"].frozen:
                raise TypeError(
                    f"{name}: a frozen dataclass cannot be raised, since Python sets attributes on it. "
                    f"Take frozen=True away from {owner.__qualname__}"
                )
            hidden = [
                field.name
                for field in own["__dataclass_fields__"].values()
                if isinstance(field.type, InitVar) or "InitVar[" in str(field.type)
            ]
            if hidden:
                raise TypeError(f"{name}: InitVar {', '.join(hidden)} would be lost on the wire. Make it a field")
            if "args" in own["__dataclass_fields__"]:
                raise TypeError(f"{name}: a field cannot be called args, which every exception has. Rename it")
            if not own["__dataclass_params__"].init:
                raise TypeError(f"{name}: {owner.__qualname__} has no generated __init__ to be rebuilt with. Take init=False away")
        elif issubclass(owner, DomainError):
            named = [field for field, kind in own.get("__annotations__", {}).items() if not _is_class_variable(kind)]
            if named:
                raise TypeError(
                    f"{name}: {owner.__qualname__} has fields ({', '.join(named)}) but is no dataclass. "
                    "Decorate it with @dataclass, so that they cross the wire"
                )
            if "__init__" in own:
                raise TypeError(
                    f"{name}: {owner.__qualname__} has an __init__ of its own, so that nobody could rebuild it at the caller. "
                    "Make it a @dataclass and its parameters fields"
                )
    _sound.add(cls)


_sound: weakref.WeakSet[type[DomainError]] = weakref.WeakSet()


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in ``error``: itself, or what is in the group, however nested."""
    inside = members(error)
    if inside is None:
        yield error
    else:
        for member in inside:
            yield from leaves(member)


def members(error: BaseException) -> tuple[BaseException, ...] | None:
    """Return the members of an exception group, or ``None`` for any other error."""
    group: Any = error
    inside: tuple[BaseException, ...] | None = group.exceptions if isinstance(error, BaseExceptionGroup) else None
    return inside


def is_domain_error(error: BaseException) -> bool:
    """Return whether ``error`` is a domain error, or a group of nothing else."""
    return all(isinstance(leaf, DomainError) for leaf in leaves(error))


def error_to_wire(error: ClusterError) -> tuple[str, dict[str, object]]:
    """Return an error's reason and its evidence, for :func:`error_from_wire`."""
    return error.reason.value, error.evidence()


def error_from_wire(reason: str, evidence: Mapping[str, object]) -> ClusterError:
    """Return the error that was sent. Never raises.

    Evidence this version does not know is left out, what is missing or of another kind
    takes its default; a reason it does not know becomes a :class:`RemoteError` with that name.
    """
    cls = _classes.get(reason)
    if cls is None:
        text = ", ".join(f"{name}={value!r}" for name, value in evidence.items())
        return RemoteError(type_name=reason, message=text)
    known: dict[str, object] = {}
    for name, parameter in _parameters(cls).items():
        if name in evidence and _fits(evidence[name], parameter):
            known[name] = evidence[name]
        elif parameter.default is parameter.empty:
            known[name] = "?"
    return cls(**known)


def _fits(value: object, parameter: inspect.Parameter) -> bool:
    default: object = "" if parameter.default is parameter.empty else parameter.default
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, tuple):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)  # pyright: ignore[reportUnknownVariableType]
    return isinstance(value, str)


def _parameters(cls: type[ClusterError]) -> dict[str, inspect.Parameter]:
    known = _signatures.get(cls)
    if known is None:
        parameters = inspect.signature(cls.__init__).parameters.values()
        named = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "results"]
        known = _signatures[cls] = {parameter.name: parameter for parameter in named}
    return known


_signatures: dict[type[ClusterError], dict[str, inspect.Parameter]] = {}
_classes: dict[str, type[ClusterError]] = {cls.reason.value: cls for cls in ClusterError.__subclasses__()}


def _rebuild(cls: type[Exception], evidence: dict[str, Any]) -> Exception:
    return cls(**evidence)


def _where(actor_type: str, key: str, method: str = "") -> str:
    if not actor_type:
        return "a message"
    if method:
        return f"{actor_type}.{method} of {key!r}" if key else f"{actor_type}.{method}"
    return f"{actor_type} {key!r}" if key else actor_type


def _after(waited: float) -> str:
    return f" after {waited:.1f} s" if waited else ""


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}? "
    return f"Known are {', '.join(sorted(known))}. " if known else ""


def _is_class_variable(annotation: object) -> bool:
    if isinstance(annotation, str):
        return annotation.startswith(("ClassVar", "typing.ClassVar", "t.ClassVar"))
    return annotation is ClassVar or get_origin(annotation) is ClassVar
