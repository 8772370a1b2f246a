"""A runner as a process of its own, inside the test's: it can be started, stopped, frozen and killed."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from actors.testing.clock import VirtualLoop, process

if TYPE_CHECKING:
    from actors._runner.runner import Runner

_ROUNDS = 200
"""Turns of the loop that a killed process' tasks get to end in."""


class RunnerProcess:
    """One lifetime of a runner.

    Everything of it runs in a context of its own, which marks it as this process': nothing
    of the test's context variables is seen in there, and none of its callbacks runs while
    it is frozen.
    """

    def __init__(self, name: str, tag: str, runner: Runner, loop: VirtualLoop) -> None:
        """``tag``: unique among all processes of the loop, dead ones included."""
        self.name = name
        self.tag = tag
        self.runner = runner
        self.frozen = False
        self.dead = False
        """Killed, or on its way there: what it still says is not heard."""
        self._loop = loop
        self._end = asyncio.Event()
        self._started = loop.create_future()
        self._life: asyncio.Task[None] | None = None

    @property
    def failure(self) -> BaseException | None:
        """What ended it, if it was not us."""
        life = self._life
        if life is None or not life.done() or life.cancelled() or self.dead:
            return None
        return life.exception()

    @property
    def ended(self) -> bool:
        """Whether its life is over."""
        return self._life is not None and self._life.done()

    async def start(self) -> None:
        """Return when it is a member; raise what kept it from that."""
        context = inside(self.tag)
        life = self._life = self._loop.create_task(self._live(), name=f"runner {self.name}", context=context)
        try:
            await asyncio.wait({life, self._started}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            life.cancel()
            raise
        if life.done():
            await life

    async def stop(self) -> None:
        """Let it drain and leave; raise what went wrong in that or before."""
        self._end.set()
        if self._life is not None:
            await self._life

    async def kill(self) -> None:
        """End it as SIGKILL does, as far as anybody else can see. Its connections are broken already.

        Its handlers are cancelled, which a killed process' are not: they have to end
        somehow, and whatever they do then goes nowhere.
        """
        self.dead = True
        self.runner.abandon()
        life = self._life
        if life is not None:
            self._end.set()
            if self.frozen:
                for task in self._loop.tasks_of(self.tag):
                    task.cancel()
                self.thaw()
            life.cancel()
            await asyncio.wait({life})
        for turn in range(_ROUNDS):
            tasks = self._loop.tasks_of(self.tag)
            if not tasks:
                return
            if turn % 20 == 0:
                for task in tasks:
                    task.cancel()
            await asyncio.sleep(0)
        self._loop.freeze(self.tag)  # a handler that will not be cancelled: it does nothing more

    def freeze(self) -> None:
        """Stop it as SIGSTOP does."""
        self.frozen = True
        self._loop.freeze(self.tag)

    def thaw(self) -> None:
        """Let it go on."""
        self.frozen = False
        self._loop.thaw(self.tag)

    async def _live(self) -> None:
        async with self.runner:
            if not self._started.done():
                self._started.set_result(None)
            await self._end.wait()


def inside(tag: str) -> Context:
    """Return an empty context that belongs to the process ``tag``."""
    context = Context()
    context.run(process.set, tag)
    return context
