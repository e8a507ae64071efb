"""What podman and docker take alike: an image of the test's root file system, and the options of ``run``."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests import session
from tests.containers.cgroups import PERIOD_USEC, Limits
from tests.containers.engines.base import INSIDE, RUNC_ALLOWS, TREES, Views, view_binds
from tests.containers.rootfs import SCRATCH, Rootfs, environment

IMAGE = "procview-test:1"


def write_image(rootfs: Rootfs, file: Path) -> None:
    """The almost empty root as a tar archive; the machine's programs are mounted into it by ``run_options``."""
    with tarfile.open(file, "w") as archive:
        archive.add(rootfs.path, arcname=".")
    file.chmod(0o644)


def resource_options(limits: Limits) -> list[str]:
    options = []
    if limits.memory_bytes is not None:
        options += ["--memory", str(limits.memory_bytes)]
    if limits.swap_bytes is not None and limits.memory_bytes is not None:
        options += ["--memory-swap", str(limits.memory_bytes + limits.swap_bytes)]
    if limits.cpuset is not None:
        options += ["--cpuset-cpus", limits.cpuset]
    if limits.quota_usec is not None:
        options += ["--cpu-period", str(PERIOD_USEC), "--cpu-quota", str(limits.quota_usec)]
    return options


def run_options(name: str, rootfs: Rootfs, views: Views, allowed: frozenset[str] | None = RUNC_ALLOWS) -> list[str]:
    """Of ``run``, without limits: no network, no log, our programs and, if they are mounts, the views."""
    options = ["--detach", "--name", name, "--network", "none", "--log-driver", "none"]
    options += ["--tmpfs", f"{SCRATCH}:mode=1777"]
    variables = environment({session.VARIABLE: session.SESSION})
    options += [word for key, value in variables.items() for word in ("--env", f"{key}={value}")]
    volumes = [f"{host}:{inside}:ro" for host, inside in rootfs.binds]
    if isinstance(views, Path):
        volumes.append(f"{views}:{INSIDE}:ro")
        volumes += [f"{views}/{file}:/{file}:ro" for file in (*view_binds(views, allowed), *TREES)]
    return options + [word for volume in volumes for word in ("--volume", volume)]


def as_user(user: int | None) -> Sequence[str]:
    return () if user is None else ("--user", f"{user}:{user}")
