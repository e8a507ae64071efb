"""What the mounts of a container and of the host say about views and slots, and what a host's files say.

Reads mountinfo and /proc of the host only: no question goes to a file system that may hang.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path

from procview.mounts import MountEntry, mount_table, parse_mountinfo, top_mount
from procview.slots.skeleton import Skeleton
from tests.containers.cgroups import Limits
from tests.containers.engines import Container
from tests.containers.served import Daemon
from tests.timing import lateness, patient

HARDENED = frozenset({"ro", "nosuid", "nodev", "noexec"})


def skeleton_of(daemon: Daemon) -> Skeleton:
    return Skeleton(str(daemon.run_directory))


def mounts_of(container: Container) -> list[MountEntry]:
    text = Path(f"/proc/{container.pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return list(parse_mountinfo(text))


def _groups(skeleton: Skeleton) -> set[int]:
    """The peer groups of the slots: what receives from them is a slot, wherever it is."""
    entries = mount_table()
    return {entry.shared for entry in entries if entry.path.startswith(f"{skeleton.base}/ctl/")} - {0}


def views_in(container: Container) -> list[MountEntry]:
    """The views over a container's files. Of the host's tree, which unshare has all of, the slots are there as well."""
    return [entry for entry in mounts_of(container) if entry.ours and entry.path.startswith(("/proc/", "/sys/"))]


def of_procview(container: Container, daemon: Daemon) -> list[MountEntry]:
    """The mounts in a container that are views, or slots of this daemon."""
    groups = _groups(skeleton_of(daemon))
    slots = [entry for entry in mounts_of(container) if entry.master in groups]
    return slots + views_in(container)


def leaked(daemon: Daemon) -> list[MountEntry]:
    """The views and slots of this daemon that the host sees outside the run directory."""
    skeleton = skeleton_of(daemon)
    groups = _groups(skeleton)
    view = top_mount(str(daemon.mount))
    device = None if view is None else view.device
    return [
        entry
        for entry in mount_table()
        if ((entry.ours and entry.device == device) or {entry.shared, entry.master} & groups)
        and not entry.path.startswith(f"{skeleton.base}/")
    ]


def options_of(container: Container, path: str) -> frozenset[str]:
    """The options of the mount that is on top at ``path``."""
    lines = Path(f"/proc/{container.pid}/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return frozenset([line.split(" ")[5] for line in lines if line.split(" ")[4] == path][-1].split(","))


def assert_views(container: Container, daemon: Daemon) -> None:
    """Each slot of the host is in the container, with exactly one view over it, both out of everybody's way."""
    mounts = mounts_of(container)
    view = top_mount(str(daemon.mount))
    assert view is not None
    on_host = {group for entry in mount_table() for group in (entry.shared, entry.master)} - {0}
    for name in skeleton_of(daemon).names():
        here = [entry for entry in mounts if entry.path == f"/{name}"]
        assert [entry.device for entry in here if entry.ours] == [view.device], (name, here)
        assert len(here) == 2, (name, here)
        # LXC shares all mounts of a container with the namespaces that are made in it: a group of its own.
        assert not {entry.shared for entry in here} & on_host, (name, here)
        assert all(entry.master for entry in here), (name, here)
        assert options_of(container, f"/{name}") >= HARDENED


def host_memory_kb() -> int:
    return memory_kb(Path("/proc/meminfo").read_text(encoding="ascii"))


def memory_kb(meminfo: str) -> int:
    """The total of a /proc/meminfo."""
    found = re.match(r"MemTotal: +(\d+) kB\n", meminfo)
    assert found, meminfo
    return int(found[1])


def assert_hosts_within(seconds: float, container: Container) -> None:
    """A read may fail until then; one that begins later has to be right. None shows anything but the host's."""
    late, deadline = lateness(), time.monotonic() + seconds
    while True:
        begun, bound = time.monotonic(), deadline + late()
        shown = container.run(["cat", "/proc/meminfo"])
        if shown.returncode == 0 or begun > bound:
            break
    assert shown.returncode == 0, shown.stderr
    assert memory_kb(shown.stdout) == host_memory_kb()


def limit_kb(limits: Limits) -> int:
    assert limits.memory_bytes is not None
    return limits.memory_bytes // 1024


def wait_for_nobody_stuck(containers: Sequence[Container], seconds: float = patient(5)) -> None:
    """No process of these containers waits without end (state D), as one does for a file system that hangs."""
    namespaces = {_pid_namespace(str(container.pid)) for container in containers}
    deadline = time.monotonic() + seconds
    while stuck := _stuck(namespaces):
        assert time.monotonic() < deadline, stuck
        time.sleep(0.05)


def _stuck(namespaces: set[str]) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            if stat.rpartition(")")[2].split()[0] == "D" and _pid_namespace(entry.name) in namespaces:
                found.append(stat)
        except OSError:  # it has ended
            continue
    return found


def _pid_namespace(pid: str) -> str:
    return Path(f"/proc/{pid}/ns/pid").readlink().name
