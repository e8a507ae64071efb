"""``procview supervise`` with procview's own daemon: views in all that happens to either of the two."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from procview.lock import holder
from procview.slots.publish import published
from procview.slots.skeleton import Skeleton
from tests import lane
from tests.daemon.process import Place, eventually, needs_mount
from tests.supervise.process import Supervised, end_all, has_ended
from tests.timing import lateness, patient

pytestmark = needs_mount

SECOND = patient(1)


class Served(Supervised):
    """One with a run directory of its own."""

    place: Place

    @property
    def skeleton(self) -> Skeleton:
        return Skeleton(str(self.place.run_directory))

    def known(self) -> set[int]:
        return {self.daemon()}

    def clean_up(self) -> None:
        orphans: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            daemon = psutil.Process(self.daemon() or self.pid)
            orphans = [daemon, *daemon.children(recursive=True)]
        super().clean_up()
        end_all(orphans)

    def daemon(self) -> int:
        """The pid of the daemon that serves; 0: none does."""
        try:
            owner = holder(self.skeleton.lock)
        except OSError:
            return 0
        return 0 if owner is None or owner.pid is None else owner.pid

    def serves(self, than: int = 0) -> bool:
        """Whether a daemon does, another one than ``than``."""
        if self.daemon() in (0, than) or "proc/uptime" not in published(self.skeleton):
            return False
        try:
            return Path(self.skeleton.ctl("proc/uptime")).read_text().count(".") == 2
        except OSError:
            return False

    def will_serve(self, than: int = 0) -> int:
        eventually(lambda: self.serves(than), f"a daemon that serves: {self.said}")
        return self.daemon()


PATIENT = f"takeover_seconds = {patient(5)}\nhang_seconds = {patient(30)}\n"
"""Where the guard is not what is tested, it shall not be quicker than a supervisor that has to wait for a processor."""


@contextlib.contextmanager
def supervised(
    place: Place,
    options: Sequence[str] = (),
    configuration: str = PATIENT,
    log_directory: Path | None = None,
    **environment: str,
) -> Iterator[Served]:
    """``procview supervise``, which serves."""
    place.config.write_text(configuration)
    words = [sys.executable, "-m", "procview", "supervise", *options, "--run-directory", str(place.run_directory)]
    ours = Served(place.directory, [*words, "--config", str(place.config), *lane.options()], environment, log_directory)
    ours.place = place
    ours.start()
    try:
        ours.will_serve()
        yield ours
    finally:
        ours.clean_up()


@pytest.fixture
def served(place: Place, request: pytest.FixtureRequest) -> Iterator[Served]:
    """With options of its own by the mark ``options``."""
    mark = request.node.get_closest_marker("parametrize")
    with supervised(place, request.param if mark is not None and hasattr(request, "param") else []) as ours:
        yield ours


STEADY = pytest.mark.parametrize("served", [["--steady-seconds", "0"]], indirect=True, ids=["steady"])
WATCHDOG_SECONDS = patient(4)
WATCHED = pytest.mark.parametrize(
    "served", [["--watchdog-seconds", f"{WATCHDOG_SECONDS:g}"]], indirect=True, ids=["watched"]
)
UNWATCHED = pytest.mark.parametrize("served", [["--watchdog-seconds", "0"]], indirect=True, ids=["unwatched"])
"""So that no process asks the daemon a question now and then, which would be one more child."""


@STEADY
def test_a_killed_daemon_is_followed_by_the_standby_and_views_come_back(served: Served) -> None:
    for _ in range(5):
        served.all_warm()  # so the daemon is ready, and its end no crash at the start
        before = served.will_serve()
        waiting = {child.pid for child in served.children()}
        late = lateness()
        died = time.monotonic()
        os.kill(before, signal.SIGKILL)
        assert served.will_serve(than=before) in waiting
        assert time.monotonic() < died + SECOND + late()
    kept = 2 if lane.continues() else 0
    assert served.said.count(f"(the standby), with {kept} descriptors") == 5
    assert served.said.count("is served by another procview") == 0
    served.send(signal.SIGTERM)
    assert served.ends() == 0


@UNWATCHED
def test_sigterm_ends_all_and_leaves_nothing_but_the_slots(served: Served) -> None:
    served.all_warm()
    children = served.children()
    assert len(children) == 4, "the daemon, its guard, two standbys"
    served.send(signal.SIGTERM)
    assert served.ends() == 0
    assert not any(child.is_running() for child in children)
    assert not served.place.ours()
    left = sorted(path.name for path in served.place.run_directory.iterdir())
    assert left == ["containers", "control", "control.sock", "ctl", "history", "slots", "src"]
    assert not list(Path("/run").glob("procview-*"))


def test_a_standby_reads_the_configuration_when_it_goes(served: Served) -> None:
    served.warm()
    served.place.config.write_text('log_level = "debug"\nnonsense = 1\n')
    before = served.will_serve()
    os.kill(before, signal.SIGKILL)
    served.says(f"{served.place.config}:2: unknown key 'nonsense'")
    served.place.config.write_text("")
    served.will_serve(than=before)


def test_sighup_exchanges_the_daemon_and_containers_keep_their_views(served: Served) -> None:
    served.warm()
    before = served.will_serve()
    served.place.config.write_text('log_level = "debug"\n')
    served.send(signal.SIGHUP)
    while not served.serves(than=before):
        assert "proc/uptime" in published(served.skeleton)
        assert served.process.poll() is None
    # By the standby if it can go on with the connection, else by a successor.
    how = "(the standby), with 2 descriptors" if lane.continues() else "which has taken over"
    served.says(how)
    served.warm()
    served.send(signal.SIGTERM)
    assert served.ends() == 0
    assert not served.place.ours()


def test_sighup_with_a_bad_configuration_exchanges_nothing(served: Served) -> None:
    served.warm()
    before = served.will_serve()
    served.place.config.write_text("\ncpus = 7\n")
    served.send(signal.SIGHUP)
    served.says(f"configuration not reloaded, and the daemon not exchanged: {served.place.config}:2: cpus = 7")
    served.warm()
    assert served.serves()
    assert served.daemon() == before


@WATCHED
def test_a_daemon_that_hangs_is_killed_and_followed_by_another(served: Served) -> None:
    served.warm()  # so the daemon has said that it is ready, and has a watchdog
    before = served.will_serve()
    os.kill(before, signal.SIGSTOP)
    served.says(f"has not fed its watchdog for {WATCHDOG_SECONDS:g} s: killed")
    served.will_serve(than=before)


@WATCHED
def test_when_the_supervisor_dies_the_daemon_goes_on(served: Served) -> None:
    standby = served.warm()
    daemon = psutil.Process(served.will_serve())
    served.send(signal.SIGKILL)
    served.process.wait()
    eventually(lambda: has_ended(standby), "the standby's end")
    served.says("NOTIFY_SOCKET does not take messages")
    assert served.serves()
    daemon.terminate()
    eventually(lambda: has_ended(daemon), "its end")
    assert not served.place.ours()


def test_the_next_supervisor_takes_over_from_a_daemon_that_has_lost_its_own(served: Served) -> None:
    orphan = served.will_serve()
    daemon = psutil.Process(orphan)
    served.send(signal.SIGKILL)
    served.process.wait()
    words = served.command.copy()
    words.insert(words.index("supervise") + 1, "--replace")
    second = Served(served.directory, words)
    second.place = served.place
    second.start()
    try:
        second.will_serve(than=orphan)
        eventually(lambda: has_ended(daemon), "the end of the orphan")
        second.send(signal.SIGTERM)
        assert second.ends() == 0
    finally:
        second.clean_up()


def test_a_wrong_option_is_an_error_at_once() -> None:
    done = subprocess.run([sys.executable, "-m", "procview", "supervise", "--nonsense"], capture_output=True,
                          text=True, timeout=patient(20), check=False)  # fmt: skip
    assert done.returncode == 2
    assert "No such option" in done.stderr
