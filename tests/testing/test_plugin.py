"""The pytest plugin: which tests it runs, beside which other plugins, and what it says of failures."""

from __future__ import annotations

import pytest

from actors.actor import Actor
from actors.message import message
from actors.system import ActorSystem
from actors.testing.cluster import TestCluster, simulate

pytest_plugins = ["pytester"]

BANK = """
import msgspec
from actors import Actor, ActorSystem, message

system = ActorSystem("bank")


class AccountState(msgspec.Struct):
    balance: int = 0


@system.actor
class Account(Actor[AccountState]):
    @message
    async def deposit(self, amount: int) -> int:
        self.state.balance += amount
        return self.state.balance
"""

OTHERS = [
    pytest.param(["-p", "no:asyncio", "-p", "no:anyio"], "", id="alone"),
    pytest.param(["-p", "no:anyio"], "asyncio_mode = strict", id="asyncio-strict"),
    pytest.param(["-p", "no:anyio"], "asyncio_mode = auto", id="asyncio-auto"),
    pytest.param(["-p", "no:asyncio"], "anyio_mode = strict", id="anyio-strict"),
    pytest.param(["-p", "no:asyncio"], "anyio_mode = auto", id="anyio-auto"),
    pytest.param([], "asyncio_mode = auto", id="both"),
]


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """All modules are here before the first project runs: pytester takes away what a project's own tests import."""
    system = ActorSystem("first")

    @system.actor
    class Nobody(Actor[None]):
        @message
        async def nothing(self) -> None: ...

    async def run() -> None:
        async with TestCluster(system, runners=1) as cluster:
            await cluster.client.get(Nobody, "a").nothing()

    simulate(run())


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a bank, in which warnings are errors."""
    pytester.makepyfile(bank=BANK)
    return pytester


def run(project: pytest.Pytester, *options: str, ini: str = "", **files: str) -> pytest.RunResult:
    """Run a project's tests."""
    if "no:asyncio" not in options:
        ini += "\nasyncio_default_fixture_loop_scope = function"
    project.makeini(f"[pytest]\nfilterwarnings = error\npythonpath = .\n{ini}")
    project.makepyfile(**files)
    return project.runpytest("-p", "no:cacheprovider", *options)


TESTS = """
import asyncio
import pytest
from actors.testing import ActorCluster
from actors.testing.clock import VirtualLoop
from bank import Account, system

{mark}

async def test_money(actor_cluster: ActorCluster) -> None:
    async with actor_cluster(system) as cluster:
        assert isinstance(asyncio.get_running_loop(), VirtualLoop)
        assert await cluster.client.get(Account, "a").deposit(1) == 1
        await cluster.advance(30)


@pytest.mark.parametrize("amount", [1, 2])
async def test_amounts(actor_cluster: ActorCluster, amount: int) -> None:
    async with actor_cluster(system) as cluster:
        assert await cluster.client.get(Account, "a").deposit(amount) == amount


class TestInAClass:
    async def test_it(self, actor_cluster: ActorCluster) -> None:
        assert isinstance(self, TestInAClass)
        async with actor_cluster(system) as cluster:
            assert await cluster.client.get(Account, "a").deposit(1) == 1
"""


@pytest.mark.parametrize(("options", "ini"), OTHERS)
def test_it_runs_the_tests_that_use_its_fixture(project: pytest.Pytester, options: list[str], ini: str) -> None:
    """Each once, whoever else would run them."""
    result = run(project, *options, ini=ini, test_it=TESTS.format(mark=""))

    result.assert_outcomes(passed=4)


@pytest.mark.parametrize(("mark", "options"), [("asyncio", ["-p", "no:anyio"]), ("anyio", ["-p", "no:asyncio"]), ("anyio", [])])
def test_a_mark_for_another_plugin_does_not_keep_it_from_that(project: pytest.Pytester, mark: str, options: list[str]) -> None:
    """A module whose other tests need the mark may have such tests too."""
    result = run(project, *options, test_it=TESTS.format(mark=f"pytestmark = pytest.mark.{mark}"))

    result.assert_outcomes(passed=4)


@pytest.mark.parametrize(("options", "ini", "ran"), [(*each.values, "by" + str(each.id)) for each in OTHERS])
def test_it_leaves_other_tests_alone(project: pytest.Pytester, options: list[str], ini: str, ran: str) -> None:
    """They are run, or not, as they would be without it."""
    tests = """
    import asyncio
    from actors.testing.clock import VirtualLoop

    async def test_other() -> None:
        assert not isinstance(asyncio.get_running_loop(), VirtualLoop)

    def test_plain(actor_cluster) -> None:
        assert actor_cluster.clusters == []
    """
    outcomes = run(project, *options, ini=ini, test_it=tests).parseoutcomes()

    if "auto" in ran or "both" in ran:
        assert outcomes["passed"] >= 2
        assert not outcomes.keys() & {"failed", "errors"}
    else:
        assert outcomes == {"passed": 1, "failed": 1}


