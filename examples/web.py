"""A Starlette application as a client: the web process owns no actors, it asks them.

    python -m examples.web

In production the runner and the web server are processes of their own:

    actor-runner run examples.web:system
    uvicorn examples.web:app
"""

import asyncio
import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from actors import Actor, ActorSystem, ClusterError, DomainError, message
from examples.server import redis_url

system = ActorSystem("shop")


class Stock(msgspec.Struct):
    left: int = 3


@dataclass
class SoldOut(DomainError):
    item: str


@system.actor
class Item(Actor[Stock]):
    @message
    async def buy(self) -> int:
        if self.state.left == 0:
            raise SoldOut(item=self.key)
        self.state.left -= 1
        return self.state.left


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    async with system.connect() as app.state.actors:  # one client for the whole process
        yield


async def buy(request: Request) -> Response:
    item = request.app.state.actors.get(Item, request.path_params["item"])
    # The shopper's own key makes a double click one purchase.
    order = item.buy.options(timeout=2.0, idempotency_key=request.headers.get("Idempotency-Key"))
    return JSONResponse({"left": await order()})


async def sold_out(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SoldOut)
    return JSONResponse({"error": f"{error.item} is sold out"}, status_code=409)


async def unavailable(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ClusterError)
    return JSONResponse({"error": str(error)}, status_code=503 if error.retryable else 500)


app = Starlette(
    routes=[Route("/items/{item}/purchases", buy, methods=["POST"])],
    lifespan=lifespan,
    exception_handlers={SoldOut: sold_out, ClusterError: unavailable},
)


def post(url: str, key: str) -> str:
    request = urllib.request.Request(url, method="POST", headers={"Idempotency-Key": key})
    try:
        with urllib.request.urlopen(request) as response:
            return f"{response.status} {json.load(response)}"
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code} {json.load(error)}"


async def main() -> None:
    with redis_url() as url:
        os.environ["ACTORS_REDIS_URL"] = url
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        async with system.runner(url), asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve())
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            for click in ("click-1", "click-1", "click-2", "click-3", "click-4"):
                print(click, await asyncio.to_thread(post, f"http://127.0.0.1:{port}/items/lamp/purchases", click))
            server.should_exit = True


if __name__ == "__main__":
    asyncio.run(main())
