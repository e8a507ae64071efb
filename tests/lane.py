"""How the daemons of this run answer: by the fast lane on /dev/fuse, by the lane on rings of io_uring (``pytest
--transport uring``), or by pyfuse3 alone (``--no-lane``).
"""

import contextlib
import os
import platform
from collections.abc import Iterator

import pytest

from procview.fs.transport import SWITCH

VARIABLE = "PROCVIEW_TEST_LANE"
"""How child processes, and guests, are told."""
DEV, RING, NONE = "dev", "uring", "none"
MODES = (DEV, RING, NONE)


def wanted() -> str:
    return os.environ.get(VARIABLE, DEV)


def options(mode: str | None = None) -> list[str]:
    """For ``procview serve``; ``mode`` for a test that is about one of them."""
    mode = wanted() if mode is None else mode
    return ["--no-lane"] if mode == NONE else ["--lane", "--transport", mode]


WHY_NOT_CONTINUED = "no connection outlives its daemon with rings, without a lane, or before Linux 6.9"


def continues() -> bool:
    """Whether the next daemon goes on with the connection of one that was killed."""
    major, minor = (int(word) for word in platform.release().split(".")[:2])
    return wanted() == DEV and (major, minor) >= (6, 9)


@contextlib.contextmanager
def rings_offered() -> Iterator[None]:
    """Have the kernel offer rings to what is mounted meanwhile; skips where it cannot."""
    if not SWITCH.exists():
        pytest.skip("this kernel has no FUSE over io_uring (Linux 6.14 and later may)")
    before = SWITCH.read_text(encoding="ascii")
    try:
        SWITCH.write_text("Y", encoding="ascii")
    except OSError as error:
        pytest.skip(f"fuse.enable_uring cannot be switched here: {error.strerror}")
    try:
        yield
    finally:
        SWITCH.write_text(before, encoding="ascii")


@contextlib.contextmanager
def offered_to(mode: str) -> Iterator[None]:
    """What a daemon that serves by ``mode`` needs of the kernel."""
    with rings_offered() if mode == RING else contextlib.nullcontext():
        yield
