"""What all engines have in common: the interface of an engine and of its containers, and how programs are run."""

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from procview.mounts import MountEntry, parse_mountinfo
from procview.shipped import hook_program
from procview.slots.publish import published
from procview.slots.skeleton import Skeleton
from tests import session
from tests.containers.cgroups import Cgroup, Limits
from tests.containers.rootfs import Rootfs
from tests.timing import patient

CPU_TREE = "sys/devices/system/cpu"
NODE_TREE = "sys/devices/system/node"
TREES = (CPU_TREE, NODE_TREE) if Path("/", NODE_TREE).is_dir() else (CPU_TREE,)
"""What is mounted as a whole folder; a kernel without NUMA has no nodes."""
INSIDE = "/procview"
"""Where the whole mount is inside a container whose views are mounts of its configuration."""
SLEEP = ("sleep", "infinity")
SUB_ID = 100_000
"""The first user id on the host of a container with a user namespace."""
SUB_IDS = 65_536

RUNC_ALLOWS = frozenset(
    f"proc/{name}" for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg")
)
"""What runc accepts as mounts of a configuration, of the files below proc/."""


Stage = Literal["prestart", "createRuntime", "createContainer"]


class EngineError(Exception):
    """An engine failed; the message has what it said."""


@dataclass(frozen=True)
class Hook:
    """The hook of procview, for an engine to call when it starts a container."""

    program: Path
    """Where every user may run it."""
    run_directory: Path
    log: Path
    stage: Stage = "prestart"

    @classmethod
    def create(cls, directory: Path, run_directory: Path) -> "Hook":
        """The hook of this checkout, copied into ``directory``: an engine of another user cannot enter any checkout."""
        program = directory / "procview-hook"
        shutil.copyfile(hook_program(), program)
        program.chmod(0o755)
        return cls(program, run_directory, directory / "hook.log")

    @property
    def options(self) -> list[str]:
        return ["--run-directory", str(self.run_directory), "--log", str(self.log), "--deadline", f"{patient(10):g}"]

    @property
    def argv(self) -> list[str]:
        """Its command line for an engine that hands it the state of a container on standard input."""
        return [str(self.program), *self.options]

    def said(self) -> str:
        """Its complaints; nothing if all went well."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


Views = Path | Hook | None
"""How a container gets its views: from a mount of procview by mounts of its configuration; by the hook; not at all."""


def view_files(mount: Path) -> list[str]:
    """The files below proc/ that a mount shows to us, as paths within the mount."""
    return sorted(str(path.relative_to(mount)) for path in (mount / "proc").rglob("*") if not path.is_dir())


def view_binds(views: Views, allowed: frozenset[str] | None) -> list[str]:
    """The files below proc/ that are to be mounts of the configuration: all, or those that are ``allowed``."""
    files = view_files(views) if isinstance(views, Path) else []
    return [file for file in files if allowed is None or file in allowed]


def checked(argv: Sequence[str | Path], timeout: float = patient(30)) -> str:
    """Run a program that must succeed; what it prints."""
    result = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    if result.returncode != 0:
        command = shlex.join(str(word) for word in argv)
        raise EngineError(f"{command}: status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def version_line(program: str, *arguments: str) -> str | None:
    """The version in what a program says, or None if there is no such program."""
    if shutil.which(program) is None:
        return None
    words = checked([program, *arguments]).split()
    return next((word.rstrip(",") for word in words if word[:1].isdecimal()), "(unknown version)")


def wait_until_mended(pid: int, hook: Hook) -> None:
    """crun makes a container's mounts private when its hooks are done, and a process of the hook that stays behind
    attaches the slots anew. Until it has, or for some seconds: what is not right then is for the test to say.
    """
    skeleton = Skeleton(str(hook.run_directory))
    deadline = time.monotonic() + patient(5)
    while time.monotonic() < deadline:
        views = published(skeleton)
        text = Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        here: dict[str, list[MountEntry]] = {name: [] for name in skeleton.names()}
        for entry in parse_mountinfo(text):
            here.get(entry.path[1:], []).append(entry)
        if all(
            entries
            and all(entry.master for entry in entries)
            and [entry.device for entry in entries if entry.ours] == ([views[name]] if name in views else [])
            for name, entries in here.items()
        ):
            return
        time.sleep(0.05)


def in_cgroup(cgroup: Cgroup, argv: Sequence[str]) -> list[str]:
    """The command that enters a cgroup and then becomes ``argv``."""
    entries = "; ".join(f"echo $$ > {shlex.quote(file)}" for file in cgroup.entry_files())
    return ["sh", "-c", f'set -e; {entries}; exec "$@"', "sh", *argv]


WITHOUT_V2 = (
    "unshare",
    "--mount",
    "--propagation",
    "slave",
    "sh",
    "-c",
    'umount /sys/fs/cgroup/unified; exec "$@"',
    "sh",
)
"""A prefix: crun refuses hosts with v1 controllers beside a v2 tree, so it gets mounts of its own without that tree.

