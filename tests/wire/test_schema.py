"""The schema of a system's actors, for other languages and for review."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from actors.actor import Actor, actor_options, actor_spec
from actors.message import message
from actors.wire.schema import schema_of


class Item(msgspec.Struct):
    name: str


class State(msgspec.Struct):
    items: list[Item] = []


class Shop(Actor[State]):
    """Sells things."""

    @message
    async def add(self, item: Item, count: Annotated[int, Meta(ge=1)] = 1, *, to: Shop | None = None) -> int:
        """Put some more on the shelf."""
        raise NotImplementedError

    @message(read_only=True)
    async def all(self) -> AsyncIterator[Item]:
        yield Item("")


class Clock(Actor[None]):
    @message
    def now(self) -> float:
        raise NotImplementedError


SCHEMA = schema_of([actor_spec(Shop, actor_options(state_version=3)), actor_spec(Clock, name="wall.clock", shard_group="slow")])
SHOP: dict[str, Any] = SCHEMA["actors"]["Shop"]


def test_it_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(SCHEMA)) == SCHEMA


def test_actors_go_by_their_names_and_say_what_they_are() -> None:
    assert list(SCHEMA["actors"]) == ["Shop", "wall.clock"]
    assert SHOP["description"] == "Sells things."
    assert SCHEMA["actors"]["wall.clock"] | {"messages": ...} == {"shard_group": "slow", "state": None, "messages": ...}


def test_a_message_shows_its_arguments_and_its_reply() -> None:
    add = SHOP["messages"]["add"]

    assert (add["kind"], add["read_only"], add["description"]) == ("coroutine", False, "Put some more on the shelf.")
    assert add["arguments"]["required"] == ["item"]
    assert add["arguments"]["properties"]["item"] == {"$ref": "#/$defs/Item"}
    assert add["arguments"]["properties"]["count"] == {"type": "integer", "minimum": 1, "default": 1}
    assert add["reply"] == {"type": "integer"}


def test_a_stream_shows_its_items() -> None:
    stream = SHOP["messages"]["all"]

    assert (stream["kind"], stream["read_only"], stream["reply"]) == ("stream", True, {"$ref": "#/$defs/Item"})


def test_a_ref_is_an_array_of_type_and_key() -> None:
    ref = SHOP["messages"]["add"]["arguments"]["properties"]["to"]["anyOf"]

    assert {"type": "null"} in ref
    assert any(option.get("title") == "Ref to Shop" and option["minItems"] == 2 for option in ref)


def test_a_state_shows_its_version_and_fingerprint() -> None:
    state = SHOP["state"]

    assert (state["version"], state["schema"]) == (3, {"$ref": "#/$defs/State"})
    assert len(state["fingerprint"]) == 16


def test_shared_types_stand_once_and_nothing_else_does() -> None:
    assert set(SCHEMA["$defs"]) == {"Item", "State"}
