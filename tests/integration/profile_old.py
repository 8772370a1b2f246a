"""An actor type as an earlier version of an application has it."""

from __future__ import annotations

import msgspec

from actors.actor import Actor
from actors.message import message
from tests.integration.system import system


class ProfileState(msgspec.Struct):
    """What is known of somebody."""

    name: str = ""


@system.actor
class Profile(Actor[ProfileState]):
    """Somebody."""

    @message
    async def rename(self, name: str) -> str:
        """Take another name."""
        self.state.name = name
        return "old"
