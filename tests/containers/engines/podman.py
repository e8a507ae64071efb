"""podman, of root and of a user of its own, over runc and over crun; each container has a storage of its own.

Everything podman keeps is in the container's directory (``lock_type`` "file": else it leaves a file in /dev/shm), and
its cgroups are below one that is removed. A rootless podman cannot set limits on cgroup v1: it is put into a cgroup
that has them.
"""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import session
from tests.containers import cgroups
from tests.containers.cgroups import Cgroup, Limits
from tests.containers.engines.accounts import ENGINE_UID, Accounts
from tests.containers.engines.base import (
    RUNC_ALLOWS,
    SLEEP,
    SUB_ID,
    SUB_IDS,
    WITHOUT_V2,
    Container,
    Engine,
    EngineError,
    Hook,
    Views,
    checked,
    in_cgroup,
    version_line,
    view_binds,
    wait_until_mended,
)
from tests.containers.engines.command_line import IMAGE, as_user, resource_options, run_options, write_image
from tests.containers.rootfs import Rootfs
from tests.timing import patient

_ROOTLESS_SUB_ID = 300_000
_CONFIGURATION = """
[containers]
[engine]
lock_type = "file"
events_logger = "none"
cgroup_manager = "cgroupfs"
"""
_CACHE = [Path("/var/lib/containers/cache/blob-info-cache-v1.boltdb")]
_CACHE += list(_CACHE[0].parents)[:2]
# This machine's root may not raise its own limits, and podman's defaults are higher.
ULIMITS = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096")


@dataclass
class PodmanContainer(Container):
    podman: list[str]
    """podman with its options, as the right user."""
    parent: str
    """The name of the cgroup above its cgroups."""
    own_cgroup: Cgroup | None
    """Of a rootless one: where it is, and podman with it."""

    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        return [*self.podman, "exec", *as_user(user), self.name, *argv]

    def kill(self) -> None:
        # Each step also when one before it has failed: what is left of one container fails the whole run.
        with contextlib.ExitStack() as stack:
            stack.callback(cgroups.remove_trees, self.parent)
            stack.callback(_wait_for_cleanup, self.directory)
            if self.own_cgroup is not None:
                stack.callback(_end_all_in, self.own_cgroup)
            self._remove()

    def _remove(self) -> None:
        """podman 4.3 was seen, once, to find the container's /dev/shm busy, which it unmounts before. What it could
        not remove goes with the directory, as soon as nothing is mounted there.
        """
        deadline = time.monotonic() + patient(10)
        while True:
            try:
                checked([*self.podman, "rm", "--force", "--ignore", "--time", "0", self.name])
            except EngineError as error:
                if "device or resource busy" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


