"""What belongs to this run of the tests: the names it gives to things, and what of it is left in the end.

Several runs may share a machine. Everything a run makes carries its number (cgroups and containers in their names,
processes in their environment), so that each run finds its own leftovers and leaves those of others alone.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "procview-test-"
SESSION = f"{PREFIX}{os.getpid()}"
VARIABLE = "PROCVIEW_TEST_SESSION"
PRELOADED = "PROCVIEW_TEST_PRELOADED"
RUN_DIRECTORY = Path("/run/procview")
_ENGINE_PLACES = (
    "/dev/shm/libpod*",
    "/etc/docker",
    "/run/containerd",
    "/run/crun/*",
    "/run/docker*",
    "/run/libpod",
    "/run/runc/*",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
)
"""Where engines leave things unless each of them is told not to."""

_numbers = itertools.count(1)


def new_name() -> str:
    """A name for a container or a cgroup of this run, never used before."""
    return f"{SESSION}-{next(_numbers)}"


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """A folder as new_directory makes it, removed afterwards."""
    path = new_directory()
    try:
        yield path
    finally:
        remove_directory(path)


def new_directory() -> Path:
    """A folder that every user may enter, on a disk, which a container's root must have; see remove_directory."""
    path = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir="/var/tmp"))
    path.chmod(0o755)
    return path


def remove_directory(path: Path) -> None:
    """Remove a folder made by new_directory; refuses while something is mounted below: rmtree would empty it."""
    inside = [mount for mount in mounts() if mount.point.is_relative_to(path)]
    if inside:
        raise RuntimeError(f"still mounted below {path}: {inside}")
    shutil.rmtree(path)


@dataclass(frozen=True)
class Mount:
    root: str
    point: Path
    kind: str
    options: frozenset[str]


def _unescape(text: str) -> str:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")


def mounts(pid: int | str = "self") -> list[Mount]:
    """The mounts that a process sees; options are those of the file system (for cgroup v1: its controllers)."""
    found = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split(" ")
        kind, _, options = fields[fields.index("-") + 1 :]
        point = Path(_unescape(fields[4]) if "\\" in fields[4] else fields[4])
        found.append(Mount(fields[3], point, kind, frozenset(options.split(","))))
    return found


@dataclass(frozen=True)
class Leftovers:
    """Things of procview on this machine at one moment; compare two of them."""

    mounts: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]
    processes: frozenset[str]
    directories: frozenset[str]
    network: frozenset[str]
    alone: bool
    """Whether no other run of the tests was going on: whose ``files`` are, cannot be told by their names."""

    def since(self, before: "Leftovers") -> list[str]:
        """One line for each thing that is here and was not there before."""
        kinds = ["mounts", "cgroups", "processes", "directories", "network"]
        if self.alone and before.alone:
            kinds.append("files")
        return [f"{kind}: {name}" for kind in kinds for name in sorted(getattr(self, kind) - getattr(before, kind))]


def leftovers() -> Leftovers:
    """Look for whatever tests of procview, and the engines that they start, can leave behind."""
    others = other_sessions()
    now = mounts()
    cgroup_trees = [mount.point for mount in now if mount.kind in {"cgroup", "cgroup2"}]
    cgroups = (Path(folder) / name for tree in cgroup_trees for folder, names, _ in os.walk(tree) for name in names)
    return Leftovers(
        mounts=frozenset(
            str(mount.point)
            for mount in now
            if ("procview" in mount.kind or PREFIX in str(mount.point)) and not _owned(mount.point, others)
        ),
        cgroups=frozenset(str(path) for path in cgroups if PREFIX in path.name and not _owned(path, others)),
        files=frozenset(map(str, _run_files())),
        processes=frozenset(f"{pid} {_command_line(pid)}" for pid, session in _marked() if session == SESSION),
        directories=frozenset(
            str(path) for place in ("/var/tmp", "/run/lxc/lock/var/tmp") for path in Path(place).glob(f"{SESSION}-*")
        ),
        network=frozenset(_network()),
        alone=not others,
    )


def _run_files() -> Iterator[Path]:
    yield from RUN_DIRECTORY.rglob("*")
    for pattern in _ENGINE_PLACES:
        yield from Path("/").glob(pattern.lstrip("/"))


def _network() -> Iterator[str]:
    """Forwarding and rules of the firewall, which engines with a network of their own switch on for good."""
    for version in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        with contextlib.suppress(OSError):
            yield f"{version} = {Path('/proc/sys/net', version).read_text(encoding='ascii').strip()}"
    for program in ("iptables-save", "ip6tables-save"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run([program], capture_output=True, text=True, timeout=10, check=True).stdout
            yield from (f"{program}: {line}" for line in said.splitlines() if line.startswith("-A"))


def other_sessions() -> set[str]:
    """Runs of the tests that are going on at the same time."""
    return {session for _, session in _marked()} - {SESSION}


def _owned(path: Path, sessions: set[str]) -> bool:
    return any(session in str(path) for session in sessions)


def _marked() -> list[tuple[int, str]]:
    """Processes that a run of the tests has started, in whatever container and whoever is their parent now."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                name, _, value = variable.partition(b"=")
                if name == VARIABLE.encode():
                    found.append((int(entry.name), value.decode(errors="replace")))
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(gone)"


def environment_with_modules() -> dict[str, str]:
    """For a Python of its own that imports our compiled modules: a sanitizer that they are built with comes first."""
    preloaded = os.environ.get(PRELOADED)
    return dict(os.environ) if preloaded is None else os.environ | {"LD_PRELOAD": preloaded}
