"""An actor's state at rest: encoded, versioned, and kept whole across releases.

Bytes are a msgpack array ``[format, state version, fingerprint, body]``. The fingerprint
is a hash of the state's fields and their types. Where it is this code's own, the body is
decoded straight; where it is not, code of another release wrote it, and:

* a **newer** state version is not touched: :class:`StateUnreadable`;
* an **older** one goes through ``migrate(version, raw)``, or is decoded as it is where
  the class has none;
* of the **same** version, fields that this code does not know are *left over*: they are
  handed back beside the state and written again with it, so that old code running beside
  new code in a rolling deploy loses nothing. That is possible for fields of structs at
  fixed places and in dicts; where it is not, inside lists, the state is not read. What
  is written with a leftover has the fingerprint 0, which is nobody's own.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_origin

import msgspec
from msgspec import inspect as i
from xxhash import xxh3_64_intdigest

from actors.errors import SerializationFailed
from actors.wire import types
from actors.wire.codec import StateUnreadable, decoder, encode, explained
from actors.wire.depth import deeper_than

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
_DEEPEST = 1000  # as deep as encoding goes: what was written can be read

Leftover: TypeAlias = "dict[Any, Any] | None"
"""Fields unknown here, by name: their value as ``msgspec.Raw``, or the leftover of a known field's own value."""


