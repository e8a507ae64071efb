"""Container engines behind one interface: start a container, run programs in it, change its limits, stop it.

    with RUNC.start(rootfs, Limits(memory_bytes=512 << 20), views=mount) as container:
        container.run(["free", "-b"])

The views are put over the container's /proc as each engine's users would do it; runc allows only some of them as mounts
of its configuration, and the harness adds the others from outside. The whole mount is at /procview inside as well.
"""

import contextlib
import functools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sysconfig
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import session
from tests.containers import cgroups
from tests.containers.cgroups import Cgroup, Limits
from tests.containers.rootfs import SCRATCH, Rootfs, environment

CPU_TREE = "sys/devices/system/cpu"
INSIDE = "/procview"
"""Where the whole mount is inside a container."""
SLEEP = ("sleep", "infinity")
SUB_ID = 100_000
"""The first user id on the host of a container with a user namespace."""

_RUNC_ALLOWS = frozenset(
    f"proc/{name}" for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg")
)
_CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]


class EngineError(Exception):
    """An engine failed; the message has what it said."""


def view_files(mount: Path) -> list[str]:
    """The files below proc/ that a mount shows to us, as paths within the mount."""
    return sorted(str(path.relative_to(mount)) for path in (mount / "proc").rglob("*") if not path.is_dir())


def _checked(argv: Sequence[str | Path], timeout: float = 30) -> str:
    result = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    if result.returncode != 0:
        command = shlex.join(str(word) for word in argv)
        raise EngineError(f"{command}: status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


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
        self, argv: Sequence[str], user: int | None = None, timeout: float = 30
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

    def output(self, argv: Sequence[str], user: int | None = None, timeout: float = 30) -> str:
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

    def bind_other_views(self, bound: Sequence[str]) -> None:
        """Put the files of the mount at /procview that are not ``bound`` over the container's /proc, from outside.

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
        """
        _checked(_in_cgroup(self.cgroup, ["nsenter", "-t", str(self.pid), "-m", "--", "sh", "-c", script]))


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
        views: Path | None,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> Container:
        """Start a container whose init runs until it is stopped.

        ``views`` is a mount of procview, ``map_users`` gives it a user namespace, ``block_devices`` are nodes in its
        /dev (path and device number).
        """


def _version_line(program: str, *arguments: str) -> str | None:
    if shutil.which(program) is None:
        return None
    words = _checked([program, *arguments]).split()
    return next((word for word in words if word[:1].isdecimal()), "(unknown version)")


# --- runc and crun ---------------------------------------------------------------------------------------------------


@dataclass
class OciContainer(Container):
    base: tuple[str, ...]

    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        as_user = [] if user is None else ["--user", f"{user}:{user}"]
        return [*self.base, "exec", *as_user, self.name, *argv]

    def update(self, limits: Limits) -> None:
        options = []
        if limits.memory_bytes is not None:
            options += ["--memory", str(limits.memory_bytes)]
        if limits.swap_bytes is not None and limits.memory_bytes is not None:
            options += ["--memory-swap", str(limits.memory_bytes + limits.swap_bytes)]
        if limits.cpuset is not None:
            options += ["--cpuset-cpus", limits.cpuset]
        if limits.quota_usec is not None:
            options += ["--cpu-period", str(cgroups.PERIOD_USEC), "--cpu-quota", str(limits.quota_usec)]
        _checked([*self.base, "update", *options, self.name])

    def kill(self) -> None:
        _checked([*self.base, "delete", "--force", self.name])


@dataclass(frozen=True)
class OciEngine(Engine):
    name: str
    wrapper: tuple[str, ...] = ()
    allowed_views: frozenset[str] | None = None
    """None: all of them may be mounts of the configuration."""

    def version(self) -> str | None:
        return _version_line(self.name, "--version")

    def start(
        self,
        rootfs: Rootfs,
        limits: Limits,
        *,
        views: Path | None,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> OciContainer:
        directory = session.new_directory()
        wrapper = self.wrapper if cgroups.layout() == "hybrid" else ()
        base = (*wrapper, self.name, "--root", f"{directory}/state", "--log", f"{directory}/log")
        container = OciContainer(session.new_name(), directory, base)
        files = [] if views is None else view_files(views)
        at_start = [file for file in files if self.allowed_views is None or file in self.allowed_views]
        config = _oci_config(container.name, rootfs, limits, views, at_start, init, map_users, block_devices)
        (directory / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        try:
            with (directory / "output").open("wb") as output:  # of its init too, so it cannot be a pipe to here
                argv = [*base, "run", "--detach", "--bundle", str(directory), container.name]
                status = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=30, check=False
                ).returncode
            if status != 0:
                said = [
                    (directory / name).read_text(encoding="utf-8")
                    for name in ("output", "log")
                    if (directory / name).exists()
                ]
                raise EngineError(f"{shlex.join(argv)}: status {status}\n{''.join(said)}")
            container.pid = json.loads(_checked([*base, "state", container.name]))["pid"]
            if views is not None:
                container.bind_other_views(at_start)
        except BaseException:
            with contextlib.suppress(EngineError):
                container.kill()
            session.remove_directory(directory)
            raise
        return container


def _oci_config(
    name: str,
    rootfs: Rootfs,
    limits: Limits,
    views: Path | None,
    at_start: Sequence[str],
    init: Sequence[str],
    map_users: bool,
    block_devices: Sequence[tuple[str, int]],
) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": SCRATCH, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
    ]
    binds = [(str(host), inside, ["rbind", "ro"]) for host, inside in rootfs.binds]
    if views is not None:
        binds.append((str(views), INSIDE, ["bind"]))
        binds += [(f"{views}/{file}", f"/{file}", ["bind"]) for file in (*at_start, CPU_TREE)]
    mounts += [{"type": "bind", "source": source, "destination": to, "options": opts} for source, to, opts in binds]
    namespaces = ["pid", "mount", "uts", "ipc", "network"]
    linux: dict[str, Any] = {"resources": _oci_resources(limits)}
    if map_users:
        namespaces.append("user")
        mapping = [{"containerID": 0, "hostID": SUB_ID, "size": 65_536}]
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    if cgroups.is_pure_v2():
        linux["cgroupsPath"] = f"/{name}"  # our own cgroup holds processes, so it cannot have children there
    linux["namespaces"] = [{"type": kind} for kind in namespaces]
    linux["devices"] = [
        {
            "path": path,
            "type": "b",
            "major": os.major(device),
            "minor": os.minor(device),
            "fileMode": 0o660,
            "uid": 0,
            "gid": 0,
        }
        for path, device in block_devices
    ]
    capabilities = dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES)
    return {
        "ociVersion": "1.0.2",
        "hostname": "test",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(init),
            "env": [f"{key}={value}" for key, value in environment({session.VARIABLE: session.SESSION}).items()],
            "cwd": "/",
            "capabilities": capabilities,
        },
        "root": {"path": str(rootfs.path), "readonly": True},
        "mounts": mounts,
        "linux": linux,
    }


