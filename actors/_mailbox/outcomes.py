"""What became of each message of a batch, as the send script tells it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Code(StrEnum):
    """Why a message was not simply appended."""

    FULL = "full"
    CONFLICT = "conflict"
    DONE = "done"
    JOINED = "joined"
    FENCED = "fenced"
    KEPT = "kept"


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of the message at ``index`` of its batch."""

    index: int
    code: Code
    detail: bytes

    @property
    def full(self) -> tuple[str, int, int]:
        """Scope, limit and depth of a ``full``."""
        scope, limit, depth = self.detail.split(b" ")
        return scope.decode(), int(limit), int(depth)

    @property
    def done(self) -> tuple[str, bytes]:
        """The first message's id and the stored answer of a ``done``."""
        message_id, _, body = self.detail.partition(b" ")
        return message_id.decode(), body


def parse(text: bytes) -> list[Outcome]:
    """Read the text of the send script: ``<index> <code> <length>:<detail>``, repeated."""
    outcomes: list[Outcome] = []
    at = 0
    while at < len(text):
        colon = text.index(b":", at)
        index, code, length = text[at:colon].split(b" ")
        end = colon + 1 + int(length)
        outcomes.append(Outcome(int(index), Code(code.decode()), text[colon + 1 : end]))
        at = end
    return outcomes
