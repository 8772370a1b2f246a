"""One owned shard: its ledger, its actors, and how far it has been read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors._mailbox.commit import Ledger

if TYPE_CHECKING:
    from actors._runner.activation import Activation
    from actors._runner.world import World
    from actors.ids import ShardId

NO_SUSPECTS = (0, 0)

Address = tuple[str, str]


class OwnedShard(Ledger):
    """A shard while this runner owns it, in one epoch."""

    __slots__ = (
        "activations",
        "alive",
        "draining",
        "ending",
        "epoch",
        "id",
        "marks",
        "refused",
        "seen",
        "suspects_upto",
        "suspicious",
        "waiting_asks",
        "world",
    )

    def __init__(self, world: World, shard: ShardId, mailbox: str, token: str, epoch: str, *, suspects_upto: tuple[int, int]) -> None:
        super().__init__(shard.label, mailbox, token)
        self.world = world
        self.id = shard
        self.epoch = epoch
        self.activations: dict[Address, Activation] = {}
        self.alive = True
        self.draining = False
        self.ending = False
        """The drain time is over: what runs is cut off and runs again elsewhere, and nothing behind it may overtake it here."""
        self.seen: tuple[int, int] = (0, 0)
        """The last entry read from the stream in this epoch."""
        self.suspects_upto = suspects_upto
        """Entries up to here stood in the stream when an owner died; (0, 0): none."""
        self.suspicious = suspects_upto != NO_SUSPECTS
        """Whether the stream may still bring suspects."""
        self.marks: dict[bytes, int] = {}
        """Suspects that were started before, by how many epochs that ended with a death."""
        self.refused: dict[bytes, str] = {}
        """Entries whose commit Redis refused for good, with the reason."""
        self.waiting_asks = 0
        """Running turns of this shard that wait on an ask."""
