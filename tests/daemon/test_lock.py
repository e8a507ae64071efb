"""The lock that says who serves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from procview.lock import LockedError, held, holder


def test_it_is_exclusive_names_its_owner_and_goes_away(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    assert holder(path) is None
    with held(path):
        assert Path(path).read_text() == f"{os.getpid()}\n"
        with pytest.raises(LockedError, match=rf"pid {os.getpid()}\) serves here: it holds {path}"), held(path):
            pass
        owner = holder(path)
        assert owner is not None
        assert owner.pid == os.getpid()
        assert Path(path).exists()
    assert os.listdir(tmp_path) == []
    with held(path):
        pass


def test_one_that_a_killed_process_held_is_free(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    code = f"import time, procview.lock\nwith procview.lock.held({path!r}): print(flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        owner = holder(path)
        assert owner is not None
        assert owner.pid == process.pid
        process.send_signal(signal.SIGKILL)
    assert holder(path) is None
    with held(path):
        assert Path(path).read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == []


def test_nothing_is_left_of_what_a_dead_owner_wrote(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("12345678901234567890\n")
    with held(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_it_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), held(str(tmp_path / "lock")):
        pass
    assert not (tmp_path / "precious").exists()


def test_an_owner_that_wrote_nonsense_is_said_to_be_unknown(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with held(path):
        Path(path).write_text("me")
        with pytest.raises(LockedError, match="its pid cannot be told"), held(path):
            pass
