"""Coroutines that are stepped in place, and driven by a task if they wait."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import Any

from actors._runner.stepping import Stepper


async def test_a_coroutine_cancelled_before_its_task_took_a_step_ends() -> None:
    """Several that wait in one stretch: the task of the second was made in it, and has not run yet when it is cancelled."""
    stepper = Stepper(asyncio.get_running_loop())
    ended: list[tuple[str, type[BaseException] | None]] = []
    cleaned: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(name)

    def end(name: str, _value: Any, error: BaseException | None) -> None:
        ended.append((name, type(error) if error is not None else None))

    stepper.enter()
    tasks = [stepper.step(wait(name), copy_context(), end, name) for name in ("first", "second", "third")]
    for task in tasks:
        assert task is not None
        task.cancel()
    stepper.leave()
    for _ in range(5):
        await asyncio.sleep(0)

    assert sorted(ended) == [(name, asyncio.CancelledError) for name in ("first", "second", "third")]
    assert sorted(cleaned) == ["first", "second", "third"]
    assert stepper.driven == 0
    await stepper.close()


async def test_what_a_coroutine_waits_for_is_cancelled_with_it() -> None:
    """As with a task: the children of a ``gather`` end too, however early the cancellation comes."""
    stepper = Stepper(asyncio.get_running_loop())
    ended: list[type[BaseException] | None] = []

    async def wait() -> None:
        children = [asyncio.create_task(asyncio.Event().wait(), name="child") for _ in range(2)]
        await asyncio.gather(*children)

    def end(_token: None, _value: Any, error: BaseException | None) -> None:
        ended.append(type(error) if error is not None else None)

    stepper.enter()
    task = stepper.step(wait(), copy_context(), end, None)
    stepper.leave()
    assert task is not None
    task.cancel()
    for _ in range(8):
        await asyncio.sleep(0)

    assert ended == [asyncio.CancelledError]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "child"]
    await stepper.close()


async def test_a_stepper_that_never_had_anything_to_drive_closes() -> None:
    """Its parked task, too, where it has not taken a step."""
    stepper = Stepper(asyncio.get_running_loop())
    stepper.enter()
    stepper.leave()

    await stepper.close()

    assert not [task for task in asyncio.all_tasks() if task.get_name() == "actor turn"]
