"""The commands of ``actor-runner``, by name; each is imported only when it is called.

Exit codes: 0 clean, 1 failed, 2 usage.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from cyclopts import App

if TYPE_CHECKING:
    from collections.abc import Sequence

CLEAN: Final = 0
FAILED: Final = 1

COMMANDS: Final = (
    ("run", "actors.cli.run:run", "Run the actors of a system: one per pod, as many as you like."),
    ("dev", "actors.cli.dev:dev", "The same for development: embedded server, several runners, reload on change."),
    ("demo", "actors.cli.demo:demo", "The first minute: transfers go on while a runner is killed, then an audit."),
    ("check", "actors.cli.check:check", "Import a system, list its actors, reach its servers, say what is wrong."),
    ("runners", "actors.cli.runners:app", "See who runs."),
    ("shards", "actors.cli.shards:app", "See who owns which shard and what waits there; move shards."),
    ("actors", "actors.cli.actors:app", "Find one actor: its state, what waits for it, its owner, its last error."),
    ("dead-letters", "actors.cli.dead_letters:app", "List, show, replay or purge the messages that were set aside."),
    ("schema", "actors.cli.schema:schema", "Print the JSON Schema of every actor's messages and state."),
    ("reshard", "actors.cli.reshard:reshard", "Change the number of shards, with all runners stopped."),
)


def main() -> None:
    """Run the command that the program was called with, and exit."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. What goes wrong is printed; only a bug of ours is raised.

    A usage error that the parser finds exits at once, with 2.
    """
    try:
        code = build()(list(arguments), result_action="return_value")
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing at exit fails again
        return FAILED
    except Exception as error:
        from actors.cli.failure import explain

        told = explain(error)
        if told is None:
            raise
        print(told.text, file=sys.stderr)
        return told.code
    return code if isinstance(code, int) else CLEAN


def build() -> App:
    """Return the application with all commands, none of them imported."""
    app = App(
        name="actor-runner",
        help="Run durable actors on Redis, and look after them.",
        help_epilogue="Exit codes: 0 clean, 1 failed, 2 usage.",
        version=_version,
    )
    for place, (name, where, text) in enumerate(COMMANDS):
        app.command(where, name=name, help=text, sort_key=place)
    return app


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("redis-actors")
    except PackageNotFoundError:
        return "unknown (not installed)"
