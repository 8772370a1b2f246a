"""The pytest plugin: the fixture ``actor_cluster``, and the loop that runs tests which use it.

A coroutine test that uses the fixture, directly or through other fixtures, is run here, on
a virtual loop of its own, together with the async fixtures it uses; whatever mode other
plugins for async tests are in, exactly these are taken from them. All other tests are
left alone.

pytest loads this module wherever the package is installed, so it imports nothing of it
before it is needed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from actors.testing.cluster import ActorCluster

FIXTURE = "actor_cluster"

_OTHERS = frozenset({"anyio", "asyncio"})  # marks by which other plugins know their tests
_CLUSTERS: pytest.StashKey[ActorCluster] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("actors", "clusters of actors")
    group.addoption(
        "--actors-seed", type=int, default=None, metavar="N", help="seed of all test clusters, to replay a failure that printed it"
    )
    group.addoption("--actors-trace", action="store_true", help="show what the runners of a failing test told, event by event")
    group.addoption(
        "--actors-redis", default=None, metavar="URL", help="run test clusters on this server, in real time, instead of the fake one"
    )


@pytest.fixture
def actor_cluster(request: pytest.FixtureRequest) -> ActorCluster:
    """Return what makes test clusters. Enter one by ``async with``."""
    from actors.testing.cluster import ActorCluster  # noqa: PLC0415 - most sessions do not need it

    seed = request.config.getoption("--actors-seed")
    clusters = ActorCluster(
        seed=random.randrange(1 << 32) if seed is None else seed,
        url=request.config.getoption("--actors-redis"),
    )
    request.node.stash[_CLUSTERS] = clusters
    return clusters


class ActorTest(pytest.Function):
    """A coroutine test in virtual time."""

    _runner: asyncio.Runner | None = None

    @property
    def runner(self) -> asyncio.Runner:
        """What runs the test and its async fixtures, made at first use and closed with the test."""
        if self._runner is None:
            from actors.testing.clock import VirtualLoop  # noqa: PLC0415 - as above

            self._runner = asyncio.Runner(loop_factory=VirtualLoop)
        return self._runner

    def runtest(self) -> None:
        """Run the test as if it were a plain function."""
        hypothesis = getattr(self.obj, "hypothesis", None)
        target, name = (self, "obj") if hypothesis is None else (hypothesis, "inner_test")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, name, _synchronous(getattr(target, name), self.runner))
            super().runtest()

    def teardown(self) -> None:
        """Close the loop; the fixtures are gone by now."""
        super().teardown()
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[tuple[Any, pytest.Mark]]:
        """As any test's, without the marks by which others would take this one for theirs."""
        return ((node, mark) for node, mark in super().iter_markers_with_node(name) if mark.name not in _OTHERS)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> Generator[None, Any, Any]:
    """Take the tests that are ours from whoever collected them."""
    found: Any = yield
    made = _listed(found)
    if not any(_is_ours(item) for item in made):
        return found
    if any("anyio_backend" in item.fixturenames for item in made if isinstance(item, pytest.Function)):
        made = _without_backends(collector, name, obj, made)
    return [_taken(item) if _is_ours(item) else item for item in made]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """Run the async fixtures of our tests on their loop, before anybody else sees them."""
    func = fixturedef.func
    item = request.node
    is_async = inspect.isasyncgenfunction(func) or inspect.iscoroutinefunction(func)
    if not is_async or not isinstance(item, ActorTest):
        return (yield)
    if request.instance is not None and inspect.ismethod(func) and isinstance(request.instance, type(func.__self__)):
        func = func.__func__.__get__(request.instance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixturedef, "func", _synchronous_fixture(func, item))
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in a failure's report how to have it again."""
    report = yield
    clusters = item.stash.get(_CLUSTERS, None)
    if report.failed and clusters is not None and clusters.clusters:
        report.sections.append(("actors", _replay(clusters, trace=bool(item.config.getoption("--actors-trace")))))
    if report.when == "teardown" and clusters is not None:
        del item.stash[_CLUSTERS]  # pytest keeps its items to the end
    return report


def _listed(found: object) -> list[Any]:
    return cast(Any, found) if isinstance(found, list) else []


def _is_ours(item: object) -> bool:
    if not isinstance(item, pytest.Function) or FIXTURE not in item.fixturenames:
        return False
    function = item.obj
    hypothesis = getattr(function, "hypothesis", None)
    return inspect.iscoroutinefunction(function if hypothesis is None else hypothesis.inner_test)


def _taken(item: pytest.Function) -> ActorTest:
    make: Callable[..., ActorTest] = cast(Any, ActorTest).from_parent
    taken = make(
        item.parent,
        name=item.name,
        callspec=getattr(item, "callspec", None),
        callobj=item.obj,
        fixtureinfo=item._fixtureinfo,  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as plugins that replace items do
        originalname=item.originalname,
    )
    taken.own_markers = [mark for mark in item.own_markers if mark.name not in _OTHERS]
    return taken


def _without_backends(collector: Any, name: str, obj: Any, made: list[Any]) -> list[Any]:
    """Collect a test anew that anyio has multiplied by its backends."""
    marks: list[pytest.Mark] = getattr(obj, "pytestmark", [])
    kept = [mark for mark in marks if not (mark.name == "usefixtures" and mark.args == ("anyio_backend",))]
    if len(kept) == len(marks):
        return made  # the test itself wants it
    obj.pytestmark = kept
    return list(collector._genfunctions(name, obj))  # noqa: SLF001 - what pytest's own collecting calls


def _synchronous(test: Callable[..., Any], runner: asyncio.Runner) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        runner.run(test(*args, **kwargs))

    return run


def _synchronous_fixture(func: Callable[..., Any], item: ActorTest) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        def value(**kwargs: Any) -> Any:
            return item.runner.run(func(**kwargs))

        return _plain(value)

    @functools.wraps(func)
    def generator(**kwargs: Any) -> Iterator[Any]:
        values = func(**kwargs)
        yield item.runner.run(_next(values))
        item.runner.run(_end(values, func.__name__))

    return _plain(generator)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let nobody see what it wraps: it is no coroutine function any more."""
    del vars(function)["__wrapped__"]
    return function


async def _next(values: Any) -> Any:
    return await anext(values)


async def _end(values: Any, name: str) -> None:
    try:
        await anext(values)
    except StopAsyncIteration:
        return
    raise RuntimeError(f"fixture {name} yielded twice")


def _replay(clusters: ActorCluster, *, trace: bool) -> str:
    seeds = ", ".join(str(cluster.seed) for cluster in clusters.clusters)
    lines = [f"seed {seeds}: run it again with --actors-seed={clusters.clusters[0].seed}"]
    for cluster in clusters.clusters:
        if trace:
            lines += [f"events of the cluster with seed {cluster.seed}, by seconds of its time:", cluster.trace()]
        elif cluster.events:
            lines.append(f"--actors-trace shows the {len(cluster.events)} events that its runners told")
    return "\n".join(lines)