Slaves of the host's, or the hook that it runs would find slots that nothing is published into.
"""


@dataclass
class Container(ABC):
    """A running container."""

    name: str
    directory: Path
    """What its engine needs on the host; removed in the end."""
    pid: int = field(default=0, init=False)
    """Of its init, as the host numbers it."""

    @abstractmethod
    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        """What to run on the host to run ``argv`` inside, as ``user`` or as root."""

    @abstractmethod
    def kill(self) -> None:
        """End every process inside, and remove what the engine keeps of the container."""

    def update(self, limits: Limits) -> None:
        """Set the limits that are not None, while the container runs."""
        self.cgroup.apply(limits)

    def popen(self, argv: Sequence[str], user: int | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside."""
        return subprocess.Popen(self.command(argv, user), **options)

    def run(
        self, argv: Sequence[str], user: int | None = None, timeout: float = patient(30)
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end."""
        return subprocess.run(
            self.command(argv, user),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def output(self, argv: Sequence[str], user: int | None = None, timeout: float = patient(30)) -> str:
        """What a program inside prints; it must succeed, and have nothing to complain about."""
        result = self.run(argv, user, timeout)
        assert result.returncode == 0, f"{shlex.join(argv)}: status {result.returncode}\n{result.stdout}{result.stderr}"
        assert not result.stderr, f"{shlex.join(argv)}: {result.stderr}"
        return result.stdout

    def read(self, path: str, user: int | None = None) -> str:
        """A file inside."""
        return self.output(["cat", path], user)

    def host_pid(self, pid: int) -> int:
        """The host's number of a process that has this one inside."""
        namespace = os.readlink(f"/proc/{self.pid}/ns/pid")
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (entry / "status").read_text(encoding="utf-8", errors="replace")
                numbers = status.split("\nNSpid:")[1].splitlines()[0].split()
                if int(numbers[-1]) == pid and os.readlink(entry / "ns/pid") == namespace:
                    return int(entry.name)
        raise ProcessLookupError(f"no process {pid} in {self.name}")

    @functools.cached_property
    def cgroup(self) -> Cgroup:
        return Cgroup.of(self.pid)

    def stop(self) -> None:
        """Kill it, and leave nothing of it."""
        self.kill()
        session.remove_directory(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def bind_other_views(self, bound: Sequence[str], trees: Sequence[str] = ()) -> None:
        """Put the files of the mount at /procview that are not ``bound`` over the container's /proc, from outside.

        ``trees`` are folders of it that are not bound either.

        In its cgroup and its mount namespace: which files there are depends on who asks.
        """
        names = " ".join(map(shlex.quote, ["none", *bound]))
        script = f"""
            set -e
            cd {INSIDE}
            for file in $(find proc -type f); do
                for name in {names}; do [ "$name" != "$file" ] || continue 2; done
                mount --bind "$file" "/$file"
            done
            for folder in {shlex.join(trees)}; do mount --bind "$folder" "/$folder"; done
        """
        checked(in_cgroup(self.cgroup, ["nsenter", "-t", str(self.pid), "-m", "--", "sh", "-c", script]))


class Engine(ABC):
    """One way to start containers."""

    name: str

    @abstractmethod
    def version(self) -> str | None:
        """None if it is not installed."""

    @abstractmethod
    def start(
        self,
        rootfs: Rootfs,
        limits: Limits,
        *,
        views: Views,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> Container:
        """Start a container whose init runs until it is stopped.

        ``map_users`` gives it a user namespace, ``block_devices`` are nodes in its /dev (path and device number).
        """
