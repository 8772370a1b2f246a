"""A program that forks in the middle of its sends: ``python -m tests.integration.forker URL COUNT``.

Parent and child share a client's memory. Each tells ``Counter/parent`` or ``Counter/child``
COUNT times; the child through a client of its own, since it may not touch its parent's
connection, while what is left of the parent's client in its memory must send nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys

from tests.integration.cast import Counter
from tests.integration.system import system


async def child(url: str, count: int) -> None:
    """Send as a process of its own."""
    async with system.connect(url) as client:
        await client.send(*[client.get(Counter, "child").add.message() for _ in range(count)])


async def parent(url: str, count: int) -> None:
    """Send a part, fork with the rest under way, send on."""
    async with system.connect(url) as client:
        counter = client.get(Counter, "parent")
        await counter.add.tell()
        rest = [asyncio.create_task(counter.add.tell()) for _ in range(count - 1)]
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            asyncio.events._set_running_loop(None)
            code = 1
            try:
                asyncio.new_event_loop().run_until_complete(child(url, count))
                code = 0
            finally:
                os._exit(code)
        await asyncio.gather(*rest)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        print(f"child {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    asyncio.run(parent(sys.argv[1], int(sys.argv[2])))
