"""A chat room that streams: everyone who listens sees what is said, with the history first.

python -m examples.chat_room
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from actors import Actor, ActorSystem, message
from examples.server import redis_url

system = ActorSystem("chat")


class Line(msgspec.Struct):
    author: str
    text: str


class Room(msgspec.Struct):
    lines: list[Line] = []


@system.actor
class ChatRoom(Actor[Room]):
    async def on_activate(self) -> None:
        self.said = asyncio.Event()  # in memory only: it wakes the listeners of this activation

    @message
    async def say(self, author: str, text: str) -> int:
        self.state.lines.append(Line(author=author, text=text))
        said, self.said = self.said, asyncio.Event()
        said.set()
        return len(self.state.lines)

    @message
    async def listen(self) -> AsyncIterator[Line]:
        seen = 0
        while True:
            said = self.said
            for line in self.state.lines[seen:]:
                seen += 1
                yield line
            if seen == len(self.state.lines):
                await said.wait()


async def listener(room: ChatRoom, lines: int) -> list[str]:
    heard: list[str] = []
    async for line in room.listen():
        heard.append(f"{line.author}: {line.text}")
        if len(heard) == lines:
            break
    return heard


async def main() -> None:
    with redis_url() as url:
        async with system.runner(url), system.connect(url) as client:
            room = client.get(ChatRoom, f"room-{client.next_id()}")
            await room.say("ann", "anybody here?")
            async with asyncio.TaskGroup() as listeners:
                heard = [listeners.create_task(listener(room, 4)) for _ in range(3)]
                for number in range(3):
                    await room.say("bob", f"message {number}")
            first = heard[0].result()
            print("\n".join(first))
            print("all three heard the same:", all(task.result() == first for task in heard))


if __name__ == "__main__":
    asyncio.run(main())
