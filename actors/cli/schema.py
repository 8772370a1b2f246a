"""``actor-runner schema``: what a system's actors take, answer and keep, as JSON Schema."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from actors.cli.console import print_json
from actors.cli.failure import Failure, Usage


def schema(
    target: Annotated[str, Parameter(help="module:system")],
    /,
    *types: Annotated[str, Parameter(help="Only these actor types.")],
) -> None:
    """Print the JSON Schema of every actor's messages and state.

    For other languages, for documentation, and to see in a review what a change does to the wire.
    """
    from actors.cli.load import load_system
    from actors.wire.schema import schema_of

    specs = load_system(target).actors
    unknown = sorted(set(types) - set(specs))
    if unknown:
        raise Usage(f"{target} has no actor type {', '.join(unknown)}", f"it has {', '.join(sorted(specs)) or 'none'}")
    try:
        print_json(schema_of(spec for name, spec in specs.items() if not types or name in types))
    except (TypeError, NameError) as error:
        raise Failure(f"a type cannot be described: {error}") from error
