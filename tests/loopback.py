"""A client and a host in one, in memory: what is sent is encoded, decoded, run and answered on the spot.

No mailbox, no commit: for tests of what users write against.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from actors.actor import Actor, ActorSpec
from actors.context import Context, ContextExecutor, current
from actors.ids import ActorAddress, RunnerId, ShardId
from actors.message import Kind, MethodSpec, Outgoing, Receipt
from actors.wire import reply

SHARD = ShardId("default", 0)
RUNNER = RunnerId("here", "0" * 16)


class LocalCell:
    """The cell of an actor that lives in a loopback."""

    def __init__(self, loop: asyncio.AbstractEventLoop, executor: ContextExecutor) -> None:
        self.loop = loop
        self.executor = executor
        self.asked: list[object] = []

    def request_deactivate(self) -> None:
        self.asked.append("deactivate")

    def keep_alive(self, on: bool, /) -> None:  # noqa: FBT001
        self.asked.append(("keep_alive", on))

    def clear_state(self) -> None:
        self.asked.append("clear")

    def wait(self, coroutine: Coroutine[Any, Any, Any], /) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def run_in_turn(self, function: Callable[[], Any], /) -> Any:
        return await self.loop.run_in_executor(self.executor, function)


class LocalTurn:
    """A handler being run."""

    def __init__(self, client: Loopback, context: Context) -> None:
        self.client = client
        self.context = context


class Loopback:
    """Holds actors of the given types, and sends to them."""

    def __init__(self, *specs: ActorSpec) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.actors: dict[ActorAddress, Actor[Any]] = {}
        self.executor = ContextExecutor(2)
        self.sent: list[Outgoing] = []

    def get(self, cls: type[Any], key: str) -> Any:
        """Return a ref of this client's."""
        spec = next(spec for spec in self.specs.values() if spec.cls is cls)
        return spec.ref_class.make(ActorAddress(spec.name, key), self)

    def live(self, address: ActorAddress) -> Any:
        """Return the actor itself."""
        if address not in self.actors:
            spec = self.specs[address.type]
            actor = spec.make(address, LocalCell(asyncio.get_running_loop(), self.executor))
            if spec.state is not None:
                actor.state = spec.state.fresh()
            self.actors[address] = actor
        return self.actors[address]

    async def ask(self, call: Outgoing, /) -> bytes:
        self.sent.append(call)
        token = current.set(self._turn(call))
        try:
            method = self._method(call)
            actor = self.live(call.address)
            if method.kind is Kind.THREAD:
                value = await actor.__cell__.run_in_turn(method.bind(actor, call.payload))
            else:
                value = await method.start(actor, call.payload)
            return reply.encode_value(method.encode_reply(value, call.address.key))
        except Exception as error:  # noqa: BLE001 - what the caller gets
            return reply.encode_error(error, actor_type=call.address.type, key=call.address.key, method=call.method)
        finally:
            current.reset(token)

    async def tell(self, call: Outgoing, /) -> Receipt:
        self.sent.append(call)
        return Receipt(f"m{len(self.sent)}", duplicate=False)

    async def stream(self, call: Outgoing, /) -> AsyncGenerator[bytes, None]:
        self.sent.append(call)
        method = self._method(call)
        items = method.start(self.live(call.address), call.payload)
        try:
            async for item in items:
                yield reply.encode_item(method.encode_reply(item))
        except Exception as error:  # noqa: BLE001 - what the caller gets
            yield reply.encode_error(error)
        else:
            yield reply.encode_end()
        finally:
            await items.aclose()

    def _method(self, call: Outgoing) -> MethodSpec:
        return self.specs[call.address.type].methods[call.method]

    def _turn(self, call: Outgoing) -> Any:
        context = Context(
            message_id=f"m{len(self.sent)}",
            actor_type=call.address.type,
            key=call.address.key,
            method=call.method,
            shard_id=SHARD,
            runner_id=RUNNER,
            epoch="1",
            headers=call.options.headers or {},
        )
        return LocalTurn(self, context)
