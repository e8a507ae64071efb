"""mountinfo, and the parts of the mount's life cycle that need no mount."""

import contextlib
import os
from pathlib import Path

import pytest

from procview.fs import mount as module
from procview.fs.mount import MountError
from procview.mounts import MountEntry, parse_mountinfo, top_mount

TEXT = r"""22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw
40 22 0:50 / /run/with\040space\134 rw,nosuid - fuse.procview procview rw,user_id=0,group_id=0,allow_other
41 40 0:51 / /run/with\040space\134 rw shared:7 master:2 - tmpfs none rw
torn
"""


def test_mountinfo() -> None:
    proc, ours, other = parse_mountinfo(TEXT)
    assert proc == MountEntry(22, 1, "0:21", "/proc", "proc", "proc", shared=5, master=0)
    assert (ours.path, ours.device, ours.ours) == ("/run/with space\\", "0:50", True)
    assert (other.parent_id, other.fs_type, other.ours) == (40, "tmpfs", False)
    assert (other.shared, other.master) == (7, 2)


def test_top_mount_of_here() -> None:
    entry = top_mount("/proc")
    assert entry is not None
    assert entry.fs_type == "proc"
    assert top_mount("/proc/nothing") is None


def test_lock_is_exclusive_names_its_owner_and_goes_away(tmp_path: Path) -> None:
    path = str(tmp_path / "fs")
    with module._lock(path):
        assert Path(f"{path}.lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(MountError, match=f"served by procview, pid {os.getpid()} "), module._lock(path):
            pass
        assert Path(f"{path}.lock").exists()
    assert os.listdir(tmp_path) == []
    with module._lock(path):
        pass


def test_lock_left_by_a_crash_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "fs.lock").write_text("4711\n")
    with module._lock(str(tmp_path / "fs")):
        assert (tmp_path / "fs.lock").read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == []


def test_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "fs.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), module._lock(str(tmp_path / "fs")):
        pass
    assert not (tmp_path / "precious").exists()


def test_directories_made_go_away_and_others_stay(tmp_path: Path) -> None:
    with module._directories(str(tmp_path / "a/b/c")):
        (tmp_path / "a/kept").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "kept"]
    with module._directories(str(tmp_path / "a")):
        pass
    assert (tmp_path / "a").is_dir()


def test_directories_go_away_after_an_error(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), module._directories(str(tmp_path / "a/b")):
        raise KeyError
    assert os.listdir(tmp_path) == []
