"""JSON Schema of everything that a system's actors take, answer and keep.

For other languages, for review of a change, for documentation. The wire itself is
msgpack; values are those of the schema.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from actors.wire import types

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from enum import Enum

    from actors.wire.codec import Arguments, Result

_REFERENCE = "#/$defs/{name}"


class Method(Protocol):
    """What is shown of a method."""

    @property
    def kind(self) -> Enum: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def reentrant(self) -> bool: ...
    @property
    def function(self) -> Any: ...
    @property
    def arguments(self) -> Arguments | None: ...
    @property
    def result(self) -> Result | None: ...
    def resolve(self) -> None: ...


class State(Protocol):
    """What is shown of a state."""

    @property
    def kind(self) -> Any: ...
    @property
    def version(self) -> int: ...
    @property
    def fingerprint(self) -> int: ...
    def resolve(self) -> None: ...


class Actor(Protocol):
    """What is shown of an actor type."""

    @property
    def name(self) -> str: ...
    @property
    def cls(self) -> type: ...
    @property
    def shard_group(self) -> str: ...
    @property
    def methods(self) -> Mapping[str, Method]: ...
    @property
    def state(self) -> State | None: ...


def schema_of(specs: Iterable[Actor]) -> dict[str, Any]:
    """Return one document for all ``specs``: arguments and replies of their messages, their states, shared types under ``$defs``."""
    specs = sorted(specs, key=lambda spec: spec.name)
    kinds: list[Any] = []

    def place(kind: Any) -> int:
        kinds.append(kind)
        return len(kinds) - 1

    actors: dict[str, Any] = {}
    for spec in specs:
        messages = {name: _message(method, place) for name, method in sorted(spec.methods.items())}
        actors[spec.name] = _described(
            spec.cls, {"shard_group": spec.shard_group, "state": _state(spec.state, place), "messages": messages}
        )
    schemas, components = msgspec.json.schema_components(kinds, schema_hook=_reference_to, ref_template=_REFERENCE)
    shown: list[Any] = list(schemas)
    for actor in actors.values():
        if actor["state"] is not None:
            actor["state"]["schema"] = shown[actor["state"]["schema"]]
        for message in actor["messages"].values():
            name: str = shown[message["arguments"]]["$ref"].removeprefix("#/$defs/")
            message["arguments"] = components.pop(name)  # nobody else refers to it
            del message["arguments"]["title"]
            message["reply"] = shown[message["reply"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "actors": actors, "$defs": dict(sorted(components.items()))}


def _message(method: Method, place: Any) -> dict[str, Any]:
    method.resolve()
    assert method.arguments is not None
    assert method.result is not None
    facts = {
        "kind": method.kind.value,
        "read_only": method.read_only,
        "reentrant": method.reentrant,
        "arguments": place(method.arguments.struct),
        "reply": place(method.result.hint),
    }
    return _described(method.function, facts)


def _state(state: State | None, place: Any) -> dict[str, Any] | None:
    if state is None:
        return None
    state.resolve()
    return {"version": state.version, "fingerprint": f"{state.fingerprint:016x}", "schema": place(state.kind)}


def _described(thing: Any, facts: dict[str, Any]) -> dict[str, Any]:
    text = inspect.getdoc(thing) if thing.__doc__ else None
    return {"description": text, **facts} if text else facts


def _reference_to(kind: Any) -> dict[str, Any]:
    if types.is_actor(kind):
        return {
            "title": f"Ref to {kind.__name__}",
            "description": "Actor type and key.",
            "type": "array",
            "prefixItems": [{"type": "string"}, {"type": "string", "minLength": 1, "maxLength": 1024}],
            "items": False,
            "minItems": 2,
        }
    raise NotImplementedError
