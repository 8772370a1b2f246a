"""The same actor type, and one more, as the next version of the application has them."""

from __future__ import annotations

import msgspec

from actors.actor import Actor
from actors.message import message
from tests.integration.system import system


class ProfileState(msgspec.Struct):
    """What is known of somebody, and how to reach them."""

    name: str = ""
    email: str = ""


@system.actor
class Profile(Actor[ProfileState]):
    """Somebody."""

    @message
    async def rename(self, name: str) -> str:
        """Take another name."""
        self.state.name = name
        return "new"

    @message
    async def reach(self, email: str) -> str:
        """Take another address."""
        self.state.email = email
        return "new"

    @message(read_only=True)
    async def all(self) -> ProfileState:
        """Return everything."""
        return self.state


class LikesState(msgspec.Struct):
    """A count."""

    count: int = 0


@system.actor
class Likes(Actor[LikesState]):
    """Something the earlier version did not have."""

    @message
    async def like(self) -> int:
        """Count one more."""
        self.state.count += 1
        return self.state.count