FIXTURES = """
import asyncio
import pytest
from actors.testing.clock import VirtualLoop
from bank import Account, system

SEEN = []

{decorator}
async def cluster(actor_cluster):
    async with actor_cluster(system) as cluster:
        yield cluster
    SEEN.append("closed")

{decorator}
async def rich(cluster):
    await cluster.client.get(Account, "a").deposit(1_000)
    return cluster.client.get(Account, "a")

async def test_money(rich, cluster):
    assert await rich.deposit(1) == 1_001
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    assert SEEN == []

class TestInAClass:
    {decorator}
    async def here(self, rich):
        assert isinstance(self, TestInAClass)
        self.there = True
        return rich

    async def test_it(self, here):
        assert self.there
        assert await here.deposit(1) == 1_001
        assert SEEN == ["closed"]
"""


@pytest.mark.parametrize(("options", "ini"), OTHERS)
def test_async_fixtures_run_on_the_loop_of_their_test(project: pytest.Pytester, options: list[str], ini: str) -> None:
    """So a cluster may be a fixture of one's own."""
    result = run(project, *options, ini=ini, test_it=FIXTURES.format(decorator="@pytest.fixture"))

    result.assert_outcomes(passed=2)


def test_fixtures_made_for_pytest_asyncio_work_too(project: pytest.Pytester) -> None:
    """In strict mode they have to be marked."""
    tests = "import pytest_asyncio\n" + FIXTURES.format(decorator="@pytest_asyncio.fixture")

    run(project, "-p", "no:anyio", ini="asyncio_mode = strict", test_it=tests).assert_outcomes(passed=2)


def test_an_error_in_a_fixture_is_an_error_of_the_test(project: pytest.Pytester) -> None:
    """Before it, and after it."""
    tests = """
    import pytest
    from bank import system

    @pytest.fixture
    async def broken(actor_cluster):
        async with actor_cluster(system):
            raise ZeroDivisionError("before")
            yield

    @pytest.fixture
    async def breaking(actor_cluster):
        yield
        raise ZeroDivisionError("after")

    async def test_broken(broken): ...
    async def test_breaking(breaking): ...
    """
    result = run(project, test_it=tests)

    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: before", "*ZeroDivisionError: after"])


def test_properties_are_tried_in_virtual_time(project: pytest.Pytester) -> None:
    """Tests by Hypothesis: each example has a cluster of its own."""
    tests = """
    from hypothesis import HealthCheck, given, settings, strategies as st
    from bank import Account, system

    @given(amounts=st.lists(st.integers(1, 100), max_size=5))
    @settings(max_examples=5, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_sums(actor_cluster, amounts):
        async with actor_cluster(system) as cluster:
            account = cluster.client.get(Account, "a")
            for amount in amounts:
                await account.deposit.tell(amount)
            await cluster.settled()
            assert cluster.state(account).balance == sum(amounts)
    """
    run(project, ini="asyncio_mode = auto", test_it=tests).assert_outcomes(passed=1)


FAILING = """
from bank import Account, system

async def test_money(actor_cluster):
    async with actor_cluster(system) as cluster:
        await cluster.client.get(Account, "a").deposit(1)
        assert cluster.runner("runner-1").id.incarnation == "x"
"""


def test_a_failing_test_prints_its_seed(project: pytest.Pytester) -> None:
    """And how to run it again."""
    result = run(project, test_it=FAILING)

    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [r"-+ actors -+", r"seed (\d+): run it again with --actors-seed=\d+", r"--actors-trace shows the \d+ events.*"]
    )


def test_a_seed_is_replayed(project: pytest.Pytester) -> None:
    """The same incarnations, the same everything."""
    said = [run(project, "--actors-seed=17", test_it=FAILING).stdout.str() for _ in range(2)]
    (first, second) = (next(line for line in text.splitlines() if line.startswith("E ") and "==" in line) for text in said)

    assert "seed 17" in said[0]
    assert first == second


def test_the_trace_shows_what_the_runners_told(project: pytest.Pytester) -> None:
    """By the seconds of the cluster's time."""
    result = run(project, "--actors-trace", test_it=FAILING)

    result.stdout.re_match_lines([r"events of the cluster with seed \d+.*", r" +0\.000  runner-1 .*"])


def test_a_hanging_test_ends_by_itself(project: pytest.Pytester) -> None:
    """Virtual time runs out, or there is nothing left that could happen."""
    tests = """
    import asyncio

    async def test_hangs(actor_cluster):
        await asyncio.Event().wait()
    """
    result = run(project, test_it=tests)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Stalled: nothing is ready and no timer is set*"])


def test_it_costs_sessions_without_it_nothing(project: pytest.Pytester) -> None:
    """It is loaded wherever the package is installed."""
    tests = """
    import sys

    def test_nothing_is_loaded():
        assert not {"fakeredis", "actors.testing.cluster", "actors._runner", "hiredis"} & sys.modules.keys()
    """
    project.makepyfile(test_it=tests)
    result = project.runpytest_subprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=1)
