"""No engine at all: namespaces and a cgroup around the host's own root file system, by unshare(1)."""

import contextlib
import os
import shlex
import signal
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import session
from tests.containers.cgroups import Cgroup, Limits
from tests.containers.engines.base import (
    SLEEP,
    TREES,
    Container,
    Engine,
    EngineError,
    Hook,
    Views,
    checked,
    in_cgroup,
    version_line,
)
from tests.containers.rootfs import Rootfs, environment
from tests.timing import patient


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
        return in_cgroup(self.own_cgroup, [*enter, *as_user, "env", "--ignore-environment", *variables, *argv])

    def kill(self) -> None:
        # Its init, and with that the kernel ends every process of the pid namespace; unshare has only waited for it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self.process.pid, signal.SIGKILL)
        self.process.wait(patient(20))
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.own_cgroup.remove()


@dataclass(frozen=True)
class UnshareEngine(Engine):
    """No engine at all: namespaces and a cgroup around the host's own root file system."""

    name: str = "unshare"

    def version(self) -> str | None:
        return version_line("unshare", "--version")

    def start(
        self,
        rootfs: Rootfs,  # noqa: ARG002
        limits: Limits,
        *,
        views: Views,
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
        if isinstance(views, Path):
            steps += [
                f"cd {shlex.quote(str(views))}",
                f'for file in $(find proc -type f) {" ".join(TREES)}; do mount --bind "$PWD/$file" "/$file"; done',
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
                    in_cgroup(cgroup, unshare),
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
                if isinstance(views, Hook):  # there is no engine that would call it
                    checked([views.program, *views.options, "--attach", str(container.pid)])
            except BaseException:
                container.stop()
                raise
        return container


def _unshare_environment() -> dict[str, str]:
    return environment({session.VARIABLE: session.SESSION, "PYTHONPATH": sysconfig.get_path("platlib")})


UNSHARE = UnshareEngine()
