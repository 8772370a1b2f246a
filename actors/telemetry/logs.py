"""Logs as JSON lines for machines or as text for people.

Every record carries what it happened in: the system and the runner, and inside a
handler the actor, method, message, shard, epoch and attempt, which
:func:`actors.context.mark_log_records` has put on it. Events arrive under their class name, with their fields.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from actors.settings import LogFormat
    from actors.telemetry.events import Event

LOGGER: Final = "actors"
"""The logger of the package, and of its events."""

BURST: Final = 20
"""Events of one kind that are logged in one window; the rest of them are counted."""

WINDOW: Final = 10.0
"""Seconds of that window."""

_COLOURS: Final = {logging.DEBUG: "2", logging.INFO: "32", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}

# What a record has anyway; anything beyond was put there on purpose.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, constant: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._constant = dict(constant or {})
        self._encode = msgspec.json.Encoder(enc_hook=repr).encode

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line. A value that JSON has no form for is written as its repr."""
        line: dict[str, Any] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._constant,
            **_extra(record),
        }
        for name, value in getattr(record, "event_fields", {}).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        try:
            return self._encode(line).decode()
        except Exception:  # noqa: BLE001 - a strange value must not cost the line
            return self._encode({name: _plain(value) for name, value in line.items()}).decode()


class TextFormatter(logging.Formatter):
    """One readable line, the context behind it."""

    def __init__(self, *, colour: bool, constant: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._colour = colour
        self._runner = (constant or {}).get("runner", "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, with a traceback below it where there is one."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<8}"
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelno, '0')}m{level}\x1b[0m"
        where = f"{self._runner}  " if self._runner else ""
        extra = {} if hasattr(record, "event") else _extra(record)  # an event's text has it all
        context = "  ".join(f"{name}={value}" for name, value in extra.items() if value not in {None, ""})
        if context and self._colour:
            context = f"\x1b[2m{context}\x1b[0m"
        text = f"{clock}.{int(record.msecs):03d} {level} {where}{record.getMessage()}{'  ' + context if context else ''}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{self.formatStack(record.stack_info)}"
        return text


class Limiter:
    """How many of one kind are let through: :data:`BURST` in each :data:`WINDOW`."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}

    def take(self, kind: str, now: float) -> tuple[bool, int]:
        """Return whether to let this one through, and how many were held back in the window before."""
        start, count = self._windows.get(kind, (now, 0))
        held_back = 0
        if now - start >= WINDOW:
            held_back = max(0, count - BURST)
            start, count = now, 0
        self._windows[kind] = (start, count + 1)
        return count < BURST, held_back


class EventLog:
    """The sink that writes events to the log, a flood of one kind as its beginning and a number."""

    def __init__(self, logger: logging.Logger | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger or logging.getLogger(LOGGER)
        self._monotonic = monotonic
        self._limiter = Limiter()

    def __call__(self, event: Event) -> None:
        """Log ``event`` at its level."""
        if not self._logger.isEnabledFor(event.level):
            return
        kind = type(event).__name__
        through, held_back = self._limiter.take(kind, self._monotonic())
        if held_back:
            self._logger.log(event.level, "%d more events %s were not logged", held_back, kind)
        if through:
            # The fields in one attribute: logging refuses an extra that a record has already.
            self._logger.log(event.level, "%s", event, extra={"event": kind, "event_fields": event.fields()})


def configure(
    form: LogFormat, *, level: int = logging.INFO, stream: TextIO | None = None, constant: Mapping[str, str] | None = None
) -> None:
    """Send the process's log records to ``stream`` in the given form, replacing what was set.

    For programs of ours only: an application that embeds a runner configures its own.
    ``constant`` (system, runner) is on every line.
    """
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter(form, tty=target.isatty(), constant=constant))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


def formatter(form: LogFormat, *, tty: bool, constant: Mapping[str, str] | None = None) -> logging.Formatter:
    """Return the formatter for a form; ``auto`` is text on a terminal and JSON elsewhere."""
    if form == "json" or (form == "auto" and not tty):
        return JsonFormatter(constant)
    return TextFormatter(colour=tty, constant=constant)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and name != "event_fields"}


def _plain(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
