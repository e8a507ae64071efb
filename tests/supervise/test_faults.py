"""Daemons that die, hang or fail at the worst of moments, which procview/faults.py has names for."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from procview.slots.publish import published
from procview.slots.skeleton import Skeleton
from tests import lane
from tests.daemon.process import Daemon, Place, eventually, needs_mount
from tests.supervise.readers import three_readers_notice_nothing
from tests.supervise.test_daemon import Served, supervised
from tests.timing import patient

pytestmark = needs_mount

going_on = pytest.mark.skipif(not lane.continues(), reason=lane.WHY_NOT_CONTINUED)


@pytest.fixture
def faults(tmp_path: Path) -> Path:
    folder = tmp_path / "faults"
    folder.mkdir()
    return folder


@pytest.fixture
def serving(place: Place, faults: Path) -> Callable[..., AbstractContextManager[Served]]:
    """A supervised daemon that may meet faults; how long a start takes, nobody shall withdraw."""

    def start(*options: str) -> AbstractContextManager[Served]:
        words = ["--steady-seconds", "0", *options]
        return supervised(place, words, f"takeover_seconds = {patient(20)}\n", PROCVIEW_FAULTS=str(faults))

    return start


def _arm(faults: Path, point: str, word: str) -> None:
    (faults / "new").write_text(word)
    (faults / "new").rename(faults / point)


def _happens(faults: Path, point: str) -> None:
    eventually(lambda: not (faults / point).exists(), f"somebody passes {point}")


@going_on
@pytest.mark.parametrize("point", ["read", "reply", "relay"])
def test_a_death_with_a_request_in_hand_is_noticed_by_no_reader(
    serving: Callable[..., AbstractContextManager[Served]], place: Place, faults: Path, tmp_path: Path, point: str
) -> None:
    with serving() as served, three_readers_notice_nothing(place, tmp_path):
        for _ in range(3):
            served.warm()
            before = served.will_serve()
            _arm(faults, point, "die")
            _happens(faults, point)
            served.will_serve(than=before)
    assert served.said.count("with 2 descriptors kept for it") == 3, served.said


@going_on
@pytest.mark.parametrize("point", ["inherit", "negotiate", "resend", "resent"])
def test_a_death_in_the_middle_of_a_takeover_is_noticed_by_no_reader(
    serving: Callable[..., AbstractContextManager[Served]], place: Place, faults: Path, tmp_path: Path, point: str
) -> None:
    with serving() as served, three_readers_notice_nothing(place, tmp_path):
        for _ in range(3):
            waiting = served.all_warm()[0].pid
            before = served.will_serve()
            _arm(faults, point, "die")
            os.kill(before, signal.SIGKILL)
            _happens(faults, point)
            served.will_serve(than=waiting)
    assert "cannot be gone on with" not in served.said


@going_on
@pytest.mark.parametrize("point", ["inherit", "negotiate", "resend"])
def test_a_takeover_that_fails_is_followed_by_a_new_connection(
    serving: Callable[..., AbstractContextManager[Served]], faults: Path, point: str
) -> None:
    with serving() as served:
        served.warm()
        _arm(faults, point, "fail")
        before = served.will_serve()
        os.kill(before, signal.SIGKILL)
        _happens(faults, point)
        served.will_serve(than=before)
        assert Path(served.skeleton.ctl("proc/uptime")).read_text()


@going_on
def test_a_thread_that_is_stuck_with_a_request_is_found_by_the_watchdog(
    serving: Callable[..., AbstractContextManager[Served]], place: Place, faults: Path, tmp_path: Path
) -> None:
    """All others are answered meanwhile, and who asks the file system a question gets an answer."""
    with (
        serving("--watchdog-seconds", str(patient(6))) as served,
        three_readers_notice_nothing(place, tmp_path),
    ):
        served.warm()
        before = served.will_serve()
        _arm(faults, "read", "hang")
        served.says("a thread has the request in hand that it had before")
        served.will_serve(than=before)


def _started(place: Place, faults: Path) -> Daemon:
    return place.start(PROCVIEW_FAULTS=str(faults))


def _views(place: Place) -> dict[str, str]:
    return published(Skeleton(str(place.run_directory)))


def test_a_death_in_the_middle_of_a_stop_is_the_guards_to_finish(place: Place, faults: Path) -> None:
    daemon = _started(place, faults)
    _arm(faults, "withdraw", "die")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.ends() == -signal.SIGKILL
    eventually(lambda: not place.ours(), "the guard's withdrawal")


def test_a_hang_in_the_middle_of_a_stop_ends_as_soon_as_somebody_waits(place: Place, faults: Path) -> None:
    daemon = _started(place, faults)
    _arm(faults, "withdraw", "hang")
    daemon.process.send_signal(signal.SIGTERM)
    _happens(faults, "withdraw")
    with pytest.raises(OSError, match=r"not connected|abort"):
        os.statvfs(place.mount)
    assert daemon.ends() == -signal.SIGKILL
    eventually(lambda: not place.ours(), "the guard's withdrawal")


def test_a_view_that_cannot_be_withdrawn_at_once_is_withdrawn_by_the_guard(place: Place, faults: Path) -> None:
    daemon = _started(place, faults)
    _arm(faults, "withdraw", "fail")
    daemon.stop()
    assert "a fault on purpose, at withdraw" in daemon.said
    eventually(lambda: not place.ours(), "the guard's withdrawal")


def test_a_guard_that_dies_in_the_middle_is_what_withdraw_is_for(place: Place, faults: Path) -> None:
    daemon = _started(place, faults)
    _arm(faults, "withdraw", "die")
    daemon.process.kill()
    _happens(faults, "withdraw")
    guard = daemon.guard()
    assert guard is None or guard.wait(patient(5)) is not None
    assert _views(place)
    words = ["withdraw", "--run-directory", str(place.run_directory), "--config", str(place.config)]
    subprocess.run([sys.executable, "-m", "procview", *words], check=True, capture_output=True)
    assert not place.ours()
    second = place.start()
    assert _views(place)
    second.stop()


@pytest.mark.parametrize("word", ["die", "fail"])
def test_views_of_a_start_that_does_not_come_to_its_end_go_again(place: Place, faults: Path, word: str) -> None:
    _arm(faults, "publish", word)
    daemon = place.start(ready=False, PROCVIEW_FAULTS=str(faults))
    assert daemon.ends() == (-signal.SIGKILL if word == "die" else 1), daemon.said
    eventually(lambda: not place.ours(), "the withdrawal")
    second = place.start()
    assert _views(place)
    second.stop()


def test_a_word_that_is_none_is_an_error_and_no_hang(place: Place, faults: Path) -> None:
    _arm(faults, "publish", "hangs")
    daemon = place.start(ready=False, PROCVIEW_FAULTS=str(faults))
    assert daemon.ends() == 1
    assert "[Errno 22] a fault on purpose, at publish" in daemon.said


def test_faults_are_told_of_and_a_folder_that_is_not_there_is_an_error(place: Place, faults: Path) -> None:
    daemon = _started(place, faults)
    daemon.says(f"PROCVIEW_FAULTS={faults}: whatever stands there happens, to every container")
    daemon.stop()
    refused = place.start(ready=False, PROCVIEW_FAULTS=str(faults / "nothing"))
    assert refused.ends() == 1
    assert refused.said == f"PROCVIEW_FAULTS={faults}/nothing: No such file or directory\n"
