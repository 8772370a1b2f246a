"""Virtual time."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.testing.clock import EPOCH, Stalled, VirtualClock, VirtualLoop, VirtualTimeExceeded
from tests.testing.virtual import in_virtual_time


@in_virtual_time
async def test_time_jumps_to_the_next_timer() -> None:
    """A year of waiting costs nothing."""
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    await asyncio.sleep(29 * 86_400)

    assert loop.time() == 29 * 86_400
    assert time.monotonic() - began < 60


@in_virtual_time
async def test_timers_fire_in_their_order_and_at_their_time() -> None:
    """Whatever order they were set in."""
    loop = asyncio.get_running_loop()
    fired: list[float] = []
    for delay in (5.0, 0.25, 3.0, 3.5, 1e-6):
        loop.call_later(delay, lambda: fired.append(loop.time()))
    await asyncio.sleep(10)

    assert fired == [1e-6, 0.25, 3.0, 3.5, 5.0]


@in_virtual_time
async def test_time_stands_still_while_there_is_something_to_do() -> None:
    """Computing takes no virtual time."""
    loop = asyncio.get_running_loop()
    asleep = asyncio.create_task(asyncio.sleep(1))
    for _ in range(1000):
        await asyncio.sleep(0)

    assert loop.time() == 0
    await asleep
    assert loop.time() == 1


@in_virtual_time
async def test_a_thread_at_work_keeps_time_from_jumping() -> None:
    """A handler in a thread must not miss a deadline that is hours away."""
    release = threading.Event()
    timer = threading.Timer(0.05, release.set)
    timer.start()
    async with asyncio.timeout(3600):
        assert await asyncio.to_thread(release.wait, 30)

    assert asyncio.get_running_loop().time() < 3600
    timer.join()


@in_virtual_time
async def test_a_thread_s_result_comes_before_any_later_timer() -> None:
    """Between the end of the job and its result there is no jump."""
    loop = asyncio.get_running_loop()
    for _ in range(200):
        before = loop.time()
        async with asyncio.timeout(1000):
            await loop.run_in_executor(None, int)
        assert loop.time() - before < 500


@in_virtual_time
async def test_a_thread_that_waits_for_the_loop_gets_its_turn() -> None:
    """While a thread works virtual time keeps real time's pace, so what it waits for still comes."""
    loop = asyncio.get_running_loop()

    def ask_the_loop() -> str:
        return asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05, "answer"), loop).result(30)

    assert await asyncio.to_thread(ask_the_loop) == "answer"


@in_virtual_time
async def test_a_cancelled_job_does_not_stop_the_clock_for_ever() -> None:
    """One that never started counts no more; one that runs on counts until it ends."""
    loop = asyncio.get_running_loop()
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = loop.run_in_executor(pool, release.wait, 30)
        queued = loop.run_in_executor(pool, int)
        queued.cancel()
        running.cancel()
        await asyncio.sleep(0)
        release.set()
    await asyncio.sleep(0.001)  # at real time's pace, until the job's end has been heard of

    await asyncio.sleep(100_000)
    assert loop.time() > 100_000
    assert isinstance(loop, VirtualLoop)
    assert not loop.threads_at_work


@in_virtual_time
async def test_another_s_thread_can_wake_the_loop() -> None:
    """As any loop: by call_soon_threadsafe, without a timer in sight."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    timer = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(woken.set))
    timer.start()
    await woken.wait()

    timer.join()
    assert loop.time() == 0


def test_endless_waiting_ends_at_the_limit_and_names_who_waits() -> None:
    """Heartbeats go on for ever; a test that waits for what never comes must not."""

    async def heartbeat() -> None:
        for _ in itertools.count():
            await asyncio.sleep(1)

    async def test() -> None:
        beat = asyncio.create_task(heartbeat(), name="the heartbeat")
        await asyncio.Event().wait()
        beat.cancel()

    with (
        pytest.raises(VirtualTimeExceeded, match=r"(?s)1000 s of virtual time.*the heartbeat"),
        asyncio.Runner(loop_factory=lambda: VirtualLoop(limit=1000)) as runner,
    ):
        runner.run(test())


def test_waiting_for_nothing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock is an error with names, not a time-out of the test runner."""
    monkeypatch.setattr("actors.testing.clock._PATIENCE", 0.05)

    async def test() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stalled, match=r"(?s)Pending tasks:.*test"), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())


@in_virtual_time
async def test_the_clock_follows_its_loop() -> None:
    """Boot time is the loop's, the wall clock starts at a fixed date: ids and logs of a replay are the same."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    clock = VirtualClock(loop)
    await clock.sleep(12.5)

    assert clock.boottime() == 12.5
    assert clock.time() == EPOCH + 12.5
    assert loop.clock.time() == clock.time()
