"""Annotations: what they mean for one class, and whether they can cross the wire."""

from __future__ import annotations

import operator
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, ForwardRef, Generic, Literal, Protocol, TypeVar, Union, get_args, get_origin

import msgspec
import typing_extensions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Bindings: typing.TypeAlias = "dict[Any, Any]"
"""Type variables, and what stands for them."""


def hints_of(function: Callable[..., Any], owner: type, definer: type, localns: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the annotations of a method as they hold in ``owner``, which inherits it from ``definer``.

    Type variables of generic bases, ``Self`` and type aliases are replaced; parametrised
    actor classes become the plain class. ``NameError`` while one names something that is
    not defined yet.
    """
    hints = _evaluated(function, definer, {owner.__name__: owner, definer.__name__: definer}, localns)
    mapping = bindings(owner, localns).get(definer, {})
    return {name: substitute(hint, mapping, owner) for name, hint in hints.items()}


def _evaluated(function: Callable[..., Any], definer: type, own: dict[str, Any], localns: Mapping[str, Any] | None) -> dict[str, Any]:
    parameters = (*getattr(definer, "__type_params__", ()), *getattr(function, "__type_params__", ()))
    own |= {parameter.__name__: parameter for parameter in parameters}
    attempts = [own, {**localns, **own}] if localns else [own]
    if "<locals>" in definer.__qualname__:
        attempts.reverse()  # there a local name hides the module's
    for namespace in attempts[:-1]:
        try:
            return typing.get_type_hints(function, localns=namespace, include_extras=True)
        except NameError:
            continue
    return typing.get_type_hints(function, localns=attempts[-1], include_extras=True)


def bindings(cls: type, localns: Mapping[str, Any] | None = None) -> dict[type, Bindings]:
    """Return, for each base of ``cls``, what its type variables are: those of ``Box`` in ``IntBox(Box[int])``."""
    found: dict[type, Bindings] = {}
    _bind(cls, {}, localns, found)
    return found


def _bind(cls: type, mapping: Bindings, localns: Mapping[str, Any] | None, found: dict[type, Bindings]) -> None:
    found[cls] = mapping
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if not isinstance(origin, type) or origin in (object, Generic, Protocol):
            continue
        parameters: tuple[Any, ...] = getattr(origin, "__parameters__", ())
        if get_origin(base) is None:
            chosen = {parameter: _default(parameter) for parameter in parameters}
        else:
            module = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
            arguments = [_resolved(argument, module, localns) for argument in get_args(base)]
            chosen = {parameter: substitute(argument, mapping, cls) for parameter, argument in zip(parameters, arguments, strict=False)}
        _bind(origin, chosen, localns, found)


def _default(parameter: Any) -> Any:
    default = getattr(parameter, "__default__", typing_extensions.NoDefault)
    return parameter if default is typing_extensions.NoDefault else default


def _resolved(argument: Any, module: dict[str, Any], localns: Mapping[str, Any] | None) -> Any:
    if isinstance(argument, ForwardRef):
        return eval(argument.__forward_arg__, module, {**(localns or {})})  # noqa: S307 - an annotation, as get_type_hints does
    return argument


def substitute(hint: Any, mapping: Bindings, owner: type) -> Any:
    """Return ``hint`` with type variables, ``Self`` and aliases replaced, and actor classes without their parameters."""
    open_aliases: list[Any] = []

    def replace(part: Any) -> Any:
        if part in _SELF:
            return owner
        if isinstance(part, TypeVar):
            return mapping.get(part, part)
        origin = get_origin(part)
        if is_actor(origin):
            return origin
        alias = part if origin is None else origin
        if type(alias).__name__ != "TypeAliasType":  # typing's since 3.12, typing_extensions' before
            return part
        if alias in open_aliases:
            raise TypeError(f"the type alias {alias.__name__} contains itself. Make it a struct with a field of its own type")
        chosen = dict(zip(alias.__type_params__, (rewrite(argument, replace) for argument in get_args(part)), strict=False))
        open_aliases.append(alias)
        expanded = rewrite(substitute(alias.__value__, chosen, owner) if chosen else alias.__value__, replace)
        open_aliases.pop()
        return expanded

    return rewrite(hint, replace)


_SELF: tuple[Any, ...] = (vars(typing)["Self"], vars(typing_extensions)["Self"])


def rewrite(hint: Any, replace: Callable[[Any], Any]) -> Any:
    """Return ``hint`` with each part, outermost first, put through ``replace``. What it replaced is not looked into."""
    replaced = replace(hint)
    if replaced is not hint:
        return replaced
    origin = get_origin(hint)
    if origin is None or origin is Literal:
        return hint
    if origin is typing.Annotated:
        inner = rewrite(hint.__origin__, replace)
        return hint if inner is hint.__origin__ else typing.Annotated[(inner, *hint.__metadata__)]
    arguments = get_args(hint)
    rewritten = tuple(rewrite(argument, replace) for argument in arguments)
    if all(map(operator.is_, arguments, rewritten)):
        return hint
    if origin is Union or origin is types.UnionType:
        return Union[rewritten]  # noqa: UP007 - of a tuple
    return origin[rewritten]


def is_actor(kind: Any) -> bool:
    """Return whether ``kind`` is an actor class: one that says itself how its refs come off the wire."""
    return isinstance(kind, type) and hasattr(kind, "__from_wire__")


def check(hint: Any, where: str) -> bool:
    """Raise ``TypeError`` if values of this type cannot cross the wire, naming ``where`` and the part that cannot.

    Returns whether they may hold refs.
    """
    try:
        info = msgspec.inspect.type_info(hint)
        msgspec.msgpack.Decoder(hint, dec_hook=_never)
    except NameError:
        raise
    except TypeError as error:
        raise TypeError(f"{where}: {_first_line(error)}") from None
    refs = False
    for part in parts(info):
        kind = part.cls if isinstance(part, _CLASSES) else None
        if isinstance(kind, type) and issubclass(kind, BaseException):
            raise TypeError(
                f"{where}: {kind.__qualname__} is an exception, which cannot be a value on the wire. "
                "Raise it, or carry its fields in a struct"
            )
        if isinstance(part, msgspec.inspect.CustomType):
            origin = get_origin(part.cls) or part.cls
            if not is_actor(origin):
                raise TypeError(
                    f"{where}: {getattr(origin, '__qualname__', origin)} is not a type that can be encoded. "
                    "Take a msgspec struct, a dataclass, a builtin type, or an actor class for a ref"
                )
            refs = True
    return refs


_CLASSES = (
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.CustomType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.NamedTupleType,
)


def parts(info: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """Yield a type and all that it is made of, each class once."""
    seen: set[int] = set()
    pending = [info]
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        pending.extend(_inner(part))


def _inner(part: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    i = msgspec.inspect
    match part:
        case i.StructType() | i.DataclassType() | i.TypedDictType() | i.NamedTupleType():
            return [field.type for field in part.fields]
        case i.UnionType():
            return list(part.types)
        case i.DictType() | i.FrozenDictType():
            return [part.key_type, part.value_type]
        case i.TupleType():
            return list(part.item_types)
        case i.ListType() | i.SetType() | i.FrozenSetType() | i.VarTupleType() | i.CollectionType():
            return [part.item_type]
        case i.Metadata():
            return [part.type]
        case _:
            return []


def is_bounded(hint: Any) -> bool:
    """Return whether values of this type can only be nested as deep as the type itself is."""
    return _is_bounded(msgspec.inspect.type_info(hint), open_parts=set(), bounded=set())


def _is_bounded(part: msgspec.inspect.Type, *, open_parts: set[Any], bounded: set[Any]) -> bool:
    if isinstance(part, msgspec.inspect.AnyType | msgspec.inspect.RawType | msgspec.inspect.ExtType):
        return False
    which: Any = part.cls if isinstance(part, _CLASSES) else id(part)
    if which in bounded:
        return True
    if which in open_parts:
        return False  # it contains itself
    open_parts.add(which)
    if not all(_is_bounded(inner, open_parts=open_parts, bounded=bounded) for inner in _inner(part)):
        return False
    open_parts.discard(which)
    bounded.add(which)
    return True


def made_of_classes(info: msgspec.inspect.Type) -> bool:
    """Return whether values of this type may hold fields that have names."""
    return any(isinstance(part, _CLASSES) for part in parts(info))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _never(kind: type, value: object) -> object:
    raise NotImplementedError
