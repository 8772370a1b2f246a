"""What became of calls, as values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


async def outcome(asked: Awaitable[Any]) -> Any:
    """Return what was answered, or the error that was raised."""
    try:
        return await asked
    except Exception as error:  # noqa: BLE001 - it is what is asked for
        return error


async def outcomes(*asked: Awaitable[Any]) -> list[Any]:
    """Return what became of each of these, made at the same time."""
    return await asyncio.gather(*[outcome(each) for each in asked])
