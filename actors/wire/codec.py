"""Arguments and replies of one method, from its signature.

Arguments travel as a map by name. A generated struct is their schema: its constructor,
in C, binds a call as Python would, its encoder writes the map, its decoder checks it.
The sender decodes what it has encoded, which costs little more than a tenth of a
microsecond and applies the receiver's very rules, constraints in ``Annotated`` included.

Values at their default are left out of the map. So a call has the same bytes before and
after the method gained an optional argument, and an idempotency key, which remembers a
hash of them, holds through a rolling deploy.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, get_origin

import msgspec

from actors.errors import MalformedMessage, PayloadTooLarge, SerializationFailed
from actors.wire import types
from actors.wire.depth import deeper_than

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEEPEST = 512
"""Levels that every decoder here can take. The setting ``max_depth`` is lower, and the client's to check.

Where the type itself says how deep its values are nested, nothing has to be looked for:
a decoder stops at the first value that does not fit, and follows none deeper."""

_AS_THEY_ARE = (int, str, float, bool, bytes, type(None))
"""Annotations whose values need no second look when their class is exactly that."""

_BLAND = (int, str, float, bytes)
"""Defaults that equal values may stand for."""

decoding_for: ContextVar[Any] = ContextVar("actors.decoding_for", default=None)
"""Whose refs the decoded ones become: the sender that asked, or ``None`` for whoever uses them."""


class Target(NamedTuple):
    """What a codec belongs to, for its errors."""

    actor_type: str
    method: str


def encode_hook(value: Any) -> Any:
    """Encode what knows itself how: a ref, or a live actor, as its address."""
    to_wire = getattr(value, "__to_wire__", None)
    if to_wire is None:
        raise NotImplementedError(f"{type(value).__module__}.{type(value).__qualname__} has no encoding")
    return to_wire()


def decode_hook(kind: Any, value: Any) -> Any:
    """Decode what knows itself how: a ref, where an actor class is expected."""
    return (get_origin(kind) or kind).__from_wire__(value)


encode = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode
"""Return the bytes of any value that may cross the wire."""


def decoder(kind: Any) -> Callable[[Any], Any]:
    """Return a function that decodes bytes as ``kind``."""
    return msgspec.msgpack.Decoder(kind, dec_hook=decode_hook).decode


def explained(error: Exception) -> tuple[str, str]:
    """Return what a decoder found wrong, and where: a path such as ``$.items[0].price``."""
    text = str(error)
    problem, marker, path = text.rpartition(" - at `")
    if not marker:
        problem, path = text, "$`"
    path = path[:-1]
    missing = re.search(r"missing required field `([^`]*)`", problem)
    return problem, f"{path}.{missing[1]}" if missing else path


class StateUnreadable(Exception):
    """The stored state cannot be read by this code, and must be left alone. ``problem`` says why."""

    def __init__(self, *, actor_type: str, problem: str) -> None:
        self.actor_type = actor_type
        self.problem = problem
        super().__init__(f"the stored state of {actor_type} cannot be read by this code: {problem}")


class Arguments:
    """The arguments of one method: bound and encoded by the sender, decoded and passed on by the receiver."""

    def __init__(self, target: Target, function: Callable[..., Any], hints: Mapping[str, Any], *, refs: bool) -> None:
        self.target = target
        self.refs = refs
        self._function = function
        self._signature = inspect.signature(function)
        self._parameters = list(self._signature.parameters.values())[1:]
        self._bounded = all(types.is_bounded(hints[parameter.name]) for parameter in self._parameters)
        self.struct = _struct_of(f"{target.actor_type}.{target.method}", self._parameters, hints)
        self._decode = decoder(self.struct)

    def encoder(self) -> Callable[..., bytes]:
        """Return ``encode(args, kwargs, key)``: the map's bytes, checked as the receiver will check them.

        Raises ``TypeError`` for a call that does not fit the signature, ``SerializationFailed``
        for a value that has no encoding, ``MalformedMessage`` for one that does not fit its annotation.
        """
        struct, decode, bounded = self.struct, self._decode, self._bounded
        positional_only = {parameter.name for parameter in self._parameters if parameter.kind is parameter.POSITIONAL_ONLY}
        defaults = {parameter.name: parameter.default for parameter in self._parameters if type(parameter.default) in _BLAND}

        def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], key: str = "") -> bytes:
            if positional_only and not positional_only.isdisjoint(kwargs):
                raise self._wrong_call(args, kwargs)
            try:
                bound = struct(*args, **kwargs)
            except TypeError:
                raise self._wrong_call(args, kwargs) from None
            if defaults:
                for name, default in defaults.items():
                    value = getattr(bound, name)
                    if value is not default and type(value) is type(default) and value == default:
                        setattr(bound, name, default)  # only the default itself is left out by msgspec
            try:
                raw = encode(bound)
            except Exception as error:  # noqa: BLE001 - whatever a value's own encoding raises
                raise self._unencodable(bound, error, key) from None
            if not bounded and deeper_than(raw, DEEPEST):
                raise PayloadTooLarge(what="arguments", unit="levels", limit=DEEPEST, key=key, **self.target._asdict())
            try:
                decode(raw)
            except Exception as error:  # noqa: BLE001 - the decoder's, or a ref's
                raise self._malformed(error, key) from None
            return raw

        return encode_arguments

    def starter(self) -> Callable[[Any, Any], Any]:
        """Return ``start(actor, raw)``: decodes, and calls the method. ``MalformedMessage`` when they do not fit."""
        return self._compiled("return function(actor, {arguments})")

    def binder(self) -> Callable[[Any, Any], Callable[[], Any]]:
        """Return ``bind(actor, raw)``: the same, but returns the call to be made elsewhere."""
        return self._compiled("return partial(function, actor, {arguments})")

    def _compiled(self, action: str) -> Callable[[Any, Any], Any]:
        # Compiled from the signature, as dataclasses do: a generic call by name costs as much again as the decoding.
        arguments = ", ".join(
            f"{parameter.name}=a.{parameter.name}" if parameter.kind is parameter.KEYWORD_ONLY else f"a.{parameter.name}"
            for parameter in self._parameters
        )
        source = (
            "def call(actor, raw):\n"
            "    try:\n"
            "        a = decode(raw)\n"
            "    except Exception as error:\n"
            "        raise malformed(error, actor.key) from None\n"
            f"    {action.format(arguments=arguments)}\n"
        )
        namespace: dict[str, Any] = {
            "decode": self._decode,
            "malformed": self._malformed,
            "function": self._function,
            "partial": functools.partial,
        }
        exec(source, namespace)  # noqa: S102 - the names are those of the signature
        call: Callable[[Any, Any], Any] = namespace["call"]
        return call

    def _wrong_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TypeError:
        name = f"{self.target.actor_type}.{self.target.method}()"
        known = {parameter.name for parameter in self._parameters}
        if unknown := next((name for name in kwargs if name not in known), None):
            return TypeError(f"{name} got an unexpected keyword argument {unknown!r}")
        try:
            self._signature.bind(None, *args, **kwargs)
        except TypeError as error:
            return TypeError(f"{name} {error}")
        return TypeError(f"{name} does not take these arguments")

    def _unencodable(self, bound: Any, error: Exception, key: str) -> SerializationFailed:
        for parameter in self._parameters:
            try:
                encode(getattr(bound, parameter.name))
            except Exception as cause:  # noqa: BLE001 - the same again
                return SerializationFailed(
                    what=f"argument {parameter.name!r}", problem=_said(cause), path=f"$.{parameter.name}", key=key, **self.target._asdict()
                )
        return SerializationFailed(what="arguments", problem=_said(error), key=key, **self.target._asdict())

    def _malformed(self, error: Exception, key: str) -> MalformedMessage:
        problem, path = explained(error)
        return MalformedMessage(problem=problem, path=path, key=key, **self.target._asdict())


class Result:
    """What a method returns, or what its stream yields."""

    def __init__(self, target: Target, hint: Any, *, refs: bool) -> None:
        self.target = target
        self.refs = refs
        self.hint = hint
        self._bounded = types.is_bounded(hint)
        self._decode = decoder(hint)

    def encoder(self) -> Callable[..., bytes]:
        """Return ``encode(value, key)``. ``SerializationFailed`` when it has no encoding or does not fit the annotation."""
        decode, bounded = self._decode, self._bounded
        exact = (type(None) if self.hint is None else self.hint) if self.hint in (*_AS_THEY_ARE, None) else None

        def encode_result(value: Any, key: str = "") -> bytes:
            try:
                raw = encode(value)
                if type(value) is not exact:
                    if not bounded and deeper_than(raw, DEEPEST):
                        raise PayloadTooLarge(what="reply", unit="levels", limit=DEEPEST, key=key, **self.target._asdict())
                    decode(raw)
            except PayloadTooLarge:
                raise
            except msgspec.ValidationError as error:
                problem, path = explained(error)
                raise SerializationFailed(what="reply", problem=problem, path=path, key=key, **self.target._asdict()) from None
            except Exception as error:  # noqa: BLE001 - whatever a value's own encoding raises
                raise SerializationFailed(what="reply", problem=_said(error), key=key, **self.target._asdict()) from None
            return raw

        return encode_result

    def decoder(self) -> Callable[..., Any]:
        """Return ``decode(raw, sender, key)``; refs in it belong to ``sender``. ``SerializationFailed`` when it does not fit."""
        decode, refs, bounded = self._decode, self.refs, self._bounded

        def decode_result(raw: Any, sender: Any = None, key: str = "") -> Any:
            try:
                if not bounded and deeper_than(bytes(raw), DEEPEST):
                    raise ValueError(f"nested over {DEEPEST} levels")
                if not refs or sender is None:
                    return decode(raw)
                token = decoding_for.set(sender)
                try:
                    return decode(raw)
                finally:
                    decoding_for.reset(token)
            except Exception as error:  # noqa: BLE001 - the decoder's, or a ref's
                problem, path = explained(error)
                raise SerializationFailed(what="reply received", problem=problem, path=path, key=key, **self.target._asdict()) from None

        return decode_result


def _struct_of(name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> type[msgspec.Struct]:
    anywhere: list[Any] = []
    by_name: list[Any] = []
    for parameter in parameters:
        hint = hints[parameter.name]
        field: tuple[Any, ...]
        default: Any = parameter.default
        if default is parameter.empty:
            field = (parameter.name, hint)
        elif type(default) in (list, dict, set, bytearray):
            field = (parameter.name, hint, msgspec.field(default_factory=functools.partial(copy.deepcopy, default)))
        else:
            field = (parameter.name, hint, default)
        (by_name if parameter.kind is parameter.KEYWORD_ONLY else anywhere).append(field)
    struct = msgspec.defstruct(name, anywhere, omit_defaults=True)
    return msgspec.defstruct(name, by_name, bases=(struct,), omit_defaults=True, kw_only=True) if by_name else struct


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep, or contains itself"
    return str(error) or type(error).__name__
