"""Folders of the host in a guest: one virtiofsd for each, which sees nothing else of the host."""

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.session import mounts

_PLACES = ("/usr/libexec", "/usr/lib/qemu")
"""Where distributions have virtiofsd: a package of its own, or part of QEMU until version 7."""
_SECONDS = 10.0
_WITHOUT_VIEWS = r"""
sed -n 's/^\([^ ]* \)\{4\}\([^ ]*\) .* - fuse\.procview .*/\2/p' /proc/self/mountinfo | tac |
while read -r at; do umount -lci "$at" || :; done
"""
"""The mounts of tests that run meanwhile would live on in a namespace of ours; no daemon is asked anything (-c)."""
WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""A prefix: the program does not outlive the one that started it, however that ends."""


@dataclass(frozen=True)
class Folder:
    """A folder that is being served."""

    tag: str
    """What a guest mounts it by."""
    socket: Path


@contextlib.contextmanager
def shared_root(directory: Path, needed: Sequence[Path]) -> Iterator[Folder]:
    """The host's root, read-only, with what is mounted below it only where a ``needed`` path is."""
    points = sorted({_mount_point(path.resolve()) for path in needed} - {Path("/")})
    with other_root(directory, Path("/"), {point: point for point in points}) as folder:
        yield folder


@contextlib.contextmanager
def other_root(directory: Path, root: Path, binds: Mapping[Path, Path]) -> Iterator[Folder]:
    """The tree below ``root``, read-only, with folders of the host (values) at places in it (keys), which exist."""
    # Nothing changes there while the guest runs, as far as it is concerned: it may keep what it has seen.
    with _served("root", root, binds, directory, "cache=always", "remount,bind,ro") as folder:
        yield folder


@contextlib.contextmanager
def shared_folder(directory: Path, path: Path) -> Iterator[Folder]:
    """A folder that the guest may write to."""
    with _served("shared", path, {}, directory, "cache=auto", "remount,bind") as folder:
        yield folder


@contextlib.contextmanager
def _served(
    tag: str, source: Path, binds: Mapping[Path, Path], directory: Path, cache: str, options: str
) -> Iterator[Folder]:
    """Serve ``source``, bound to a place of its own where the host does not see it, until the context is left."""
    seen, socket, log = (directory / f"{tag}{suffix}" for suffix in ("", ".socket", ".log"))
    seen.mkdir()
    steps = ["set -e", _WITHOUT_VIEWS]
    for place, path in {Path("/"): source, **binds}.items():
        bound = shlex.quote(str(seen / place.relative_to("/")))
        steps += [f"mount --bind {shlex.quote(str(path))} {bound}", f"mount -o {options} {bound}"]
    # These options are understood by the old virtiofsd in C as by the new one in Rust.
    served = ["-f", f"--socket-path={socket}", "-o", f"source={seen}", "-o", cache, "-o", "sandbox=chroot"]
    steps.append(f"exec {shlex.join([_virtiofsd(), *served])}")
    argv = [*WITH_US, "unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(steps)]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + _SECONDS
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"virtiofsd does not serve {source}:\n{said}")
            time.sleep(0.01)
        yield Folder(tag, socket)
    finally:
        process.kill()
        process.wait()


def _mount_point(path: Path) -> Path:
    """Where the file system is mounted that has this path."""
    points = {mount.point for mount in mounts()}
    return next(parent for parent in (path, *path.parents) if parent in points)


def _virtiofsd() -> str:
    path = os.pathsep.join((*_PLACES, os.environ.get("PATH", "")))
    if (program := shutil.which("virtiofsd", path=path)) is None:
        raise FileNotFoundError("no virtiofsd: ./dev test installs the package virtiofsd, or QEMU's that has it")
    return program
