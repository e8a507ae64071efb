"""A lane that cannot be: the daemon says why, and pyfuse3 serves alone."""

import os
import shutil

import pytest

from tests import lane, session
from tests.containers.served import Daemon
from tests.daemon.process import needs_mount

pytestmark = needs_mount


@pytest.mark.parametrize(
    ("call", "why"),
    [("mount", "Operation not permitted"), ("openat", "/dev/fuse")],
    ids=["mounting", "opening"],
)
def test_without_a_lane_pyfuse3_serves(call: str, why: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with session.temporary_directory() as directory:
        # The lane is the first to mount, where there are no slots, and the first to open the device.
        which = ["-P", "/dev/fuse"] if call == "openat" else []
        tracer = ["strace", "-D", "-f", "-qq", "-o", os.devnull, *which, "-e", f"trace={call}"]
        tracer += ["-e", f"inject={call}:error=EPERM:when=1"]
        daemon = Daemon.start(directory, "slots = false", tracer=tracer, lane=lane.DEV)
        try:
            assert "no fast lane: " in daemon.said()
            assert why in daemon.said()
            assert (daemon.mount / "proc/meminfo").read_text(encoding="ascii").startswith("MemTotal:")
            assert "lane_answered" not in daemon.counters()
        finally:
            daemon.stop()
