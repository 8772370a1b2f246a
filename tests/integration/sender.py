"""A program that sends and dies: ``python -m tests.integration.sender URL COUNT``.

It tells ``Notes/sender`` the lines 0 to COUNT - 1, says ``stored N`` once N of them are
acknowledged, and kills itself without a goodbye.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tests.integration.cast import Notes
from tests.integration.system import system


async def send(url: str, count: int) -> None:
    """Send, say so, and die."""
    async with system.connect(url) as client:
        notes = client.get(Notes, "sender")
        receipts = await client.send(*[notes.write.message(str(number)) for number in range(count)])
        print(f"stored {len(receipts)}", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1], int(sys.argv[2])))
