"""The daemon opens no file that the kernel guards like ptrace(2).

With kernel.yama.ptrace_scope at 3 each such open fails, whoever asks (lxcfs reads /proc/PID/personality, and serves
nothing then). The sysctl cannot be lowered again before the next boot, so a test must not set it: strace watches.
"""

import re
import shutil
from pathlib import Path

import pytest

from tests import session
from tests.containers import engines
from tests.containers.cgroups import Limits
from tests.containers.conftest import MEMORY_BYTES, usable
from tests.containers.engines import Engine
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon
from tests.timing import unhurried_settings

# Those for which fs/proc asks for PTRACE_MODE_ATTACH; Yama lets PTRACE_MODE_READ (root, ns, maps) alone.
_GUARDED = re.compile(r"/(mem|personality|stack|syscall|timerslack_ns)\b")


def test_no_ptrace_guarded_file_is_opened(rootfs: Rootfs) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with session.temporary_directory() as directory:
        lines = _trace_of_reading_everything(usable(engines.RUNC), rootfs, directory)
    opened = [line for line in lines if "/proc" in line and "open" in line]
    assert any("/cgroup" in line for line in opened), "the trace has the opens of the hot path"
    wrong = [line for line in lines if re.search(r"\b(ptrace|pidfd_getfd|process_vm_readv)\(", line)]
    wrong += [line for line in opened if re.search(r"/proc/\d+|\"\d+/", line) and _GUARDED.search(line)]
    assert not wrong, "\n".join(wrong[:10])


def _trace_of_reading_everything(engine: Engine, rootfs: Rootfs, directory: Path) -> list[str]:
    trace = directory / "trace"
    calls = "open,openat,openat2,pidfd_getfd,ptrace,process_vm_readv"
    # -D makes the daemon our child and not strace's, -y shows the folder of an openat.
    daemon = Daemon.start(
        directory,
        unhurried_settings(),
        tracer=["strace", "-D", "-f", "-y", "-qq", "-e", f"trace={calls}", "-o", str(trace)],
    )
    try:
        limits = Limits(memory_bytes=MEMORY_BYTES, cpus=1.0)
        for map_users in (False, True):
            with engine.start(rootfs, limits, views=daemon.mount, map_users=map_users) as container:
                # Not output(): some files of sysfs fail on the host as well.
                container.run(["sh", "-c", "cd /procview && find . -type f -exec cat {} + >/tmp/everything"])
                assert container.output(["grep", "-c", "^MemTotal", "/tmp/everything"]) == "1\n"
    finally:
        daemon.stop()
    return trace.read_text(encoding="utf-8", errors="replace").splitlines()
