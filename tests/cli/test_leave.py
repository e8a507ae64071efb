"""``procview leave`` with real daemons. What systemd would say of its jobs, a program says here in its place; with
systemd itself tests/systemd/test_unit.py has it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procview.slots.publish import published
from procview.slots.skeleton import Skeleton
from tests.daemon.process import Place, needs_mount, place
from tests.lane import WHY_NOT_CONTINUED, continues
from tests.supervise.test_daemon import supervised

__all__ = ["place"]

UNIT = "procview-test.service"


def _leave(place: Place, folder: Path, systemctl: str, main: int | None = None) -> "subprocess.CompletedProcess[str]":
    """``systemctl`` is a shell script in place of the command; ``main`` is what systemd takes for the main process."""
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\n{systemctl}\n", encoding="ascii")
    program.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "MAINPID": f"{main or ''}"}
    words = ["leave", "--run-directory", str(place.run_directory), "--config", str(place.config), UNIT]
    return subprocess.run([sys.executable, "-m", "procview", *words], capture_output=True, text=True, check=False,
                          env=os.environ | environment)  # fmt: skip


def _job(kind: str) -> str:
    return f"echo '17 {UNIT} {kind} running'"


def test_where_the_service_manager_does_not_answer_nothing_is_done(place: Place, tmp_path: Path) -> None:
    place.config.write_text("")
    done = _leave(place, tmp_path, "echo nobody is there >&2; exit 1")
    assert done.returncode == 1
    assert f"whether {UNIT} is to start again cannot be told: systemctl list-jobs: nobody is there" in done.stderr


def test_without_a_daemon_there_is_nothing_to_do(place: Place, tmp_path: Path) -> None:
    place.config.write_text("")
    done = _leave(place, tmp_path, _job("stop"))
    assert (done.returncode, done.stdout) == (0, "no daemon runs\n")


class TestDaemon:
    pytestmark = needs_mount

    @pytest.mark.parametrize("job", ["true", _job("stop"), "echo '17 another.service restart running'"])
    def test_for_a_stop_it_withdraws_its_views(self, place: Place, tmp_path: Path, job: str) -> None:
        daemon = place.start()
        done = _leave(place, tmp_path, job)
        assert done.stdout == f"the daemon (pid {daemon.process.pid}) has ended, and {UNIT} is not to start again\n"
        assert daemon.ends() == 0
        daemon.says("SIGTERM: stopping")
        assert not place.ours()

    def test_in_the_middle_of_an_exchange_both_end(self, place: Place, tmp_path: Path) -> None:
        """systemd would kill the second one at once, which is its main process, but no child of its own."""
        daemon = place.start()
        with subprocess.Popen(["sleep", "1000"]) as following:
            done = _leave(place, tmp_path, _job("stop"), main=following.pid)
            assert following.wait(0) == -signal.SIGTERM
        first, second = done.stdout.splitlines()
        assert first == f"the daemon (pid {daemon.process.pid}) has ended, and {UNIT} is not to start again"
        assert second == f"the daemon (pid {following.pid}) has ended, and {UNIT} is not to start again"
        assert daemon.ends() == 0

    def test_where_the_lock_is_between_two_the_main_process_ends(self, place: Place, tmp_path: Path) -> None:
        place.config.write_text("")
        with subprocess.Popen(["sleep", "1000"]) as following:
            done = _leave(place, tmp_path, _job("restart"), main=following.pid)
            assert following.wait(0) == -signal.SIGQUIT
        assert done.stdout == f"the daemon (pid {following.pid}) has ended, and {UNIT} is to start again\n"
        assert _leave(place, tmp_path, _job("restart"), main=following.pid).stdout == "no daemon runs\n"

    def test_the_main_process_is_told_once(self, place: Place, tmp_path: Path) -> None:
        daemon = place.start()
        done = _leave(place, tmp_path, _job("stop"), main=daemon.process.pid)
        assert done.stdout.count("has ended") == 1
        assert daemon.ends() == 0

    def test_for_a_restart_it_withdraws_them_as_well_where_nobody_keeps_anything(
        self, place: Place, tmp_path: Path
    ) -> None:
        daemon = place.start()
        assert _leave(place, tmp_path, _job("restart")).returncode == 0
        assert daemon.ends() == 0
        daemon.says("SIGQUIT: stopping")
        assert not place.ours()

    @pytest.mark.skipif(not continues(), reason=WHY_NOT_CONTINUED)
    @pytest.mark.parametrize("kind", ["restart", "try-restart"])
    def test_for_a_restart_it_leaves_all_to_the_next_one(self, place: Place, tmp_path: Path, kind: str) -> None:
        with supervised(place) as served:
            served.warm()
            before, views = served.will_serve(), published(Skeleton(str(place.run_directory)))
            done = _leave(place, tmp_path, _job(kind))
            assert done.stdout == f"the daemon (pid {before}) has ended, and {UNIT} is to start again\n"
            served.will_serve(than=before)
            assert published(Skeleton(str(place.run_directory))) == views
            served.says("(the standby), with 2 descriptors kept for it")
