"""The tests of procview in guests: on the kernels, cgroup layouts and machines of ladder.py."""

import os
import sys
from concurrent.futures import wait

import pytest

from tests import lane, timing
from tests.guest import inside, job
from tests.guest.conftest import Booted, booted_key, fleet_key
from tests.guest.fleet import Fleet
from tests.guest.initramfs import initramfs
from tests.guest.kernels import NoSuchKernelError, kernel, series_are_promised
from tests.guest.ladder import RUNGS, Rung
from tests.guest.machine import is_virtualised
from tests.guest.reports import Reader

pytestmark = pytest.mark.slow

_TIMEOUT_SECONDS = 120 * timing.EMULATED
"""For each test inside: a net for what hangs, as on the host."""


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest, possible: None) -> Fleet:  # noqa: ARG001
    """The guests of all rungs that were chosen; one of them has run beside the host's tests."""
    started = request.config.stash[fleet_key]
    if isinstance(started, Exception):
        raise started
    started.all_at_once()
    return started


def fleet_of(chosen: list[Rung]) -> Fleet:
    """Guests that are yet to be started. Raises what fetching and building them may."""
    argv = [sys.executable, "-m", "pytest", "-p", "tests.guest.inside", "-o", f"timeout={_TIMEOUT_SECONDS}"]
    environment = {
        inside.VARIABLE: f"{job.INSIDE}/{inside.REPORTS}",
        timing.VARIABLE: str(1 if is_virtualised() else timing.EMULATED),
        **{name: value for name, value in os.environ.items() if name in ("PROCVIEW_REQUIRE_ENGINES", lane.VARIABLE)},
    }
    there = [rung for rung in chosen if _is_there(rung)]
    return Fleet(there, {rung.name: [*argv, *rung.tests] for rung in there}, environment)


def _is_there(rung: Rung) -> bool:
    """Fetches and builds what its guest starts with; where apt has no such kernel, its test says so."""
    try:
        initramfs(kernel(rung.machine.kernel))
    except NoSuchKernelError:
        return False
    return True


@pytest.mark.parametrize("rung", [pytest.param(rung, id=rung.name) for rung in RUNGS])
@pytest.mark.timeout(0)  # the guest has its own
def test_procview_in_a_guest(rung: Rung, fleet: Fleet, request: pytest.FixtureRequest) -> None:
    """Fails for the guest's own sake only: each test inside passes, fails and is skipped for itself."""
    try:
        release = kernel(rung.machine.kernel).release
    except NoSuchKernelError as error:
        if series_are_promised():
            raise
        pytest.skip(str(error))
    how = "" if is_virtualised() else ", emulated"
    booted = Booted(rung.name, f"{release}, {rung.machine.layout}{how}")
    request.config.stash[booted_key].append(booted)
    reader = Reader(fleet.shared(rung) / inside.REPORTS, rung.name, request.session)
    future = fleet.run(rung)
    while not future.done():
        wait([future], timeout=0.3)
        reader.tell()
    run = future.result()
    reader.tell()
    booted.seconds, booted.died_of = run.seconds, run.died_of
    end = run.end
    assert end.status is not None, end.why()
    assert "LEFT BEHIND" not in end.output, end.why()
    expected = {pytest.ExitCode.TESTS_FAILED if reader.failed else pytest.ExitCode.OK}
    if run.died_of:  # and all tests had come to their end before
        expected.add(pytest.ExitCode.NO_TESTS_COLLECTED)
    assert end.status in expected, end.why()