def _oci_resources(limits: Limits) -> dict[str, Any]:
    memory: dict[str, int] = {}
    cpu: dict[str, int | str] = {}
    if limits.memory_bytes is not None:
        memory["limit"] = limits.memory_bytes
        if limits.swap_bytes is not None:
            memory["swap"] = limits.memory_bytes + limits.swap_bytes
    if limits.cpuset is not None:
        cpu["cpus"] = limits.cpuset
    if limits.quota_usec is not None:
        cpu |= {"quota": limits.quota_usec, "period": cgroups.PERIOD_USEC}
    return {"memory": memory, "cpu": cpu, "devices": [{"allow": False, "access": "rwm"}]}


# --- LXC -------------------------------------------------------------------------------------------------------------


@dataclass
class LxcContainer(Container):
    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        as_user = [] if user is None else ["--uid", str(user), "--gid", str(user)]
        variables = [
            word
            for key, value in environment({session.VARIABLE: session.SESSION}).items()
            for word in ("--set-var", f"{key}={value}")
        ]
        return [
            "lxc-attach",
            "-P",
            str(self.directory),
            "-n",
            self.name,
            "--clear-env",
            *variables,
            *as_user,
            "--",
            *argv,
        ]

    def kill(self) -> None:
        _checked(["lxc-stop", "-P", self.directory, "-n", self.name, "--kill"])
        _checked(["lxc-wait", "-P", self.directory, "-n", self.name, "-s", "STOPPED", "-t", "20"])


