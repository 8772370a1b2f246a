"""The listener of probes and metrics, for as long as a command runs."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING

from actors.cli.failure import Failure
from actors.telemetry.http import Answer, Listener

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    from actors.settings import Settings

_log = logging.getLogger("actors.run")


@contextlib.asynccontextmanager
async def listening(
    routes: Mapping[str, Callable[[], Awaitable[Answer]]], settings: Settings, child: Path | None = None, *, or_any: bool = False
) -> AsyncGenerator[str]:
    """Answer ``routes`` meanwhile; yields the address that others see.

    On the settings' port; with ``or_any`` on a free one where that is taken, else
    :class:`Failure`. A ``child`` listens on its unix socket, and others see its parent.
    """
    listener = Listener(routes)
    host = settings.http_host
    try:
        if child is not None:
            await listener.listen_unix(str(child))
            yield ""
            return
        try:
            port = await listener.listen(host, settings.http_port)
        except OSError as error:
            if not or_any:
                problem = f"probes and metrics cannot listen on {host}:{settings.http_port}: {error.strerror or error}"
                raise Failure(problem, "give another --http-port (0 picks a free one)") from None
            port = await listener.listen(host, 0)
        _log.info("probes and metrics are on port %d: /livez /readyz /metrics", port)
        everywhere = host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        yield f"{socket.gethostname() if everywhere else host}:{port}"
    finally:
        await listener.close()
