"""Docker without a service: a dockerd for each container, with all its state on a tmpfs that nobody else sees.

Its packages are unpacked into .cache/docker and not installed, since they would start a service (./dev test does it).
It gets no network, no rules of a firewall and no forwarding, and /etc and /run of its own. Docker has no hooks: the
runtime that is shipped for it, which wraps runc, puts ours in.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from procview.shipped import packaging_file
from tests import session
from tests.containers import cgroups
from tests.containers.cgroups import Limits
from tests.containers.engines.accounts import Accounts
from tests.containers.engines.base import (
    RUNC_ALLOWS,
    SLEEP,
    SUB_ID,
    SUB_IDS,
    Container,
    Engine,
    EngineError,
    Hook,
    Views,
    checked,
    version_line,
    view_binds,
)
from tests.containers.engines.command_line import IMAGE, as_user, resource_options, run_options, write_image
from tests.containers.rootfs import Rootfs
from tests.timing import patient

_CHECKOUT = Path(__file__).parents[3]
_UNPACKED = Path(os.environ.get("PROCVIEW_DOCKER_ROOT", _CHECKOUT / ".cache/docker"))
_PATH = f"{_UNPACKED}/usr/bin:{_UNPACKED}/usr/sbin:{os.environ.get('PATH', '')}"
_SECONDS = patient(30)


@dataclass
class DockerContainer(Container):
    daemon: subprocess.Popen[bytes]
    docker: list[str]
    """The client with its options."""
    parent: str
    """The name of the cgroup above its own."""

    def command(self, argv: Sequence[str], user: int | None = None) -> list[str]:
        return [*self.docker, "exec", *as_user(user), self.name, *argv]

    def update(self, limits: Limits) -> None:
        checked([*self.docker, "update", *resource_options(limits), self.name])

    def kill(self) -> None:
        with contextlib.suppress(EngineError):  # it may never have come so far
            checked([*self.docker, "rm", "--force", self.name])
        self.daemon.terminate()  # it ends its containerd, and what runs in there, itself
        try:
            self.daemon.wait(patient(20))
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
            raise
        cgroups.remove_trees(self.parent)


@dataclass(frozen=True)
class DockerEngine(Engine):
    name: str = "docker"

    def version(self) -> str | None:
        program = shutil.which("dockerd", path=_PATH)
        return None if program is None else version_line(program, "--version")

    def start(
        self,
        rootfs: Rootfs,
        limits: Limits,
        *,
        views: Views,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
    ) -> DockerContainer:
        if block_devices:
            raise NotImplementedError("no test needs them with Docker")
        directory = session.new_directory()
        parent = session.new_name()
        try:
            daemon = _start_daemon(directory, parent, views, map_users)
        except BaseException:
            session.remove_directory(directory)
            raise
        docker = [
            "env",
            f"PATH={_PATH}",
            f"DOCKER_CONFIG={directory}/client",
            "docker",
            "-H",
            f"unix://{directory}/socket",
        ]
        container = DockerContainer(session.new_name(), directory, daemon, docker, parent)
        try:
            _wait_for(daemon, docker, directory / "log")
            image = directory / "image.tar"
            write_image(rootfs, image)
            checked([*docker, "import", image, IMAGE])
            options = [*run_options(container.name, rootfs, views), *resource_options(limits)]
            if isinstance(views, Hook):
                options += ["--runtime", "procview"]
            checked([*docker, "run", *options, IMAGE, *init])
            container.pid = int(checked([*docker, "inspect", "--format", "{{.State.Pid}}", container.name]))
            if isinstance(views, Path):
                container.bind_other_views(view_binds(views, RUNC_ALLOWS))
        except BaseException:
            container.stop()
            raise
        return container


def _start_daemon(directory: Path, parent: str, views: Views, map_users: bool) -> subprocess.Popen[bytes]:
    accounts = Accounts(directory / "etc", "dockremap", SUB_ID, SUB_IDS)
    accounts.make()
    configuration: dict[str, object] = {}
    if isinstance(views, Hook):
        configuration["runtimes"] = {"procview": _runtime(directory / "runtime", views)}
    (directory / "daemon.json").write_text(json.dumps(configuration), encoding="utf-8")
    prefix = accounts.command("mount -t tmpfs -o mode=755 tmpfs /etc/docker", "mount -t tmpfs -o mode=755 tmpfs /run")
    dockerd = ["dockerd", "--config-file", f"{directory}/daemon.json", "-H", f"unix://{directory}/socket"]
    dockerd += ["--data-root", "/run/docker-data", "--storage-driver", "overlay2", "--cgroup-parent", f"/{parent}"]
    dockerd += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--oom-score-adjust=0"]
    dockerd += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"]
    if map_users:
        dockerd.append("--userns-remap=default")
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            [*prefix, *dockerd], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"PATH": _PATH}
        )


def _runtime(directory: Path, hook: Hook) -> dict[str, object]:
    """The wrapper that is shipped, with the hook beside it, where it looks for it."""
    directory.mkdir()
    wrapper = directory / "procview-runc"
    shutil.copyfile(packaging_file("docker/procview-runc"), wrapper)
    wrapper.chmod(0o755)
    shutil.copy(hook.program, directory / "procview-hook")
    return {"path": str(wrapper), "runtimeArgs": [f"--procview-run-directory={hook.run_directory}"]}


def _wait_for(daemon: subprocess.Popen[bytes], docker: Sequence[str], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            checked([*docker, "version"])
        except EngineError as error:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise EngineError(f"{error}{log.read_text(encoding='utf-8')}") from None
        else:
            return
        time.sleep(0.05)


DOCKER = DockerEngine()
