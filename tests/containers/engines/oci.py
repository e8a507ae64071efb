"""runc and crun: a configuration of our own, without any engine above them."""

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import session
from tests.containers import cgroups
from tests.containers.cgroups import Limits
from tests.containers.engines.base import (
    INSIDE,
    RUNC_ALLOWS,
    SLEEP,
    SUB_ID,
    SUB_IDS,
    TREES,
    WITHOUT_V2,
    Container,
    Engine,
    EngineError,
    Hook,
    Views,
    checked,
    version_line,
    view_binds,
    wait_until_mended,
)
from tests.containers.rootfs import SCRATCH, Rootfs, environment
from tests.timing import patient

_CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]


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
        checked([*self.base, "update", *options, self.name])

    def kill(self) -> None:
        checked([*self.base, "delete", "--force", self.name])


@dataclass(frozen=True)
class OciEngine(Engine):
    name: str
    wrapper: tuple[str, ...] = ()
    allowed_views: frozenset[str] | None = None
    """None: all of them may be mounts of the configuration."""

    def version(self) -> str | None:
        return version_line(self.name, "--version")

    def start(
        self,
        rootfs: Rootfs,
        limits: Limits,
        *,
        views: Views,
        init: Sequence[str] = SLEEP,
        map_users: bool = False,
        block_devices: Sequence[tuple[str, int]] = (),
        first_id: int = SUB_ID,
        more: Sequence[tuple[Path, str]] = (),
        annotations: Mapping[str, str] | None = None,
    ) -> OciContainer:
        """``more`` are further folders of the host, and where each of them is inside."""
        directory = session.new_directory()
        wrapper = self.wrapper if cgroups.layout() == "hybrid" else ()
        base = (*wrapper, self.name, "--root", f"{directory}/state", "--log", f"{directory}/log")
        container = OciContainer(session.new_name(), directory, base)
        at_start = view_binds(views, self.allowed_views)
        first = first_id if map_users else None
        config = _oci_config(container.name, rootfs, limits, views, at_start, init, first, block_devices, more)
        config["annotations"] = dict(annotations or {})
        (directory / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        try:
            with (directory / "output").open("wb") as output:  # of its init too, so it cannot be a pipe to here
                argv = [*base, "run", "--detach", "--bundle", str(directory), container.name]
                status = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=patient(30), check=False
                ).returncode
            if status != 0:
                said = [
                    (directory / name).read_text(encoding="utf-8")
                    for name in ("output", "log")
                    if (directory / name).exists()
                ]
                raise EngineError(f"{shlex.join(argv)}: status {status}\n{''.join(said)}")
            container.pid = json.loads(checked([*base, "state", container.name]))["pid"]
            if isinstance(views, Hook) and self.name == "crun":
                wait_until_mended(container.pid, views)
            if isinstance(views, Path):
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
    views: Views,
    at_start: Sequence[str],
    init: Sequence[str],
    first_id: int | None,
    block_devices: Sequence[tuple[str, int]],
    more: Sequence[tuple[Path, str]],
) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": SCRATCH, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
    ]
    binds = [(str(host), inside, ["rbind", "ro"]) for host, inside in rootfs.binds]
    if isinstance(views, Path):
        binds.append((str(views), INSIDE, ["bind"]))
        binds += [(f"{views}/{file}", f"/{file}", ["bind"]) for file in (*at_start, *TREES)]
    binds += [(str(host), inside, ["bind"]) for host, inside in more]
    mounts += [{"type": "bind", "source": source, "destination": to, "options": opts} for source, to, opts in binds]
    namespaces = ["pid", "mount", "uts", "ipc", "network"]
    linux: dict[str, Any] = {"resources": _oci_resources(limits)}
    if first_id is not None:
        namespaces.append("user")
        mapping = [{"containerID": 0, "hostID": first_id, "size": SUB_IDS}]
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
    hooks = {}
    if isinstance(views, Hook):
        hooks[views.stage] = [{"path": str(views.program), "args": views.argv}]
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
        "hooks": hooks,
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


RUNC = OciEngine("runc", allowed_views=RUNC_ALLOWS)
CRUN = OciEngine("crun", wrapper=WITHOUT_V2)
