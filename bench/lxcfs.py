"""Gets lxcfs, the neighbour to compare with: the distribution's package, unpacked into .cache/lxcfs, never installed.

Installing it would start a service and mount /var/lib/lxcfs. Unpacking leaves nothing outside the checkout.
``./dev bench`` has usually done it already and says where in PROCVIEW_LXCFS_ROOT.
"""

import os
import subprocess
from pathlib import Path

from bench.compile import CHECKOUT

UNPACKED = Path(os.environ.get("PROCVIEW_LXCFS_ROOT", CHECKOUT / ".cache" / "lxcfs"))


class LxcfsUnavailableError(Exception):
    """Why there is no lxcfs to compare with."""


def program() -> Path:
    """The lxcfs executable; downloads and unpacks the package when it is not there yet."""
    executable = UNPACKED / "usr/bin/lxcfs"
    if not executable.exists():
        try:
            UNPACKED.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LxcfsUnavailableError(f"no place for it: {error}") from error
        # apt's own unprivileged user cannot write into the checkout of root.
        _run("apt-get", "download", "-o", "APT::Sandbox::User=root", "lxcfs")
        packages = sorted(UNPACKED.glob("lxcfs_*.deb"))
        if not packages:
            raise LxcfsUnavailableError("apt-get download lxcfs left no package")
        _run("dpkg-deb", "-x", packages[-1].name, ".")
    return executable


def library_dir() -> Path:
    """Where its liblxcfs.so is: lxcfs looks in the place it would be installed to, and in LD_LIBRARY_PATH."""
    found = sorted(UNPACKED.glob("usr/lib/**/liblxcfs.so"))
    if not found:
        raise LxcfsUnavailableError(f"no liblxcfs.so under {UNPACKED}")
    return found[0].parent


def version() -> str:
    answer = subprocess.run([program(), "--version"], capture_output=True, text=True, check=False)
    # It prints the number in quotes, and on standard error.
    return (answer.stdout + answer.stderr).strip(' "\n')


def _run(*command: str) -> None:
    try:
        subprocess.run(command, cwd=UNPACKED, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise LxcfsUnavailableError(f"{command[0]} is not here") from error
    except subprocess.CalledProcessError as error:
        raise LxcfsUnavailableError(f"{' '.join(command)}: {error.stderr.strip()}") from error