@dataclass(frozen=True)
class LxcEngine(Engine):
    name: str = "lxc"

    def version(self) -> str | None:
        return _version_line("lxc-start", "--version")

    def start(
        self,
        rootfs: Rootfs,
        limits: Limits,
        *,
        views: Path | None,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> LxcContainer:
        if map_users or block_devices:
            raise NotImplementedError("no test needs them with LXC")
        container = LxcContainer(session.new_name(), session.new_directory())
        home = container.directory / container.name
        home.mkdir()
        lines = [
            f"lxc.uts.name = {container.name}",
            f"lxc.rootfs.path = dir:{rootfs.path}",
            f"lxc.init.cmd = {_lxc_command(home, init)}",
            "lxc.net.0.type = empty",
            "lxc.apparmor.profile = unconfined",
            "lxc.mount.auto = proc:rw sys:ro",
            "lxc.tty.max = 0",
            "lxc.pty.max = 16",
            f"lxc.mount.entry = tmpfs {SCRATCH.lstrip('/')} tmpfs mode=1777 0 0",
            f"lxc.mount.entry = {home} run none bind,ro 0 0",
        ]
        lines += [
            f"lxc.environment = {key}={value}"
            for key, value in environment({session.VARIABLE: session.SESSION}).items()
        ]
        lines += [f"lxc.mount.entry = {host} {inside.lstrip('/')} none rbind,ro 0 0" for host, inside in rootfs.binds]
        kind = "cgroup2" if cgroups.is_pure_v2() else "cgroup"
        lines += [f"lxc.{kind}.{file} = {text}" for _, file, text in cgroups.files_of(limits)]
        if views is not None:
            lines += [
                f"lxc.mount.entry = {views}/{file} {file} none bind 0 0" for file in (*view_files(views), CPU_TREE)
            ]
            lines.append(f"lxc.mount.entry = {views} {INSIDE.lstrip('/')} none bind 0 0")
        (home / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
        try:
            log = container.directory / "log"
            try:
                _checked(["lxc-start", "-P", container.directory, "-n", container.name, "-d", "-o", log, "-l", "INFO"])
            except EngineError as error:
                raise EngineError(f"{error}{log.read_text(encoding='utf-8') if log.exists() else ''}") from None
            container.pid = int(_checked(["lxc-info", "-P", container.directory, "-n", container.name, "-p", "-H"]))
            if views is not None:
                container.bind_other_views(view_files(views))
        except BaseException:
            with contextlib.suppress(EngineError):
                container.kill()
            session.remove_directory(container.directory)
            raise
        return container


def _lxc_command(home: Path, init: Sequence[str]) -> str:
    """LXC splits its init command at spaces and knows no quotes: a script says it instead."""
    (home / "init").write_text(f"exec {shlex.join(init)}\n", encoding="utf-8")
    return "/bin/sh /run/init"


# --- unshare ---------------------------------------------------------------------------------------------------------


@dataclass
class UnshareContainer(Container):
    process: subprocess.Popen[bytes]
    own_cgroup: Cgroup

    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "--"]
        variables = [f"{key}={value}" for key, value in _unshare_environment().items()]
        as_user = (
            [] if user is None else ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "--"]
        )
        return _in_cgroup(self.own_cgroup, [*enter, *as_user, "env", "--ignore-environment", *variables, *argv])

    def kill(self) -> None:
        # Its init, and with that the kernel ends every process of the pid namespace; unshare has only waited for it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self.process.pid, signal.SIGKILL)
        self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.own_cgroup.remove()


@dataclass(frozen=True)
class UnshareEngine(Engine):
    """No engine at all: namespaces and a cgroup around the host's own root file system."""

    name: str = "unshare"

    def version(self) -> str | None:
        return _version_line("unshare", "--version")

    def start(
        self,
        rootfs: Rootfs,  # noqa: ARG002
        limits: Limits,
        *,
        views: Path | None,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> UnshareContainer:
        if map_users or block_devices:
            raise NotImplementedError("no test needs them with unshare")
        name = session.new_name()
        cgroup = Cgroup.create(name)
        directory = session.new_directory()
        # The mounts are made before the pid namespace's first process says that it is ready.
        steps = ["set -e"]
        if views is not None:
            steps += [
                f"cd {shlex.quote(str(views))}",
                f'for file in $(find proc -type f) {CPU_TREE}; do mount --bind "$PWD/$file" "/$file"; done',
                "cd /",
            ]
        steps += ["echo ready", "exec >/dev/null", f"exec {shlex.join(init)}"]
        script = "\n".join(steps)
        unshare = [
            "unshare",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
        ]
        with (directory / "errors").open("w+b") as errors:
            try:
                cgroup.apply(limits)
                process = subprocess.Popen(
                    _in_cgroup(cgroup, unshare),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=_unshare_environment(),
                )
            except BaseException:
                cgroup.remove()
                session.remove_directory(directory)
                raise
            container = UnshareContainer(name, directory, process, cgroup)
            try:
                assert process.stdout is not None
                if process.stdout.readline() != b"ready\n":
                    errors.seek(0)
                    raise EngineError(errors.read().decode(errors="replace"))
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
                container.pid = int(children[0])
            except BaseException:
                container.stop()
                raise
        return container


def _unshare_environment() -> dict[str, str]:
    return environment({session.VARIABLE: session.SESSION, "PYTHONPATH": sysconfig.get_path("platlib")})


def _in_cgroup(cgroup: Cgroup, argv: Sequence[str]) -> list[str]:
    """The command that enters a cgroup and then becomes ``argv``."""
    entries = "; ".join(f"echo $$ > {shlex.quote(file)}" for file in cgroup.entry_files())
    return ["sh", "-c", f'set -e; {entries}; exec "$@"', "sh", *argv]


# crun refuses hosts with v1 controllers beside a v2 tree: it gets a mount namespace without the v2 tree.
_WITHOUT_V2 = (
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    'umount /sys/fs/cgroup/unified; exec "$@"',
    "sh",
)

RUNC = OciEngine("runc", allowed_views=_RUNC_ALLOWS)
CRUN = OciEngine("crun", wrapper=_WITHOUT_V2)
LXC = LxcEngine()
UNSHARE = UnshareEngine()
ALL: tuple[Engine, ...] = (RUNC, CRUN, LXC, UNSHARE)
USER_MAPPING: tuple[Engine, ...] = (RUNC, CRUN)
"""Those that can start a container with a user namespace here."""


def wait_until_gone(pid: int, seconds: float = 10) -> None:
    """Wait for the end of a process that is not our child."""
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} is still there")
        time.sleep(0.01)
