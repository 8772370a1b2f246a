"""Background work has one shape, and one way to start and to end.

A :class:`Service` runs until it is cancelled. Services are started one after another,
each when the one before has said that it is ready, and stopped in reverse, so that a
service may rely on those before it from its first line to its last: renewals, started
first, outlive the last handler.

A service that fails, or that returns without having been told to, takes down what was
started after it, the body it served, and then what was started before it. Nothing is
restarted here: a process that has lost one of its parts is better replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from actors.errors import ConfigurationError

log = logging.getLogger("actors.lifecycle")


class Service(Protocol):
    """One piece of background work."""

    @property
    def name(self) -> str:
        """What it is called in logs."""
        ...

    async def run(self, started: Callable[[], None]) -> None:
        """Work until cancelled. Calls ``started`` once what others wait for holds."""
        ...


class ServiceFailed(Exception):
    """A service raised, returned by itself, or did not stop in time. The cause, if there is one, is its exception."""

    def __init__(self, service: str, problem: str) -> None:
        super().__init__(f"service {service} {problem}")
        self.service = service
        self.problem = problem


@contextlib.asynccontextmanager
async def running(services: Sequence[Service], *, stop_within: float) -> AsyncGenerator[None, None]:
    """Keep ``services`` running around the body: all are ready when it begins, all have ended afterwards.

    Each has ``stop_within`` seconds to end once it is cancelled; one that takes longer is
    reported, left behind, and raised as :class:`ServiceFailed`. When a service fails, the
    body is cancelled and :class:`ServiceFailed` raised in its place. An exception of the
    body passes unchanged.
    """
    async with contextlib.AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(_running(service, stop_within))
        yield


@contextlib.asynccontextmanager
async def _running(service: Service, stop_within: float) -> AsyncGenerator[None, None]:
    inside: BaseException | None = None  # what the body raised
    try:
        # The task group does the delicate part: it cancels the body when the service ends too early.
        async with asyncio.TaskGroup() as group:
            ready = asyncio.Event()
            guard = group.create_task(_guard(service, ready, stop_within), name=f"guard of {service.name}")
            await ready.wait()
            try:
                yield
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised again below, outside the group
                inside = error
            guard.cancel()
    except BaseExceptionGroup as failures:
        failed = failures.exceptions[0]
        if isinstance(failed, ServiceFailed):
            raise failed from (inside if inside is not None else failed.__cause__)
        raise
    if inside is not None:
        raise inside


async def _guard(service: Service, ready: asyncio.Event, stop_within: float) -> None:
    """Run ``service`` in a task of its own, which can be left behind if it does not stop."""
    task = asyncio.create_task(service.run(ready.set), name=service.name)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task}, timeout=stop_within)
        if not task.done():
            log.critical("service %s did not stop within %g s and is left behind", service.name, stop_within)
            raise ServiceFailed(service.name, f"did not stop within {stop_within:g} s") from None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("service %s failed while it stopped", service.name, exc_info=error)
            raise ServiceFailed(service.name, f"failed while it stopped: {error!r}") from error
        raise
    if task.cancelled():
        raise ServiceFailed(service.name, "was cancelled by somebody else")
    error = task.exception()
    if error is None:
        raise ServiceFailed(service.name, "ended by itself")
    if not isinstance(error, ConfigurationError):  # which says all there is to know, to whoever started this
        log.critical("service %s failed", service.name, exc_info=error)
    raise ServiceFailed(service.name, f"failed: {error!r}") from error
