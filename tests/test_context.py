"""The context: what follows a handler, and what does not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from actors.context import Context, ContextExecutor, current, current_client, current_context, mark_log_records
from actors.ids import RunnerId, ShardId

CONTEXT = Context(
    message_id="m1",
    actor_type="Account",
    key="alice",
    method="deposit",
    shard_id=ShardId("default", 3),
    runner_id=RunnerId("web-0", "00ff"),
    epoch="17",
    attempt=2,
    headers={"traceparent": "00-1-2-01", "tenant": "x"},
)


class Running:
    """A turn."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client: Any = self


@pytest.fixture
def turn() -> Iterator[Running]:
    running = Running(CONTEXT)
    token = current.set(running)
    yield running
    current.reset(token)


@pytest.fixture
def marked() -> Iterator[None]:
    undo = mark_log_records()
    yield
    undo()


def test_outside_of_a_handler_there_is_none() -> None:
    assert current_context() is None
    assert current_client() is None


def test_inside_a_handler_there_are_both(turn: Running) -> None:
    assert current_context() is CONTEXT
    assert current_client() is turn.client


def test_a_context_is_not_changed() -> None:
    context: Any = CONTEXT

    with pytest.raises(AttributeError):
        context.attempt = 3
    assert context.trace == "00-1-2-01"
    assert (
        Context(
            **{name: getattr(CONTEXT, name) for name in ("message_id", "actor_type", "key", "method", "shard_id", "runner_id", "epoch")}
        ).trace
        is None
    )


async def test_it_follows_tasks_and_threads() -> None:
    token = current.set(Running(CONTEXT))
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ContextExecutor(1))

    async def inner() -> Context | None:
        return current_context()

    found = [
        await asyncio.create_task(inner()),
        await asyncio.to_thread(current_context),
        await loop.run_in_executor(None, current_context),
    ]
    current.reset(token)

    assert found == [CONTEXT] * 3
    assert await loop.run_in_executor(None, current_context) is None, "the next call in that thread has its own"


def test_an_executor_passes_on_arguments_results_and_errors() -> None:
    def divide(a: int, *, by: int) -> float:
        return a / by

    with ContextExecutor(1) as executor:
        assert executor.submit(divide, 1, by=2).result() == 0.5
        with pytest.raises(ZeroDivisionError):
            executor.submit(divide, 1, by=0).result()


def test_log_records_say_where_they_come_from(turn: Running, marked: None, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("bank").warning("hello")

    record: Any = caplog.records[0]
    shown = (record.actor, record.actor_method, record.actor_message, record.actor_shard, record.actor_epoch, record.actor_attempt)
    assert shown == ("Account/alice", "deposit", "m1", "default.3", "17", 2)


def test_records_from_outside_are_not_marked(marked: None, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("bank").warning("hello")

    assert not hasattr(caplog.records[0], "actor")


def test_marks_do_not_get_into_the_way_of_the_applications_own_fields(
    turn: Running, marked: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Logging raises KeyError for an ``extra`` that a record has already."""
    logging.getLogger("bank").warning("hello", extra={"actor_type": "x", "key": "y", "method": "z", "message_id": "m", "attempt": 1})

    assert vars(caplog.records[0])["key"] == "y"


def test_marking_is_shared_and_ends_with_the_last() -> None:
    """Two runners in one process; whoever put another factory on top keeps it."""
    before = logging.getLogRecordFactory()
    first, second = mark_log_records(), mark_log_records()
    installed = logging.getLogRecordFactory()

    first()
    first()
    assert logging.getLogRecordFactory() is installed or logging.getLogRecordFactory() == installed
    second()
    assert logging.getLogRecordFactory() is before

    third = mark_log_records()
    logging.setLogRecordFactory(before)
    third()
    assert logging.getLogRecordFactory() is before


def test_the_context_is_seen_from_a_callback_thread(turn: Running) -> None:
    """A bare thread has none: that is Python's rule, and why handlers get an executor of ours."""
    seen: list[Context | None] = []
    thread = threading.Thread(target=lambda: seen.append(current_context()))
    thread.start()
    thread.join()

    assert seen == [None]
