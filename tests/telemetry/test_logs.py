"""Logs: every line whole, readable by its reader, bounded in a flood."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from actors.telemetry import events
from actors.telemetry.logs import BURST, WINDOW, EventLog, JsonFormatter, TextFormatter, configure, formatter

DEAD = events.DeadLettered(
    actor_type="Account",
    key="alice",
    method="deposit",
    message_id="01J",
    reason="remote_error",
    attempts=5,
    error="boom",
    shard="default.3",
)


@pytest.fixture
def logger() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    logger = logging.getLogger("tests.telemetry.logs")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter({"system": "bank", "runner": "pod-1"}))
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_a_line_with_its_fields(logger: tuple[logging.Logger, io.StringIO]) -> None:
    log, stream = logger

    EventLog(log)(DEAD)

    (line,) = lines(stream)
    assert line["event"] == "DeadLettered"
    assert line["level"] == "error"
    assert (line["system"], line["runner"]) == ("bank", "pod-1")
    assert (line["actor_type"], line["key"], line["reason"]) == ("Account", "alice", "remote_error")
    assert "alice" in str(line["message"])


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), {("a", "b"): 1}, "\ud800", b"\xff", 1 << 80])
def test_no_value_costs_a_line(value: object, logger: tuple[logging.Logger, io.StringIO]) -> None:
    """Somebody will log something strange just when it matters."""
    log, stream = logger

    log.warning("look: %r", value, extra={"thing": value})

    (line,) = lines(stream)
    assert "thing" in line


def test_a_line_inside_a_handler_says_which(logger: tuple[logging.Logger, io.StringIO]) -> None:
    """What a record factory has put on the record is on the line."""
    log, stream = logger
    record = log.makeRecord(log.name, logging.INFO, "f", 1, "paid", (), None)
    vars(record).update(actor="Account/alice", actor_message="01J", actor_epoch="7")

    log.handle(record)

    (line,) = lines(stream)
    assert (line["actor"], line["actor_message"], line["actor_epoch"]) == ("Account/alice", "01J", "7")


def test_a_traceback_is_part_of_its_line(logger: tuple[logging.Logger, io.StringIO]) -> None:
    log, stream = logger
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        log.exception("it broke")

    (line,) = lines(stream)
    assert "ValueError: broken" in str(line["exception"])


def test_a_flood_of_one_kind_is_its_beginning_and_a_number(logger: tuple[logging.Logger, io.StringIO]) -> None:
    """100,000 dead letters say no more than 20 and a count; other kinds are not held back with them."""
    log, stream = logger
    now = [100.0]
    sink = EventLog(log, monotonic=lambda: now[0])

    for _ in range(5000):
        sink(DEAD)
    sink(events.Fenced(shard="default.1", epoch="7", operation="commit"))
    now[0] += WINDOW
    sink(DEAD)

    kinds = [line.get("event") for line in lines(stream)]
    assert kinds.count("DeadLettered") == BURST + 1
    assert kinds.count("Fenced") == 1
    assert f"{5000 - BURST} more events DeadLettered" in stream.getvalue()


def test_text_shows_context_behind_the_message() -> None:
    record = logging.makeLogRecord({"msg": "paid %d", "args": (3,), "levelno": logging.INFO, "levelname": "INFO", "shard": "default.3"})

    text = TextFormatter(colour=False, constant={"runner": "pod-1"}).format(record)

    assert text.endswith("INFO     pod-1  paid 3  shard=default.3")
    assert "\x1b" not in text
    assert "\x1b[32m" in TextFormatter(colour=True).format(record)


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    assert isinstance(formatter("auto", tty=True), TextFormatter)
    assert isinstance(formatter("auto", tty=False), JsonFormatter)
    assert isinstance(formatter("json", tty=True), JsonFormatter)
    assert isinstance(formatter("text", tty=False), TextFormatter)


def test_configuring_twice_logs_once() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    try:
        configure("json", stream=stream)
        configure("json", stream=stream, constant={"runner": "pod-1"})
        logging.getLogger("somebody").warning("hello")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    (line,) = lines(stream)
    assert line["runner"] == "pod-1"
