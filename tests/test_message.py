"""Messages: what one declaration makes of a method, by where it is looked up."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, Self, TypeVar

import msgspec
import pytest

from actors.actor import Actor, actor_spec
from actors.errors import DomainError, MalformedMessage, RemoteError, SerializationFailed
from actors.ids import ActorAddress
from actors.message import Bound, Delayed, Kind, MessageType, Outgoing, Receipt, message
from actors.supervision import Retry
from tests.loopback import Loopback

P = ParamSpec("P")
R = TypeVar("R")
trail: ContextVar[str] = ContextVar("trail", default="none")


@dataclass
class InsufficientFunds(DomainError):
    balance: int
    requested: int


class AccountState(msgspec.Struct):
    balance: int = 0
    friend: Account | None = None


def logged(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return wrapper


class Account(Actor[AccountState]):
    @message
    async def deposit(self, amount: int, *, note: str = "") -> int:
        """Put money in."""
        self.state.balance += amount
        return self.state.balance

    @message
    async def withdraw(self, amount: int) -> int:
        if self.state.balance < amount:
            raise InsufficientFunds(balance=self.state.balance, requested=amount)
        self.state.balance -= amount
        return self.state.balance

    @message
    async def both(self, amount: int) -> tuple[int, int]:
        return await self.deposit(amount), await self.withdraw(1)

    @message(read_only=True, timeout=timedelta(seconds=5))
    async def balance(self) -> int:
        return self.state.balance

    @message(reentrant=True, retry=Retry(2))
    async def peek(self) -> int:
        return self.state.balance

    @message
    def thread(self) -> tuple[str, str]:
        return threading.current_thread().name, trail.get()

    @message
    async def thread_from_here(self) -> tuple[str, str]:
        trail.set("the turn's")
        return await self.thread()

    @message
    def waits(self, other: Account) -> int:
        return self.wait(other.deposit(7))

    @message
    async def count(self, to: int, *, fail_at: int = -1) -> AsyncIterator[int]:
        for number in range(to):
            if number == fail_at:
                raise InsufficientFunds(number, to)
            yield number

    @message
    async def doubled(self, to: int) -> list[int]:
        return [number async for number in self.count(to)]

    @message
    def delegated(self, to: int) -> AsyncIterator[int]:
        return self.count(to)

    @message
    async def befriend(self, other: Account) -> int:
        self.state.friend = other
        return await other.deposit(1)

    @message
    async def to_friend(self, amount: int) -> int:
        assert self.state.friend is not None
        return await self.state.friend.deposit(amount)

    @message
    async def me(self) -> Self:
        return self

    @message
    async def introduce(self, to: Account) -> Account:
        return await to.me()

    @message
    async def hand_over(self, to: Account) -> None:
        await to.befriend(self)

    @message
    async def later(self) -> None:
        await self.deposit.options(after=5).tell(1)
        await self.deposit.tell(2)

    @message
    @logged
    async def wrapped(self, n: int) -> int:
        return n

    @message
    async def broken(self) -> int:
        raise KeyError("x")

    @message
    async def wrong_reply(self) -> int:
        return "five"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    def helper(self) -> int:
        return 1


class Savings(Account):
    @message
    async def deposit(self, amount: int, *, note: str = "") -> int:
        return 1000 + await super().deposit(amount, note=note)


@pytest.fixture
def client() -> Any:
    loopback = Loopback(actor_spec(Account), actor_spec(Savings))
    yield loopback
    loopback.executor.shutdown()


def alice(client: Loopback) -> Account:
    account: Account = client.get(Account, "alice")
    return account


# On the class


def test_on_the_class_it_is_the_message() -> None:
    found: Any = Account.deposit

    assert found == MessageType(Account, "deposit")
    assert (found.name, repr(found)) == ("deposit", "<message Account.deposit>")
    with pytest.raises(TypeError, match="has no target: call it on a ref"):
        found(1)


def test_a_subclass_has_its_own() -> None:
    inherited: Any = Savings.withdraw

    assert inherited == MessageType(Savings, "withdraw")


def test_what_the_runner_sees() -> None:
    methods = actor_spec(Account).methods

    assert methods["balance"].read_only
    assert methods["balance"].timeout == 5.0
    assert methods["peek"].reentrant
    assert methods["peek"].read_only, "reentrant implies it"
    assert methods["peek"].retry == Retry(2)
    assert [methods[name].kind for name in ("deposit", "thread", "count", "delegated", "wrapped")] == [
        Kind.COROUTINE,
        Kind.THREAD,
        Kind.STREAM,
        Kind.STREAM,
        Kind.COROUTINE,
    ]


# On a ref


async def test_asking_returns_the_reply(client: Loopback) -> None:
    assert await alice(client).deposit(5) == 5
    assert await alice(client).deposit(amount=5, note="rent") == 10


async def test_a_domain_error_is_raised_at_the_caller(client: Loopback) -> None:
    with pytest.raises(InsufficientFunds) as caught:
        await alice(client).withdraw(3)

    assert caught.value == InsufficientFunds(0, 3)


async def test_a_defect_and_a_wrong_reply_are_errors_of_ours(client: Loopback) -> None:
    with pytest.raises(RemoteError, match=r"Account.broken of 'alice': it failed with KeyError"):
        await alice(client).broken()
    with pytest.raises(SerializationFailed, match=r"the reply cannot be encoded at \$: Expected `int`, got `str`"):
        await alice(client).wrong_reply()


async def test_a_wrong_call_fails_where_it_is_made(client: Loopback) -> None:
    """Not when it is awaited, and nothing is sent."""
    untyped: Any = alice(client)

    with pytest.raises(TypeError, match=r"Account.deposit\(\) missing a required argument: 'amount'"):
        untyped.deposit()
    with pytest.raises(MalformedMessage, match=r"Account.deposit of 'alice'.* at \$.amount: Expected `int`, got `str`"):
        untyped.deposit.tell("no")

    assert client.sent == []


async def test_arguments_are_those_at_the_time_of_the_call(client: Loopback) -> None:
    call = alice(client).deposit(1)
    task = asyncio.create_task(call)

    assert await task == 1


async def test_telling_returns_a_receipt(client: Loopback) -> None:
    assert await alice(client).deposit.tell(5) == Receipt("m1", duplicate=False)


async def test_a_message_is_a_value(client: Loopback) -> None:
    one, same, other = (alice(client).deposit.message(n) for n in (1, 1, 2))

    assert one == same != other
    assert len({one, same, other}) == 2
    assert (one.address, one.method, one.payload) == (ActorAddress("Account", "alice"), "deposit", b"\x81\xa6amount\x01")
    assert one != alice(client).deposit.options(headers={"a": "b"}).message(1)
    assert one != "something else"
    assert repr(one) == "<Outgoing Account/alice.deposit, 9 bytes>"


async def test_options_add_up(client: Loopback) -> None:
    bound = alice(client).deposit.options(timeout=2, headers={"a": "1", "b": "1"}).options(idempotency_key="k", headers={"b": "2"})

    assert await bound(3) == 3
    options = client.sent[0].options
    assert (options.timeout, options.idempotency_key, options.headers) == (2.0, "k", {"a": "1", "b": "2"})
    assert alice(client).deposit.message(1).options.timeout is None, "they belong to the bound message alone"


async def test_a_delayed_message_can_only_be_told(client: Loopback) -> None:
    after = alice(client).deposit.options(after=timedelta(minutes=1))
    at = alice(client).deposit.options(idempotency_key="k").options(at=datetime(2030, 1, 1, tzinfo=UTC))

    assert type(after) is type(at) is Delayed
    with pytest.raises(TypeError, match=r"no reply to wait for: send it with \.tell"):
        after(1)  # type: ignore[operator]
    await after.options(headers={"a": "1"}).tell(1)
    assert (client.sent[0].options.after, client.sent[0].options.headers) == (60.0, {"a": "1"})
    assert at.message(1).options.at == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert at.message(1).options.idempotency_key == "k"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"timeout": 0}, ValueError, "timeout is 0; it must be a finite time above 0 s"),
        ({"timeout": float("inf")}, ValueError, "finite"),
        ({"timeout": float("nan")}, ValueError, "finite"),
        ({"timeout": "2"}, TypeError, "seconds or a timedelta"),
        ({"timeout": True}, TypeError, "seconds or a timedelta"),
        ({"after": -1}, ValueError, "of at least 0 s"),
        ({"after": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, TypeError, "not both"),
        ({"at": datetime(2030, 1, 1)}, ValueError, "with a time zone"),  # noqa: DTZ001 - on purpose
        ({"idempotency_key": ""}, ValueError, "1 to 1,024"),
        ({"headers": {"a": 1}}, TypeError, "map text to text"),
        ({"timout": 1}, TypeError, "unexpected keyword argument 'timout'"),
    ],
)
def test_options_that_make_no_sense_are_refused(client: Loopback, options: dict[str, Any], error: Any, said: str) -> None:
    bound: Any = alice(client).deposit

    with pytest.raises(error, match=said):
        bound.options(**options)


# Streams


async def test_a_stream_yields_its_items(client: Loopback) -> None:
    assert [number async for number in alice(client).count(3)] == [0, 1, 2]
    assert [number async for number in alice(client).delegated.options(timeout=3)(2)] == [0, 1]
    assert client.sent[1].options.timeout == 3.0


async def test_an_error_comes_after_the_items_before_it(client: Loopback) -> None:
    seen: list[int] = []

    with pytest.raises(InsufficientFunds):
        async for number in alice(client).count(3, fail_at=2):
            seen.append(number)

    assert seen == [0, 1]


async def test_closing_a_stream_early_closes_its_producer(client: Loopback) -> None:
    closed: list[str] = []

    class Watching(Loopback):
        async def stream(self, call: Outgoing, /) -> AsyncGenerator[bytes, None]:
            try:
                async for body in super().stream(call):
                    yield body
            finally:
                closed.append(call.method)

    watching = Watching(actor_spec(Account))
    async with aclosing(alice(watching).count(1000)) as items:
        assert await anext(items) == 0

    assert closed == ["count"]
    watching.executor.shutdown()


# On self


async def test_on_self_a_message_is_a_plain_call_in_the_same_turn(client: Loopback) -> None:
    assert await alice(client).both(5) == (5, 4)
    assert [call.method for call in client.sent] == ["both"]


async def test_super_reaches_the_parents_message(client: Loopback) -> None:
    savings: Savings = client.get(Savings, "s")

    assert await savings.deposit(5) == 1005
    assert await savings.both(5) == (1010, 9)


async def test_a_plain_def_runs_in_a_thread_with_the_turns_context(client: Loopback) -> None:
    trail.set("the client's")

    name, seen = await alice(client).thread()
    from_self = await alice(client).thread_from_here()

    assert name != threading.current_thread().name
    assert seen == "the client's"
    assert from_self[0] != threading.current_thread().name
    assert from_self[1] == "the turn's"


async def test_a_plain_def_waits_for_what_is_asynchronous(client: Loopback) -> None:
    assert await alice(client).waits(client.get(Account, "bob")) == 7


async def test_a_stream_on_self_is_a_plain_generator(client: Loopback) -> None:
    assert await alice(client).doubled(3) == [0, 1, 2]
    assert [call.method for call in client.sent] == ["doubled"]


async def test_what_sends_on_self_goes_to_its_own_mailbox(client: Loopback) -> None:
    await alice(client).later()

    told = [(call.address.key, call.method, call.options.after) for call in client.sent[1:]]
    assert told == [("alice", "deposit", 5.0), ("alice", "deposit", None)]


# Refs in messages


async def test_a_ref_travels_as_an_argument(client: Loopback) -> None:
    """It sends through the client of the handler it arrives in."""
    assert await alice(client).befriend(client.get(Account, "bob")) == 1
    assert client.sent[0].payload == msgspec.msgpack.encode({"other": ("Account", "bob")})


async def test_a_ref_in_the_state_is_used_in_later_turns(client: Loopback) -> None:
    await alice(client).befriend(client.get(Account, "bob"))

    assert await alice(client).to_friend(4) == 5


async def test_self_as_an_argument_or_a_reply_becomes_a_ref(client: Loopback) -> None:
    await alice(client).hand_over(client.get(Account, "bob"))
    me: Account = await alice(client).me()

    assert client.live(ActorAddress("Account", "bob")).state.friend == alice(client)
    assert repr(me) == "<ref Account 'alice'>"


async def test_a_ref_in_a_reply_belongs_to_the_client_that_asked(client: Loopback) -> None:
    introduced = await alice(client).introduce(client.get(Account, "bob"))

    assert await introduced.deposit(3) == 3


async def test_a_ref_to_a_subclass_passes_for_its_parent_and_not_the_other_way_round(client: Loopback) -> None:
    savings: Savings = client.get(Savings, "s")

    assert await alice(client).befriend(savings) == 1001
    wrong: Any = actor_spec(Savings).methods["befriend"].encode_args((savings,), {})
    assert wrong == msgspec.msgpack.encode({"other": ("Savings", "s")})

    class Strict(Actor[None]):
        @message
        async def take(self, savings: Savings) -> None: ...

    take: Any = actor_spec(Strict, localns={"Savings": Savings}).methods["take"]
    with pytest.raises(MalformedMessage, match="a ref to Account where Savings is expected"):
        take.encode_args((alice(client),), {})


async def test_a_decorated_coroutine_function_is_one(client: Loopback) -> None:
    assert await alice(client).wrapped(3) == 3


# What is refused


def test_only_functions_are_messages() -> None:
    wrong: Any = message

    for value, said in ((3, "not on a int"), (staticmethod(len), "staticmethod"), (property(len), "property"), (len, "builtin_function")):
        with pytest.raises(TypeError, match=said):
            wrong(value)


def test_a_plain_generator_is_no_streaming_reply() -> None:
    def items(self: Any) -> Any:
        yield 1

    with pytest.raises(TypeError, match="Make it an async def"):
        message(items)


def test_a_misspelt_option_is_refused() -> None:
    wrong: Any = message

    with pytest.raises(TypeError, match="readonly"):
        wrong(readonly=True)(Account.helper)


def test_a_coroutine_that_returns_an_iterator_is_no_stream() -> None:
    class Wrong(Actor[None]):
        @message
        async def items(self) -> AsyncIterator[int]:
            raise NotImplementedError

    with pytest.raises(TypeError, match="without a yield"):
        actor_spec(Wrong)


def test_a_bound_message_shows_what_it_is(client: Loopback) -> None:
    bound: Any = alice(client).deposit

    assert "Account.deposit" in repr(bound)
    assert isinstance(bound, Bound)
