"""A device's twin that notices silence: each report sets a delayed message, the latest of which counts.

    python -m examples.iot_twin

The delayed message waits in Redis, not in a process: it is delivered whoever runs the twin then.
"""

import asyncio
from typing import Literal

import msgspec

from actors import Actor, ActorSystem, message
from examples.server import redis_url

system = ActorSystem("iot")

SILENCE = 0.5


class Twin(msgspec.Struct):
    status: Literal["unknown", "online", "offline"] = "unknown"
    temperature: float | None = None
    reports: int = 0


@system.actor
class Device(Actor[Twin]):
    @message
    async def report(self, temperature: float) -> None:
        self.state.temperature = temperature
        self.state.status = "online"
        self.state.reports += 1
        await self.client.get(Device, self.key).check_silence.options(after=SILENCE).tell(self.state.reports)

    @message
    async def check_silence(self, reports: int) -> None:
        if reports == self.state.reports:  # nothing has come since
            self.state.status = "offline"

    @message(read_only=True)
    async def twin(self) -> Twin:
        return self.state


async def main() -> None:
    with redis_url() as url:
        async with system.runner(url), system.connect(url) as client:
            device = client.get(Device, f"boiler-{client.next_id()}")
            for temperature in (61.5, 62.0, 64.5):
                await device.report.tell(temperature)
                await asyncio.sleep(SILENCE / 5)
            twin = await device.twin()
            print(f"{twin.status} at {twin.temperature} °C after {twin.reports} reports")
            while (await device.twin()).status == "online":
                await asyncio.sleep(0.05)
            print(f"{SILENCE} s later: {(await device.twin()).status}")


if __name__ == "__main__":
    asyncio.run(main())
