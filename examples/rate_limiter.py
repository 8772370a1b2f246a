"""A token bucket per key: exact limits across any number of processes, without a lock or a script.

python -m examples.rate_limiter
"""

import asyncio
import time

import msgspec

from actors import Actor, ActorSystem, message
from examples.server import redis_url

system = ActorSystem("limits")

CAPACITY = 10
PER_SECOND = 5.0


class Bucket(msgspec.Struct):
    tokens: float = CAPACITY
    filled_at: float = 0.0


class Decision(msgspec.Struct):
    allowed: bool
    retry_after: float = 0.0


@system.actor(state_ttl=60)  # an unused bucket is a full one: nothing to keep
class RateLimiter(Actor[Bucket]):
    @message
    async def acquire(self, cost: float = 1.0) -> Decision:
        now = time.time()
        bucket = self.state
        bucket.tokens = min(CAPACITY, bucket.tokens + (now - bucket.filled_at) * PER_SECOND)
        bucket.filled_at = now
        if bucket.tokens < cost:
            return Decision(allowed=False, retry_after=(cost - bucket.tokens) / PER_SECOND)
        bucket.tokens -= cost
        return Decision(allowed=True)


async def main() -> None:
    with redis_url() as url:
        async with system.runner(url), system.connect(url) as client:
            limiter = client.get(RateLimiter, f"user-{client.next_id()}")
            decisions = await asyncio.gather(*[limiter.acquire() for _ in range(30)])
            allowed = sum(decision.allowed for decision in decisions)
            wait = max(decision.retry_after for decision in decisions)
            print(f"30 at once: {allowed} allowed, the others in {wait:.1f} s")
            await asyncio.sleep(wait)
            print("after waiting:", "allowed" if (await limiter.acquire()).allowed else "refused")


if __name__ == "__main__":
    asyncio.run(main())
