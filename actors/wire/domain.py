"""Domain errors across the wire.

An exception that msgspec decodes into has no ``args``, and printing it ends the process.
So each class has a twin, a struct with the same fields: an error is decoded into the
twin, then built by calling its class with the twin's values, as the callee did.

Classes come from the subclasses of :class:`~actors.errors.DomainError` that this process
has imported, never from a name that is then imported. An error is sent with its full
name; where that is unknown, one class of the same short name will do, since the module
of a class is not part of what it means. Otherwise the caller gets a ``RemoteError``.
"""

from __future__ import annotations

import dataclasses
import typing
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from actors.errors import DomainError, RemoteError, check_domain_error, members
from actors.wire import types
from actors.wire.codec import decoder, encode, explained

if TYPE_CHECKING:
    from collections.abc import Iterator


class Flat(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """One error: the name of its class, its fields as an encoded map, its text, and for one without fields its arguments."""

    name: str
    fields: msgspec.Raw
    text: str = ""
    args: list[Any] = []


class Group(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """An exception group, with its members in order."""

    message: str
    members: list[Flat | Group]


def to_wire(error: DomainError) -> Flat:
    """Return the error as it is sent. Raises what encoding its fields raises."""
    cls = type(error)
    check_domain_error(cls)
    name = f"{cls.__module__}:{cls.__qualname__}"
    if not hasattr(cls, "__dataclass_fields__"):
        return Flat(name, msgspec.Raw(b"\x80"), str(error), list(error.args))
    values = {field.name: _flattened(getattr(error, field.name)) for field in _fields(cls) if field.init}
    return Flat(name, msgspec.Raw(encode(values)), str(error))


def from_wire(flat: Flat) -> Exception:
    """Return the error that was sent, or a ``RemoteError`` with its name where its class is unknown or has other fields."""
    cls = _named(flat.name)
    if cls is None:
        return RemoteError(type_name=flat.name.rpartition(":")[2], message=flat.text)
    try:
        if not hasattr(cls, "__dataclass_fields__"):
            return cls(*flat.args)
        twin = decoder(_twin(cls))(flat.fields)
        return cls(**{name: getattr(twin, name) for name in twin.__struct_fields__})
    except Exception as problem:  # noqa: BLE001 - also what __post_init__ raises
        return RemoteError(
            type_name=cls.__qualname__, message=f"{flat.text} (its fields do not fit the class here: {explained(problem)[0]})"
        )


def group_to_wire(group: BaseExceptionGroup[Any]) -> Group:
    """Return a group of domain errors as it is sent. Raises what encoding their fields raises."""
    return Group(group.message, [_member_to_wire(member) for member in members(group) or ()])


def _member_to_wire(member: Any) -> Flat | Group:
    return to_wire(member) if members(member) is None else group_to_wire(member)


def group_from_wire(group: Group) -> ExceptionGroup[Exception]:
    """Return the group that was sent."""
    return ExceptionGroup(
        group.message, [group_from_wire(member) if isinstance(member, Group) else from_wire(member) for member in group.members]
    )


_twins: weakref.WeakKeyDictionary[type[DomainError], type[msgspec.Struct]] = weakref.WeakKeyDictionary()


def _twin(cls: type[DomainError]) -> type[msgspec.Struct]:
    twin = _twins.get(cls)
    if twin is None:
        hints = typing.get_type_hints(cls, include_extras=True)
        fields: list[Any] = []
        for field in _fields(cls):
            if not field.init:
                continue
            hint = types.rewrite(hints[field.name], _standing_in)
            types.check(hint, f"{cls.__qualname__}.{field.name}")
            if field.default is not dataclasses.MISSING:
                fields.append((field.name, hint, msgspec.field(default_factory=partial(_same, field.default))))
            elif field.default_factory is not dataclasses.MISSING:
                fields.append((field.name, hint, msgspec.field(default_factory=field.default_factory)))
            else:
                fields.append((field.name, hint))
        twin = _twins[cls] = msgspec.defstruct(cls.__name__, fields, kw_only=True)
    return twin


class _StandIn(type):
    """The class of classes that stand for an error class in a twin, since msgspec would decode into the error itself."""

    error: type[DomainError]

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.error)

    def __from_wire__(cls, value: object) -> Exception:
        error = from_wire(msgspec.msgpack.decode(encode(value), type=Flat))
        if not isinstance(error, cls.error):
            raise TypeError(f"{error} where {cls.error.__qualname__} is expected")
        return error


def _standing_in(hint: Any) -> Any:
    return _StandIn(hint.__name__, (), {"error": hint}) if _is_error_class(hint) else hint


def _is_error_class(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, DomainError)


def _flattened(value: Any) -> Any:
    """Return ``value`` with the domain errors in it as they are sent, each under its own class."""
    if isinstance(value, DomainError):
        return to_wire(value)
    items: Any = value
    if isinstance(value, list | tuple | set | frozenset):
        return [_flattened(item) for item in items]
    if isinstance(value, dict):
        return {key: _flattened(item) for key, item in items.items()}
    return items


def _named(name: str) -> type[DomainError] | None:
    short = name.rpartition(":")[2].rpartition(".")[2]
    alike: list[type[DomainError]] = []
    for cls in _subclasses(DomainError):
        if f"{cls.__module__}:{cls.__qualname__}" == name:
            return cls
        if cls.__name__ == short:
            alike.append(cls)
    return alike[0] if len(alike) == 1 else None


def _subclasses(cls: type[DomainError]) -> Iterator[type[DomainError]]:
    for child in reversed(cls.__subclasses__()):  # the newest of a name that was defined again
        yield child
        yield from _subclasses(child)


def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _same(value: Any) -> Any:
    return value
