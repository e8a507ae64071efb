"""The root file system of test containers: an almost empty folder with the machine's own programs mounted into it.

So every program that the machine has runs inside, and nothing is copied. The mounts are read-only and made in the
container's mount namespace only; on the host the folder stays empty.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "/packages"
"""Where the Python packages of the test environment (psutil) are inside."""
SCRATCH = "/tmp"
"""A tmpfs."""

_FOLDERS = ("proc", "sys", "dev", "etc", "tmp", "run", "usr", "procview", PACKAGES.lstrip("/"))
_PROGRAM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_PASSWD = "root:x:0:0:root:/:/bin/sh\ntester:x:1000:1000:tester:/:/bin/sh\n"


@dataclass(frozen=True)
class Rootfs:
    path: Path
    binds: tuple[tuple[Path, str], ...]
    """Folders of the host, and where each is mounted inside, read-only."""

    @classmethod
    def create(cls, path: Path) -> "Rootfs":
        """Make one in ``path``, which must not exist and whose parents everyone may enter."""
        binds = [(Path("/usr"), "/usr"), (Path(sysconfig.get_path("platlib")), PACKAGES)]
        path.mkdir(mode=0o755)
        for folder in _FOLDERS:
            (path / folder).mkdir()
        for name in _PROGRAM_FOLDERS:
            host = Path("/", name)
            if host.is_symlink():  # into /usr, on every distribution of the last years
                (path / name).symlink_to(os.readlink(host))
            elif host.is_dir():
                (path / name).mkdir()
                binds.append((host, str(host)))
        python = Path(sys.base_prefix)
        if not python.is_relative_to("/usr"):
            (path / python.relative_to("/")).mkdir(parents=True)
            binds.append((python, str(python)))
        _write_etc(path)
        return cls(path, tuple(binds))

    @classmethod
    def copied(cls, path: Path, programs: Sequence[str]) -> "Rootfs":
        """One that needs no mounts, as an image has it: copies of these programs and of the libraries they need."""
        path.mkdir(mode=0o755)
        for folder in _FOLDERS:
            (path / folder).mkdir()
        for name in _PROGRAM_FOLDERS:
            host = Path("/", name)
            if host.is_symlink():
                (path / "usr" / name).mkdir()
                (path / name).symlink_to(f"usr/{name}")
        for program in programs:
            found = shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin")
            assert found is not None, f"{program} is not installed"
            said = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
            for file in (found, *re.findall(r"(/\S+) \(0x", said)):
                copy = path / file.lstrip("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
        _write_etc(path)
        return cls(path, ())


def _write_etc(path: Path) -> None:
    (path / "etc/passwd").write_text(_PASSWD, encoding="ascii")
    (path / "etc/group").write_text("root:x:0:\ntester:x:1000:\n", encoding="ascii")
    (path / "etc/ld.so.cache").write_bytes(Path("/etc/ld.so.cache").read_bytes())


def environment(session: dict[str, str]) -> dict[str, str]:
    """What processes inside start with."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": PACKAGES,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "120",
        **session,
    }


PYTHON = str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))
"""The interpreter inside."""
