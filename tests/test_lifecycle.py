"""Services start in order, stop in reverse, and fail loudly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from actors.lifecycle import ServiceFailed, running


class Recorder:
    """A service that writes down what happens to it."""

    def __init__(
        self, name: str, log: list[str], *, fails: asyncio.Event | None = None, stubborn: bool = False, early: bool = False
    ) -> None:
        self.name = name
        self._log = log
        self._fails = fails
        self._stubborn = stubborn
        self._early = early
        self.release = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        await asyncio.sleep(0)
        self._log.append(f"{self.name} ready")
        started()
        if self._early:
            return
        try:
            if self._fails is not None:
                await self._fails.wait()
                raise LookupError("the cause")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._stubborn:
                await self.release.wait()
            raise
        finally:
            self._log.append(f"{self.name} ended")


async def test_services_start_in_order_and_stop_in_reverse() -> None:
    """A service may rely on those before it from its first line to its last."""
    log: list[str] = []

    async with running([Recorder("a", log), Recorder("b", log)], stop_within=1):
        log.append("body")

    assert log == ["a ready", "b ready", "body", "b ended", "a ended"]


async def test_a_failing_service_takes_everything_down_in_reverse() -> None:
    """What was started before it still stands while the body and the later ones end."""
    log: list[str] = []
    fails = asyncio.Event()

    with pytest.raises(ServiceFailed, match="service b failed: LookupError") as caught:
        async with running([Recorder("a", log), Recorder("b", log, fails=fails), Recorder("c", log)], stop_within=1):
            fails.set()
            try:
                await asyncio.Event().wait()
            finally:
                log.append("body ended")

    assert log == ["a ready", "b ready", "c ready", "b ended", "body ended", "c ended", "a ended"]
    assert isinstance(caught.value.__cause__, LookupError)


async def test_a_service_that_ends_by_itself_has_failed() -> None:
    """Nobody would notice a heart that has quietly stopped beating."""
    with pytest.raises(ServiceFailed, match="service a ended by itself"):
        async with running([Recorder("a", [], early=True)], stop_within=1):
            await asyncio.Event().wait()


async def test_a_service_that_cannot_start_stops_those_before_it() -> None:
    """A start that fails leaves nothing behind."""
    log: list[str] = []

    class Broken:
        name = "broken"

        async def run(self, started: Callable[[], None]) -> None:
            raise LookupError("no")

    with pytest.raises(ServiceFailed, match="service broken failed"):
        async with running([Recorder("a", log), Broken()], stop_within=1):
            log.append("body")

    assert log == ["a ready", "a ended"]


async def test_a_service_that_does_not_stop_is_left_behind() -> None:
    """A shutdown is bounded, whatever one part of it does."""
    log: list[str] = []
    stubborn = Recorder("stubborn", log, stubborn=True)

    with pytest.raises(ServiceFailed, match="stubborn did not stop within"):
        async with running([Recorder("a", log), stubborn], stop_within=0.01):
            pass

    assert log == ["a ready", "stubborn ready", "a ended"]
    stubborn.release.set()
    await asyncio.sleep(0)


async def test_an_exception_of_the_body_passes_unchanged() -> None:
    """Whoever embeds a runner sees their own error, not a group."""
    log: list[str] = []

    with pytest.raises(KeyError):
        async with running([Recorder("a", log)], stop_within=1):
            raise KeyError

    assert log == ["a ready", "a ended"]


async def test_a_cancelled_body_stops_the_services() -> None:
    """Cancelling the whole is the ordinary way to end it."""
    log: list[str] = []
    inside = asyncio.Event()

    async def whole() -> None:
        async with running([Recorder("a", log), Recorder("b", log)], stop_within=1):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(whole())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert log == ["a ready", "b ready", "b ended", "a ended"]
