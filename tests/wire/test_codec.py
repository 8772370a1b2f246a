"""Arguments and results: checked alike on both sides, and of the same bytes in every release."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from actors.errors import MalformedMessage, PayloadTooLarge, SerializationFailed
from actors.wire.codec import Arguments, Result, Target

ALICE: Any = SimpleNamespace(key="alice")
TARGET = Target("Account", "deposit")


def arguments(function: Callable[..., Any]) -> Arguments:
    return Arguments(TARGET, function, typing.get_type_hints(function, include_extras=True), refs=False)


class Item(msgspec.Struct):
    name: str
    price: Annotated[int, Meta(ge=0)] = 0


@dataclass
class Box:
    items: list[Item]


def simple(self: Any, amount: int) -> Any:
    return self.key, amount


def mixed(self: Any, to: str, /, n: Annotated[int, Meta(ge=1, le=10)] = 1, *, note: str = "", tags: list[str] = [], must: int) -> Any:  # noqa: B006 - on purpose
    tags.append("seen")
    return to, n, note, tags, must


def nested(self: Any, box: Box, when: datetime | None = None) -> Any:
    return box, when


def nothing(self: Any) -> Any:
    return self.key


def untyped(self: Any, value: Any) -> Any:
    return value


def test_a_call_arrives_as_it_was_made() -> None:
    call = arguments(mixed)

    raw = call.encoder()(("bob", 2), {"must": 3, "tags": ["x"]})

    assert msgspec.msgpack.decode(raw) == {"to": "bob", "n": 2, "tags": ["x"], "must": 3}
    assert call.starter()(ALICE, raw) == ("bob", 2, "", ["x", "seen"], 3)
    assert call.binder()(ALICE, raw)() == ("bob", 2, "", ["x", "seen"], 3)


def test_a_method_without_arguments() -> None:
    call = arguments(nothing)

    assert call.encoder()((), {}) == b"\x80"
    assert call.starter()(ALICE, b"\x80") == "alice"


def test_a_mutable_default_is_not_shared_between_calls() -> None:
    call = arguments(mixed)
    raw = call.encoder()(("bob",), {"must": 1})

    first, second = call.starter()(ALICE, raw), call.starter()(ALICE, raw)

    assert first[3] == second[3] == ["seen"]


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'to'"),
        (("bob",), {}, "missing a required"),
        (("bob", 1, "note"), {"must": 1}, "too many positional arguments"),
        (("bob",), {"must": 1, "mst": 2}, "unexpected keyword argument 'mst'"),
        (("bob",), {"mst": 1}, "unexpected keyword argument 'mst'"),
        ((), {"to": "bob", "must": 1}, "positional.only"),
        (("bob", 1), {"n": 2, "must": 1}, "multiple values for argument 'n'"),
    ],
)
def test_a_wrong_call_is_a_type_error_as_in_python(args: tuple[Any, ...], kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said) as caught:
        arguments(mixed).encoder()(args, kwargs)

    assert str(caught.value).startswith("Account.deposit() ")


@pytest.mark.parametrize(
    ("function", "args", "path", "problem"),
    [
        (simple, ("three",), "$.amount", "Expected `int`, got `str`"),
        (simple, (None,), "$.amount", "Expected `int`, got `None`"),
        (nested, (Box([Item("a"), Item("b", price=-1)]),), "$.box.items[1].price", "Expected `int` >= 0"),
        (nested, (Box([]), "tomorrow"), "$.when", "Invalid RFC3339"),
    ],
)
def test_the_sender_is_told_what_the_receiver_would_refuse(function: Any, args: tuple[Any, ...], path: str, problem: str) -> None:
    """Before anything is sent, with the receiver's very rules, constraints included."""
    with pytest.raises(MalformedMessage) as caught:
        arguments(function).encoder()(args, {}, "bob")

    error = caught.value
    assert (error.path, error.actor_type, error.key, error.method) == (path, "Account", "bob", "deposit")
    assert error.problem.startswith(problem)


