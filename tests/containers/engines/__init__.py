"""Container engines behind one interface: start a container, run programs in it, change its limits, stop it.

    with RUNC.start(rootfs, Limits(memory_bytes=512 << 20), views=mount) as container:
        container.run(["free", "-b"])

``views`` says how they come over the container's /proc. A mount of procview: as mounts of the configuration, the way an
engine's users would write them; runc allows only some of them, and the harness adds the others from outside; the whole
mount is at /procview inside as well. A Hook: by that. None: not at all; a test may attach them later.
"""

import time
from pathlib import Path

from tests.containers.engines.base import (
    CPU_TREE,
    INSIDE,
    SLEEP,
    SUB_ID,
    Container,
    Engine,
    EngineError,
    Hook,
    Views,
    view_files,
)
from tests.containers.engines.docker import DOCKER
from tests.containers.engines.lxc import LXC
from tests.containers.engines.nspawn import NSPAWN
from tests.containers.engines.oci import CRUN, RUNC
from tests.containers.engines.podman import PODMAN, PODMAN_CRUN, PODMAN_ROOTLESS, PODMAN_ROOTLESS_CRUN
from tests.containers.engines.unshare import UNSHARE
from tests.timing import patient

__all__ = [
    "ALL",
    "CPU_TREE",
    "CRUN",
    "DOCKER",
    "INSIDE",
    "LXC",
    "MANAGERS",
    "NSPAWN",
    "PODMAN",
    "PODMAN_CRUN",
    "PODMAN_ROOTLESS",
    "PODMAN_ROOTLESS_CRUN",
    "RUNC",
    "SLEEP",
    "SUB_ID",
    "UNSHARE",
    "USER_MAPPING",
    "Container",
    "Engine",
    "EngineError",
    "Hook",
    "Views",
    "view_files",
    "wait_until_gone",
]

ALL: tuple[Engine, ...] = (RUNC, CRUN, LXC, NSPAWN, UNSHARE)
"""Those that most tests run with: fast, and all of them different below."""
MANAGERS: tuple[Engine, ...] = (PODMAN, PODMAN_CRUN, PODMAN_ROOTLESS, PODMAN_ROOTLESS_CRUN, DOCKER)
"""Those that have runc or crun below: what they add is how the views get in, so test_matrix.py has them."""
USER_MAPPING: tuple[Engine, ...] = (RUNC, CRUN)
"""Those of ALL that can start a container with a user namespace here."""


def wait_until_gone(pid: int, seconds: float = patient(10)) -> None:
    """Wait for the end of a process that is not our child."""
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} is still there")
        time.sleep(0.01)