class StateCodec:
    """Encodes and decodes the states of one actor type.

    ``encode(state, leftover=None) -> bytes`` and ``decode(raw) -> (state, leftover)``: the
    leftover of a decode goes into every later encode of that activation.
    """

    __slots__ = ("_bounded", "_decode", "_info", "_make", "_migrate", "_mixed", "_prefix", "actor_type", "fingerprint", "kind", "version")

    def __init__(self, actor_type: str, kind: Any, *, version: int = 1, migrate: Callable[[int, Any], Any] | None = None) -> None:
        self.actor_type = actor_type
        self.kind = kind
        self.version = version
        self._migrate = migrate
        self._prefix = b""

    def resolve(self) -> None:
        """Build the codec now. ``TypeError`` for a state that cannot be stored, ``NameError`` for an unknown name in it."""
        if self._prefix:
            return
        where = f"the state of {self.actor_type}"
        types.check(self.kind, where)
        self._make = self._maker(where)
        self._info = i.type_info(self.kind)
        self._bounded = types.is_bounded(self.kind)
        self._decode = decoder(self.kind)
        self.fingerprint = xxh3_64_intdigest(_shape(self._info, ()).encode())
        header = b"\x94" + encode(FORMAT) + encode(self.version) + b"\xcf"
        self._mixed = header + bytes(8)
        self._prefix = header + self.fingerprint.to_bytes(8)

    def fresh(self) -> Any:
        """Return the state of an actor that has none stored."""
        if not self._prefix:
            self.resolve()
        return self._make()

    def encode(self, state: Any, leftover: Leftover = None) -> bytes:
        """Return the state's bytes. ``SerializationFailed`` if something in it has no encoding."""
        if not self._prefix:
            self.resolve()
        try:
            body = encode(state)
        except Exception as error:  # noqa: BLE001 - whatever a value's own encoding raises
            raise self._unencodable(state, error) from None
        if leftover is None:
            return self._prefix + body
        return self._mixed + encode(_merged(body, leftover))

    def decode(self, raw: bytes) -> tuple[Any, Leftover]:
        """Return a stored state, and what is left over of it. :class:`StateUnreadable` if it has to be left alone."""
        if not self._prefix:
            self.resolve()
        size = len(self._prefix)
        if raw[:size] == self._prefix:
            return self._decoded(raw[size:]), None
        return self._foreign(raw)

    def verify(self, raw: bytes) -> None:
        """Raise ``SerializationFailed`` if what ``encode`` returned does not decode: a field holds what its annotation does not allow."""
        try:
            self._decode(raw[len(self._prefix) :])
        except Exception as error:  # noqa: BLE001 - the decoder's, or a ref's
            problem, path = explained(error)
            raise SerializationFailed(what="state", problem=problem, path=path, actor_type=self.actor_type) from None

    def _maker(self, where: str) -> Callable[[], Any]:
        """Return what makes a state from nothing, once it has been seen to work."""
        info = i.type_info(self.kind)
        if isinstance(info, i.StructType | i.DataclassType | i.TypedDictType):
            needed = [field.name for field in info.fields if field.required]
            if needed:
                raise TypeError(
                    f"{where}: {info.cls.__qualname__} needs a default for {', '.join(needed)}, "
                    "since an actor starts without a stored state"
                )
        if isinstance(info, i.UnionType):
            if not info.includes_none:
                raise TypeError(f"{where} is a union, of which nobody knows where it starts. Add None to it, or wrap it in a struct")
            return _nothing
        kind = self.kind.__origin__ if get_origin(self.kind) is Annotated else self.kind
        make: Callable[[], Any] = get_origin(kind) or kind
        try:
            decoder(self.kind)(encode(make()))
        except Exception as error:  # noqa: BLE001 - whatever it says, it cannot be made from nothing
            raise TypeError(f"{where}: {self.kind} cannot be made from nothing ({error}). Take a msgspec struct with defaults") from None
        return make

    def _decoded(self, body: Any) -> Any:
        if not self._bounded and deeper_than(bytes(body), _DEEPEST):
            raise StateUnreadable(actor_type=self.actor_type, problem=f"it is nested over {_DEEPEST} levels")
        try:
            return self._decode(body)
        except Exception as error:  # noqa: BLE001 - the decoder's, a ref's, or a __post_init__'s
            problem, path = explained(error)
            raise StateUnreadable(
                actor_type=self.actor_type,
                problem=f"{problem} at {path}. If its type has changed, raise state_version and give the class a migrate()",
            ) from None

    def _foreign(self, raw: bytes) -> tuple[Any, Leftover]:
        try:
            header = _decode_header(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise StateUnreadable(actor_type=self.actor_type, problem=f"it has no header ({error})") from None
        if header.format != FORMAT or header.version > self.version:
            what = f"format {header.format}" if header.format != FORMAT else f"state_version {header.version}"
            ours = FORMAT if header.format != FORMAT else self.version
            raise StateUnreadable(
                actor_type=self.actor_type, problem=f"it was written by newer code ({what}, here it is {ours}). Deploy that code here too"
            )
        if header.version < self.version and self._migrate is not None:
            return self._migrated(header), None
        state = self._decoded(header.body)
        try:
            return state, _left_over(self._info, msgspec.msgpack.decode(header.body), "$") or None
        except _CannotKeep as error:
            raise StateUnreadable(
                actor_type=self.actor_type,
                problem=f"newer code has written {error}, which this code does not know and could not keep. Deploy that code here too",
            ) from None
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise StateUnreadable(actor_type=self.actor_type, problem=str(error)) from None

    def _migrated(self, header: _Header) -> Any:
        assert self._migrate is not None
        try:
            state = self._migrate(header.version, msgspec.msgpack.decode(header.body))
            encoded = encode(state)
        except Exception as error:
            raise StateUnreadable(
                actor_type=self.actor_type, problem=f"migrate({header.version}, …) failed with {type(error).__name__}: {error}"
            ) from error
        return self._decoded(encoded)

    def _unencodable(self, state: Any, error: Exception) -> SerializationFailed:
        path = "$"
        for name in _field_names(state):
            try:
                encode(getattr(state, name, None))
            except Exception as cause:  # noqa: BLE001 - the same again
                path, error = f"$.{name}", cause
                break
        problem = "it is nested too deep, or contains itself" if isinstance(error, RecursionError) else str(error)
        return SerializationFailed(what="state", problem=problem, path=path, actor_type=self.actor_type)


class _Header(msgspec.Struct, array_like=True, frozen=True):
    format: int
    version: int
    fingerprint: int
    body: msgspec.Raw


class _CannotKeep(Exception):
    pass


_decode_header = msgspec.msgpack.Decoder(_Header).decode
_decode_map = msgspec.msgpack.Decoder(dict[Any, msgspec.Raw]).decode


def _nothing() -> None:
    return None


def _field_names(state: Any) -> tuple[str, ...]:
    if isinstance(state, msgspec.Struct):
        return state.__struct_fields__
    return tuple(field.name for field in dataclasses.fields(state)) if dataclasses.is_dataclass(state) else ()


def _left_over(info: i.Type, raw: Any, path: str) -> dict[Any, Any]:
    """Return the fields in ``raw``, a decoded body, that ``info`` does not know."""
    match info:
        case i.Metadata():
            return _left_over(info.type, raw, path)
        case i.UnionType():
            member = _member(info, raw)
            return {} if member is None else _left_over(member, raw, path)
        case i.StructType(array_like=True):
            known = len(info.fields) + (info.tag_field is not None)
            if len(raw) > known:
                raise _CannotKeep(f"{len(raw) - known} more items in {path}")
            values = raw[1:] if info.tag_field is not None else raw
            _nothing_in([(field.type, value) for field, value in zip(info.fields, values, strict=False)], path)
            return {}
        case i.StructType() | i.DataclassType() | i.TypedDictType():
            types_of = {field.encode_name: field.type for field in info.fields}
            tag = info.tag_field if isinstance(info, i.StructType) else None
            left = {name: msgspec.Raw(msgspec.msgpack.encode(value)) for name, value in raw.items() if name not in types_of and name != tag}
            return left | _left_inside(((name, types_of[name], value) for name, value in raw.items() if name in types_of), path)
        case i.DictType() | i.FrozenDictType():
            return _left_inside(((name, info.value_type, value) for name, value in raw.items()), path)
        case i.ListType() | i.SetType() | i.FrozenSetType() | i.VarTupleType() | i.CollectionType():
            if types.made_of_classes(info.item_type):
                _nothing_in([(info.item_type, value) for value in raw], path)
            return {}
        case i.TupleType():
            _nothing_in(list(zip(info.item_types, raw, strict=False)), path)
            return {}
        case i.NamedTupleType():
            _nothing_in([(field.type, value) for field, value in zip(info.fields, raw, strict=False)], path)
            return {}
        case _:
            return {}


def _left_inside(items: Any, path: str) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for name, kind, value in items:
        inside = _left_over(kind, value, f"{path}.{name}")
        if inside:
            found[name] = inside
    return found


def _nothing_in(items: list[tuple[i.Type, Any]], path: str) -> None:
    for kind, value in items:
        inside = _left_over(kind, value, f"{path}[…]")
        if inside:
            raise _CannotKeep(f"{', '.join(map(str, inside))} in the items of {path}")


def _member(info: i.UnionType, raw: Any) -> i.Type | None:
    """Return the member of a union that ``raw`` was decoded as, if it is one that may hold fields."""
    for member in info.types:
        match member:
            case i.StructType(array_like=True):
                if isinstance(raw, list) and (member.tag_field is None or raw[:1] == [member.tag]):
                    return member
            case i.StructType():
                if isinstance(raw, dict) and _tagged(raw, member):
                    return member
            case i.DataclassType() | i.TypedDictType() | i.DictType() | i.FrozenDictType():
                if isinstance(raw, dict):
                    return member
            case (
                i.ListType() | i.SetType() | i.FrozenSetType() | i.VarTupleType() | i.TupleType() | i.NamedTupleType() | i.CollectionType()
            ):
                if isinstance(raw, list):
                    return member
            case i.Metadata():
                if isinstance(raw, dict | list):
                    return _member(i.UnionType((member.type,)), raw)
            case _:
                continue
    return None


def _tagged(raw: Any, member: i.StructType) -> bool:
    return member.tag_field is None or raw.get(member.tag_field) == member.tag


def _merged(body: Any, leftover: dict[Any, Any]) -> Any:
    """Return a map's encoded entries with what was left over of it, where they are maps still."""
    try:
        merged: dict[Any, Any] = dict(_decode_map(body))
    except (msgspec.MsgspecError, ValueError):
        return body if isinstance(body, msgspec.Raw) else msgspec.Raw(body)  # no map any more: its field was given another value
    for name, left in leftover.items():
        if isinstance(left, msgspec.Raw):
            merged.setdefault(name, left)
        elif name in merged:
            merged[name] = _merged(merged[name], left)
    return merged


def _shape(info: i.Type, inside: tuple[Any, ...]) -> str:
    """Return a text that two types share if they have the same fields, by name and kind, all the way down."""
    match info:
        case i.Metadata():
            return _shape(info.type, inside)
        case i.StructType() | i.DataclassType() | i.TypedDictType() | i.NamedTupleType():
            if info.cls in inside:
                return f"^{inside.index(info.cls)}"
            inner = (*inside, info.cls)
            tag = f"{info.tag_field}={info.tag!r}:{info.array_like}" if isinstance(info, i.StructType) else ""
            fields = [(getattr(field, "encode_name", field.name), _shape(field.type, inner)) for field in info.fields]
            return f"{{{tag}{','.join(f'{name}:{kind}' for name, kind in fields)}}}"
        case i.UnionType():
            return "|".join(sorted(_shape(member, inside) for member in info.types))
        case i.DictType() | i.FrozenDictType():
            return f"dict[{_shape(info.key_type, inside)},{_shape(info.value_type, inside)}]"
        case i.TupleType():
            return f"tuple[{','.join(_shape(item, inside) for item in info.item_types)}]"
        case i.ListType() | i.SetType() | i.FrozenSetType() | i.VarTupleType() | i.CollectionType():
            return f"{type(info).__name__}[{_shape(info.item_type, inside)}]"
        case i.EnumType():
            return f"enum[{','.join(repr(member.value) for member in info.cls)}]"
        case i.LiteralType():
            return f"literal{sorted(map(repr, info.values))}"
        case i.CustomType():
            return "ref"
        case _:
            return type(info).__name__
