"""Containers as an engine has them when it calls the hook, without an engine; and the hook as a process.

A prepared container is a process in namespaces of its own, whose root is still the host's: its root file system is
mounted on itself, with a procfs and a sysfs in it. Its mounts are gone with the process.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from procview.mounts import MountEntry, mount_table, parse_mountinfo
from procview.shipped import hook_program
from procview.slots.skeleton import Skeleton
from tests.session import SESSION
from tests.timing import patient

CPU = "sys/devices/system/cpu"
NAMES = ["proc/meminfo", "proc/partitions", "proc/pressure", "proc/uptime", CPU]
HARDENED = frozenset({"ro", "nosuid", "nodev", "noexec"})
PROCFS = 'mount -t proc proc "$ROOT/proc"'
SYSFS = 'mount -t sysfs -o ro sysfs "$ROOT/sys"'
BOUND = 'mount --bind "$ROOT" "$ROOT"; mount --bind /usr "$ROOT/usr"'
"""With the host's programs, which the tests run there."""


class Prepared:
    """A process in a mount and a pid namespace of its own, which has done ``steps`` there ($ROOT is its rootfs)."""

    def __init__(
        self,
        bundle: Path,
        steps: Sequence[str] = (BOUND, PROCFS, SYSFS),
        *,
        propagation: str = "slave",
        users: bool = False,
    ) -> None:
        self.bundle = bundle
        self.rootfs = bundle / "rootfs"
        self.users = users
        for folder in ("proc", "sys", "old", "usr"):
            (self.rootfs / folder).mkdir(parents=True, exist_ok=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            (self.rootfs / link).symlink_to(f"usr/{link}")
        script = "\n".join([f"set -e; ROOT={shlex.quote(str(self.rootfs))}", *steps, "echo ready; exec sleep 1000"])
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", propagation]
        self._process = subprocess.Popen(
            ["unshare", *(["--user", "--map-root-user", "--net"] if users else []), *namespaces, "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        self.pid = int(children.split()[0])

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait(patient(20))
        assert self._process.stdout is not None
        self._process.stdout.close()

    def inside(self, *argv: str) -> list[str]:
        """A command that runs in its namespaces, as hooks of the container's own side do."""
        kinds = ["--user", "--mount", "--pid"] if self.users else ["--mount", "--pid"]
        return ["nsenter", "--target", str(self.pid), *kinds, "--", *argv]

    def do(self, script: str) -> None:
        """Run a script there; $ROOT is its rootfs."""
        environment = os.environ | {"ROOT": str(self.rootfs)}
        subprocess.run(self.inside("sh", "-ec", script), check=True, timeout=patient(20), env=environment)

    def change_root(self, then: str = "true") -> None:
        """What an engine does after the hooks: from here on it is a running container."""
        self.do(f'cd "$ROOT" && pivot_root . old && umount -l old && {then}')

    def table(self) -> list[MountEntry]:
        return list(parse_mountinfo(Path(f"/proc/{self.pid}/mountinfo").read_text(encoding="utf-8")))

    def below_root(self) -> list[MountEntry]:
        """Its mounts, without its copies of what is mounted elsewhere on the host."""
        return [entry for entry in self.table() if entry.path.startswith(f"{self.rootfs}/")]

    def at(self, name: str) -> list[MountEntry]:
        """What is mounted at one of its files, from the bottom."""
        paths = {f"{self.rootfs}/{name}", f"/{name}"}
        return stacked([entry for entry in self.table() if entry.path in paths])

    def kinds(self, name: str) -> list[str]:
        return [entry.fs_type for entry in self.at(name)]

    def options(self, name: str) -> list[frozenset[str]]:
        """The options of each mount at one of its files."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
        path = f"{self.rootfs}/{name}"
        return [frozenset(words[5].split(",")) for line in lines if (words := line.split(" "))[4] == path]


def stacked(entries: list[MountEntry]) -> list[MountEntry]:
    """Mounts at one place in the order in which they lie on each other."""
    by_parent = {entry.parent_id: entry for entry in entries}
    numbers = {entry.mount_id for entry in entries}
    order = [entry for entry in entries if entry.parent_id not in numbers]
    assert len(order) <= 1, entries
    while order and order[-1].mount_id in by_parent:
        order.append(by_parent[order[-1].mount_id])
    return order


@dataclass(frozen=True)
class HookProcess:
    """Runs the hook with a run directory and a log of the test's own."""

    directory: Path
    run_directory: Path

    @property
    def log(self) -> Path:
        return self.directory / "hook.log"

    def argv(self, *options: str) -> list[str]:
        return [hook_program(), "--run-directory", str(self.run_directory), "--log", str(self.log),
                "--deadline", f"{patient(10):g}", *options]  # fmt: skip

    def says(self) -> list[str]:
        """The lines in its log since the last time, without date and process."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(encoding="utf-8").splitlines()
        self.log.unlink()
        return [line.split("]: ", 1)[1] for line in lines]

    def run(
        self, state: bytes | dict[str, Any], *options: str, prefix: Sequence[str] = (), **more: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        """A whole run; it must exit with 0 and print nothing, as always."""
        data = state if isinstance(state, bytes) else json.dumps(state).encode()
        done = subprocess.run(
            [*prefix, *self.argv(*options)], input=data, capture_output=True, timeout=patient(20), check=False, **more
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        return done

    def by_hand(self, mode: str, *pids: int, status: int = 0, **more: Any) -> list[dict[str, Any]]:
        """Attach or detach running containers; the answers."""
        argv = self.argv(f"--{mode}", *map(str, pids))
        done = subprocess.run(argv, capture_output=True, timeout=patient(20), check=False, text=True, **more)
        assert (done.returncode, done.stderr) == (status, ""), done.stdout
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [answer["pid"] for answer in answers] == list(pids)
        return answers


def state_of(container: Prepared, **more: Any) -> dict[str, Any]:
    """As runc says it; its config.json is written, too."""
    write_config(container)
    return {"ociVersion": "1.0.2-dev", "id": "c1", "status": "creating", "pid": container.pid,
            "bundle": str(container.bundle)} | more  # fmt: skip


def write_config(container: Prepared, root: str = "rootfs", propagation: str = "rslave") -> None:
    """Root and propagation are all that the hook reads. With rslave, no process has to stay behind."""
    config = {"root": {"path": root}, "linux": {"rootfsPropagation": propagation}}
    (container.bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")


def assert_attached(container: Prepared, skeleton: Skeleton, *, views: bool = False) -> None:
    """Every slot is bound, once, and has exactly the current view over it, or none."""
    table = mount_table()
    names = skeleton.names()
    assert names
    for name in names:
        below = [e for e in table if not e.ours and f"{skeleton.ctl(name)}/".startswith(f"{e.path}/")]
        group = max(below, key=lambda entry: len(entry.path)).shared
        assert group
        mounts = container.at(name)
        assert mounts, name  # nothing, for the moment in which it is attached anew
        slot, *above = mounts
        assert (slot.root, slot.master, slot.shared) == (f"/{name.partition('/')[2]}", group, 0), name
        current = [entry.device for entry in table if entry.path == skeleton.ctl(name) and entry.ours]
        assert len(current) == views, name
        assert [entry.device for entry in above] == current, name
        assert all(entry.ours and not entry.shared for entry in above), name


def host_table() -> list[str]:
    """The host's mounts, to be compared; without those of others that test or measure at the same time."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "/var/tmp/procview-" not in line or SESSION in line]


def in_namespace_of_init() -> bool:
    """Whether the tests run where init does; if not, the hook cannot tell their namespace from a container's."""
    tables = (Path(f"/proc/{process}/mountinfo").read_text(encoding="utf-8") for process in ("1", "self"))
    first, second = (table.partition(" ")[0] for table in tables)
    return first == second
