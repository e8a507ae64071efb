"""The tests of procview in guests: on the kernels, cgroup layouts and machines of ladder.py."""

import os
import sys

import pytest

from tests import session, timing
from tests.guest import inside, job
from tests.guest.boot import boot
from tests.guest.conftest import Booted, booted_key
from tests.guest.kernels import NoSuchKernelError, kernel, series_are_promised
from tests.guest.ladder import RUNGS, Rung
from tests.guest.machine import is_virtualised
from tests.guest.reports import Reader

pytestmark = pytest.mark.slow

_TIMEOUT_SECONDS = 120 * timing.EMULATED
"""For each test inside: a net for what hangs, as on the host."""


@pytest.mark.usefixtures("possible")
@pytest.mark.parametrize("rung", [pytest.param(rung, id=rung.name) for rung in RUNGS])
@pytest.mark.timeout(0)  # the guest has its own
def test_procview_in_a_guest(rung: Rung, request: pytest.FixtureRequest) -> None:
    """Fails for the guest's own sake only: each test inside passes, fails and is skipped for itself."""
    try:
        release = kernel(rung.machine.kernel).release
    except NoSuchKernelError as error:
        if series_are_promised():
            raise
        pytest.skip(str(error))
    emulated = not is_virtualised()
    booted = Booted(rung.name, f"{release}, {rung.machine.layout}{', emulated' if emulated else ''}")
    request.config.stash[booted_key].append(booted)
    argv = [sys.executable, "-m", "pytest", "-p", "tests.guest.inside"]
    argv += ["-o", f"timeout={_TIMEOUT_SECONDS}", *rung.tests]
    environment = {
        inside.VARIABLE: f"{job.INSIDE}/reports",
        timing.VARIABLE: str(timing.EMULATED if emulated else 1),
        **{name: value for name, value in os.environ.items() if name == "PROCVIEW_REQUIRE_ENGINES"},
    }
    with session.temporary_directory() as shared:
        reader = Reader(shared / "reports", rung.name, request.session)
        for _ in range(2):
            end = boot(
                rung.machine,
                argv,
                shared,
                seconds=rung.minutes * 60,
                environment=environment,
                meanwhile=reader.tell,
            )
            booted.seconds += end.seconds
            if not end.died:
                break
            booted.again = end.last_words()
    assert end.status is not None, end.why()
    assert "LEFT BEHIND" not in end.output, end.why()
    expected = {pytest.ExitCode.TESTS_FAILED if reader.failed else pytest.ExitCode.OK}
    if booted.again:  # and all tests had come to their end before
        expected.add(pytest.ExitCode.NO_TESTS_COLLECTED)
    assert end.status in expected, end.why()
