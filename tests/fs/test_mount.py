"""mountinfo, and the parts of the mount's life cycle that need no mount."""

import contextlib
import os
from pathlib import Path

from procview.fs import mount as module
from procview.mounts import MountEntry, parse_mountinfo, top_mount

TEXT = r"""22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw
40 22 0:50 / /run/with\040space\134 rw,nosuid - fuse.procview procview rw,user_id=0,group_id=0,allow_other
41 40 0:51 / /run/with\040space\134 rw shared:7 master:2 - tmpfs none rw
42 22 0:50 /proc/meminfo /a ro - fuse.procview procview rw
torn
"""


def test_mountinfo() -> None:
    proc, ours, other, bound = parse_mountinfo(TEXT)
    assert proc == MountEntry(22, 1, "0:21", "/", "/proc", "proc", "proc", shared=5, master=0)
    assert (ours.path, ours.device, ours.ours) == ("/run/with space\\", "0:50", True)
    assert (other.parent_id, other.fs_type, other.ours) == (40, "tmpfs", False)
    assert bound.root == "/proc/meminfo"
    assert (other.shared, other.master) == (7, 2)


def test_top_mount_of_here() -> None:
    entry = top_mount("/proc")
    assert entry is not None
    assert entry.fs_type == "proc"
    assert top_mount("/proc/nothing") is None


def test_directories_made_go_away_and_others_stay(tmp_path: Path) -> None:
    with module.directories(str(tmp_path / "a/b/c")):
        (tmp_path / "a/kept").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "kept"]
    with module.directories(str(tmp_path / "a")):
        pass
    assert (tmp_path / "a").is_dir()


def test_directories_go_away_after_an_error(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), module.directories(str(tmp_path / "a/b")):
        raise KeyError
    assert os.listdir(tmp_path) == []
