"""The smallest program: one actor, one message, state that survives.

    python -m examples.counter

Run it twice against the same Redis (``ACTORS_REDIS_URL``) and it goes on counting.
"""

import asyncio

import msgspec

from actors import Actor, ActorSystem, message
from examples.server import redis_url

system = ActorSystem("counter")


class Count(msgspec.Struct):
    value: int = 0


@system.actor
class Counter(Actor[Count]):
    @message
    async def increment(self, by: int = 1) -> int:
        self.state.value += by
        return self.state.value


async def main() -> None:
    with redis_url() as url:
        async with system.runner(url), system.connect(url) as client:
            visits = client.get(Counter, "visits")
            first = await visits.increment()
            replies = await asyncio.gather(*[visits.increment() for _ in range(100)])
            print(f"from {first} to {max(replies)}, each number once: {len(set(replies)) == 100}")


if __name__ == "__main__":
    asyncio.run(main())