@pytest.mark.parametrize(
    ("raw", "path", "problem"),
    [
        (b"\x80", "$.amount", "Object missing required field `amount`"),
        (b"\x81\xa6amount\xa1x", "$.amount", "Expected `int`, got `str`"),
        (b"\x91\x01", "$", "Expected `object`, got `array`"),
        (b"\x81\xa6amount", "$", "Input data was truncated"),
        (b"\x81\xa6amount\x01\x01", "$", "MessagePack data is malformed"),
        (b"\xc1", "$", "MessagePack data is malformed"),
    ],
)
def test_the_receiver_names_what_does_not_fit(raw: bytes, path: str, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        arguments(simple).starter()(ALICE, raw)

    error = caught.value
    assert (error.path, error.actor_type, error.key, error.method) == (path, "Account", "alice", "deposit")
    assert error.problem.startswith(problem)


@given(st.binary(max_size=100))
def test_any_bytes_are_arguments_or_malformed(raw: bytes) -> None:
    for function in (simple, nested, untyped):
        try:
            arguments(function).starter()(ALICE, raw)
        except MalformedMessage as error:
            assert error.key == "alice"  # noqa: PT017 - both ways out are fine


def test_a_value_without_an_encoding_is_named() -> None:
    for value in (object(), 1 << 65, {"x": [lambda: 0]}):
        with pytest.raises(SerializationFailed) as caught:
            arguments(untyped).encoder()((value,), {}, "bob")

        assert (caught.value.what, caught.value.path, caught.value.key) == ("argument 'value'", "$.value", "bob")


def test_a_value_that_contains_itself_is_named() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(SerializationFailed, match="contains itself"):
        arguments(untyped).encoder()((loop,), {})


def test_what_no_decoder_should_follow_is_not_sent() -> None:
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]

    with pytest.raises(PayloadTooLarge, match="levels"):
        arguments(untyped).encoder()((deep,), {})


# Releases side by side


def newer(self: Any, amount: int, currency: str = "EUR", *, limit: int = 1000) -> Any:
    return amount, currency, limit


def test_an_added_optional_argument_is_compatible_both_ways() -> None:
    old, new = arguments(simple), arguments(newer)

    assert new.starter()(ALICE, old.encoder()((5,), {})) == (5, "EUR", 1000)
    assert old.starter()(ALICE, new.encoder()((5, "USD"), {"limit": 3})) == ("alice", 5)


@pytest.mark.parametrize(("args", "kwargs"), [((5,), {}), ((5, "EUR"), {}), ((5,), {"limit": int("1000")}), ((5, "eur".upper()), {})])
def test_a_call_that_leaves_the_new_argument_at_its_default_has_the_old_bytes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """An idempotency key remembers a hash of them: the same call from the next release is the same call."""
    assert arguments(newer).encoder()(args, kwargs) == arguments(simple).encoder()((5,), {})


def test_a_value_that_only_compares_equal_to_the_default_is_sent() -> None:
    def counted(self: Any, n: float = 1.0) -> Any:
        return n

    assert arguments(counted).encoder()((1,), {}) == b"\x81\xa1n\x01"


def test_an_argument_moved_or_made_keyword_only_is_compatible() -> None:
    """Arguments go by name: their order does not matter."""

    def moved(self: Any, currency: str = "EUR", *, amount: int) -> Any:
        return amount, currency

    assert arguments(moved).starter()(ALICE, arguments(newer).encoder()((5, "USD"), {})) == (5, "USD")


# Results


def result(hint: Any) -> Result:
    return Result(TARGET, hint, refs=False)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 5),
        (None, None),
        (str, "x"),
        (float, 1),
        (list[Item], [Item("a")]),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
        (Any, {"a": [1]}),
    ],
)
def test_a_result_comes_back(hint: Any, value: Any) -> None:
    codec = result(hint)

    assert codec.decoder()(codec.encoder()(value)) == value


@pytest.mark.parametrize(
    ("hint", "value", "path"),
    [(int, "five", "$"), (int, None, "$"), (None, 3, "$"), (list[Item], [Item("a", price=-1)], "$[0].price"), (int, object(), "")],
)
def test_a_result_that_does_not_fit_its_annotation_is_not_sent(hint: Any, value: Any, path: str) -> None:
    """The callee is told, whose mistake it is and whose turn can still be dropped."""
    with pytest.raises(SerializationFailed) as caught:
        result(hint).encoder()(value, "bob")

    assert (caught.value.what, caught.value.path, caught.value.key) == ("reply", path, "bob")


def test_a_result_that_cannot_be_read_is_a_typed_error() -> None:
    with pytest.raises(SerializationFailed) as caught:
        result(int).decoder()(b"\xa1x", None, "bob")

    assert (caught.value.what, caught.value.problem, caught.value.key) == ("reply received", "Expected `int`, got `str`", "bob")


def test_a_result_nested_too_deep_is_not_sent() -> None:
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]

    with pytest.raises(PayloadTooLarge, match="reply"):
        result(Any).encoder()(deep)