@dataclass(frozen=True)
class PodmanEngine(Engine):
    name: str
    runtime: str = "runc"
    rootless: bool = False

    def version(self) -> str | None:
        if self.rootless and shutil.which("newuidmap") is None:
            return None
        if version_line(self.runtime, "--version") is None:
            return None
        return version_line("podman", "--version")

    def start(
        self,
        rootfs: Rootfs,
        limits: Limits,
        *,
        views: Views,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> PodmanContainer:
        if block_devices:
            raise NotImplementedError("no test needs them with podman")
        directory = session.new_directory()
        name = session.new_name()
        own_cgroup = None
        if self.rootless:
            own_cgroup = Cgroup.create(session.new_name())
            own_cgroup.apply(limits)
        podman = self._podman(directory, own_cgroup)
        container = PodmanContainer(name, directory, podman, session.new_name(), own_cgroup)
        try:
            image = directory / "image.tar"
            write_image(rootfs, image)
            with _cache_removed():
                checked([*podman, "import", "--quiet", str(image), IMAGE])
            if isinstance(views, Hook):
                podman = [*podman, "--hooks-dir", str(_write_hook(directory / "hooks.d", views))]
            allowed = RUNC_ALLOWS if self.runtime == "runc" else None
            options = [*ULIMITS, *run_options(name, rootfs, views, allowed)]
            if not self.rootless:
                options += ["--cgroup-parent", f"/{container.parent}", *resource_options(limits)]
            if map_users:  # of a rootless container, within the user's own ids
                first = 1 if self.rootless else SUB_ID
                options += [f"--{kind}map=0:{first}:{SUB_IDS // 2}" for kind in ("uid", "gid")]
            checked([*podman, "run", *options, IMAGE, *init])
            inspected = checked([*podman, "inspect", "--format", "{{.State.Pid}}", name])
            container.pid = int(inspected)
            if isinstance(views, Hook) and self.runtime == "crun":
                wait_until_mended(container.pid, views)
            if isinstance(views, Path):
                container.bind_other_views(view_binds(views, allowed))
        except BaseException:
            with contextlib.suppress(EngineError):
                container.kill()
            session.remove_directory(directory)
            raise
        return container

    def _podman(self, directory: Path, own_cgroup: Cgroup | None) -> list[str]:
        (directory / "containers.conf").write_text(_CONFIGURATION, encoding="ascii")
        podman = ["podman", "--storage-driver", "vfs", "--runtime", self.runtime, "--log-level", "error"]
        podman += ["--root", f"{directory}/storage", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp"]
        variables = {"CONTAINERS_CONF": f"{directory}/containers.conf", session.VARIABLE: session.SESSION}
        without_v2 = self.runtime == "crun" and cgroups.layout() == "hybrid"
        if own_cgroup is None:
            wrapper = WITHOUT_V2 if without_v2 else ()
            return [*wrapper, "env", *(f"{key}={value}" for key, value in variables.items()), *podman]
        for name in ("storage", "run", "tmp", "home"):
            (directory / name).mkdir(mode=0o711)
            os.chown(directory / name, ENGINE_UID, ENGINE_UID)
        variables |= {"HOME": f"{directory}/home", "XDG_RUNTIME_DIR": f"{directory}/run", "PATH": os.environ["PATH"]}
        accounts = Accounts(directory / "etc", "procview-test", _ROOTLESS_SUB_ID, SUB_IDS)
        accounts.make()
        as_that_user = ["setpriv", f"--reuid={ENGINE_UID}", f"--regid={ENGINE_UID}", "--clear-groups"]
        environment = ["env", "--ignore-environment", f"--chdir={directory}"]
        environment += [f"{key}={value}" for key, value in variables.items()]
        steps = ["umount /sys/fs/cgroup/unified"] if without_v2 else []
        return in_cgroup(own_cgroup, [*accounts.command(*steps), *as_that_user, *environment, *podman])


@contextlib.contextmanager
def _cache_removed() -> Iterator[None]:
    """Root's podman keeps a cache of images in one place, wherever its storage is. Where there was none, none stays."""
    missing = [path for path in _CACHE if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with contextlib.suppress(FileNotFoundError):
                path.rmdir() if path.is_dir() else path.unlink()


def _end_all_in(cgroup: Cgroup) -> None:
    """What is left is podman's own process that holds the user namespace, until the next boot."""
    for pid in cgroup.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cgroup.remove()


def _wait_for_cleanup(directory: Path) -> None:
    """A container's monitor calls podman once more when the container has ended, and that writes into the storage."""
    deadline = time.monotonic() + patient(10)
    while any(os.fsencode(directory) in command for command in _command_lines()) or any(
        mount.point.is_relative_to(directory) for mount in session.mounts()
    ):
        if time.monotonic() > deadline:
            raise EngineError(f"a process of podman in {directory} does not end, or a mount does not go")
        time.sleep(0.01)


def _command_lines() -> Iterator[bytes]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (entry / "cmdline").read_bytes()


def _write_hook(directory: Path, hook: Hook) -> Path:
    directory.mkdir()
    description = {
        "version": "1.0.0",
        "hook": {"path": str(hook.program), "args": hook.argv},
        "when": {"always": True},
        "stages": [hook.stage],
    }
    (directory / "procview.json").write_text(json.dumps(description), encoding="utf-8")
    return directory


PODMAN = PodmanEngine("podman")
PODMAN_CRUN = PodmanEngine("podman-crun", runtime="crun")
PODMAN_ROOTLESS = PodmanEngine("podman-rootless", rootless=True)
PODMAN_ROOTLESS_CRUN = PodmanEngine("podman-rootless-crun", runtime="crun", rootless=True)
