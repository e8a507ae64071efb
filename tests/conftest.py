"""For all tests: on what they run, said at the start; and that nothing is left of them, checked at the end."""

import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests import lane
from tests import session as this_run
from tests.containers import cgroups, engines
from tests.timing import patient

EXAMPLES = os.environ.get("PROCVIEW_EXAMPLES")
"""Set it to look for more: so many examples to a test, other ones in each run."""

settings.register_profile(
    "procview",
    max_examples=int(EXAMPLES or "100"),
    deadline=None,
    # else the same examples in every run: red or green must not depend on luck
    derandomize=EXAMPLES is None,
    database=None,
    # explaining a failure takes minutes with trees on disk
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("procview")

_before = pytest.StashKey[this_run.Leftovers]()
_left = pytest.StashKey[list[str]]()


_LANES = {
    lane.DEV: "in front of pyfuse3, by /dev/fuse",
    lane.RING: "in front of pyfuse3, by rings of io_uring",
    lane.NONE: "none, pyfuse3 alone",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-lane", action="store_true", help="daemons serve by pyfuse3 alone")
    parser.addoption("--transport", choices=[lane.DEV, lane.RING], help="how requests come to daemons with the lane")


def pytest_report_header() -> list[str]:
    """The implementation and the machine: what decides what the results mean."""
    modules = sorted(path.name.split(".")[0] for path in Path("procview/_fast").glob("*.so"))
    versions = {name: metadata.version(name) for name in ("Cython", "pyfuse3", "trio", "psutil")}
    found = [f"{engine.name} {engine.version() or '(not installed)'}" for engine in (*engines.ALL, *engines.MANAGERS)]
    return [
        f"procview: {metadata.version('procview')}, compiled: {', '.join(modules) or 'NOTHING'}",
        "built with: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"python: {platform.python_version()} ({sys.executable}), user id {os.geteuid()}",
        f"kernel: {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs, cgroup layout {cgroups.layout()}",
        f"the fast lane: {_LANES[lane.wanted()]}",
        "engines: " + ", ".join(found),
    ]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    os.environ[this_run.VARIABLE] = this_run.SESSION
    # ./dev sanitize: what tests start is not built with it, but for Python with our modules.
    if preloaded := os.environ.pop("LD_PRELOAD", None):
        os.environ[this_run.PRELOADED] = preloaded
    if config.getoption("no_lane"):
        os.environ[lane.VARIABLE] = lane.NONE
    elif config.getoption("transport"):
        os.environ[lane.VARIABLE] = config.getoption("transport")
    config.stash[_before] = this_run.leftovers()


@pytest.fixture(scope="session", autouse=True)
def _transport() -> Iterator[None]:
    with lane.offered_to(lane.wanted()):
        yield


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_left] = left = _wait_for_nothing(session.config.stash[_before])
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _wait_for_nothing(before: this_run.Leftovers) -> list[str]:
    """What is still there after five seconds: a killed container takes a moment to go."""
    deadline = time.monotonic() + patient(5)
    while (left := this_run.leftovers().since(before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_left, []):
        terminalreporter.write_line(f"LEFT BEHIND by these tests: {line}", red=True)
