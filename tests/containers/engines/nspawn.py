"""systemd-nspawn without systemd: it registers nowhere and makes its container below the cgroup that it is put into."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import session
from tests.containers import cgroups
from tests.containers.cgroups import Cgroup, Limits
from tests.containers.engines.base import (
    INSIDE,
    SLEEP,
    SUB_ID,
    SUB_IDS,
    TREES,
    Container,
    Engine,
    EngineError,
    Hook,
    Views,
    in_cgroup,
    version_line,
)
from tests.containers.rootfs import SCRATCH, Rootfs, environment
from tests.timing import patient

_PROPAGATED = Path("/run/systemd/nspawn/propagate")
"""Where nspawn keeps a folder for each container; it leaves it behind where systemd's own folders are on a disk."""
_NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net")


@dataclass
class NspawnContainer(Container):
    process: subprocess.Popen[bytes]
    above: Cgroup
    """Which it was put into, and has the limits; its own is below."""
    mapped: bool

    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        enter = ["nsenter", "--target", str(self.pid), *_NAMESPACES, "--root", "--wd"]
        enter += ["--user", "--setuid", str(user or 0), "--setgid", str(user or 0)] if self.mapped else []
        variables = [f"{key}={value}" for key, value in _environment().items()]
        become = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "--"]
        as_user = become if user is not None and not self.mapped else []
        return in_cgroup(self.cgroup, [*enter, "--", *as_user, "env", "--ignore-environment", *variables, *argv])

    def update(self, limits: Limits) -> None:
        self.above.apply(limits)

    def kill(self) -> None:
        # Its init, and nspawn ends after it; only one that never came so far is ended itself.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self.process.pid, signal.SIGKILL)
        self.process.wait(patient(20))
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(_PROPAGATED / self.name, ignore_errors=True)
        cgroups.remove_trees(self.name)  # in the hierarchies where nspawn has made some itself
        self.above.remove()


@dataclass(frozen=True)
class NspawnEngine(Engine):
    name: str = "nspawn"

    def version(self) -> str | None:
        return version_line("systemd-nspawn", "--version")

    def start(
        self,
        rootfs: Rootfs,
        limits: Limits,
        *,
        views: Views,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> NspawnContainer:
        if isinstance(views, Hook) or block_devices:
            raise NotImplementedError("nspawn calls no hooks; and no test needs devices with it")
        name = session.new_name()
        directory = session.new_directory()
        argv = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--machine", name, "--console=pipe"]
        # Read-only, so that several containers may have the same root.
        argv += ["--directory", str(rootfs.path), "--read-only", f"--tmpfs={SCRATCH}:mode=1777", "--private-network"]
        argv += ["--resolv-conf=off", "--timezone=off"]
        argv += [f"--private-users={SUB_ID}:{SUB_IDS}", "--private-users-ownership=off"] if map_users else []
        argv += [f"--setenv={key}={value}" for key, value in _environment().items()]
        argv += [f"--bind-ro={host}:{inside}" for host, inside in rootfs.binds]
        if isinstance(views, Path):  # below /proc and /sys it binds only what it finds inside: that is done afterwards
            argv.append(f"--bind-ro={views}:{INSIDE}")
        # Its init waits until everything is mounted.
        argv += ["--", "sh", "-c", 'echo ready; read -r _; exec "$@" </dev/null >/dev/null', "sh", *init]
        above = Cgroup.create(name)
        with (directory / "errors").open("w+b") as errors:
            try:
                above.apply(limits)
                process = subprocess.Popen(
                    in_cgroup(above, argv),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=os.environ | {session.VARIABLE: session.SESSION},
                )
            except BaseException:
                above.remove()
                session.remove_directory(directory)
                raise
            container = NspawnContainer(name, directory, process, above, map_users)
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                if process.stdout.readline() != b"ready\n":
                    errors.seek(0)
                    raise EngineError(errors.read().decode(errors="replace"))
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
                container.pid = int(children[0])
                if isinstance(views, Path):
                    container.bind_other_views((), TREES)
                process.stdin.close()
            except BaseException:
                container.stop()
                raise
        return container


def _environment() -> dict[str, str]:
    return environment({session.VARIABLE: session.SESSION})


NSPAWN = NspawnEngine()
