"""A Debian that nobody has touched yet, as the root of a guest: this machine's release, from where its apt gets it."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.guest.kernels import CACHE

_ALWAYS = ("systemd-sysv", "dbus")
_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
_LEFT_OUT = ("man", "doc", "locale")
"""Of /usr/share: a third of the files, and nobody reads them there."""
_SECONDS = 900


def debian_root(packages: Sequence[str]) -> Path:
    """The root of a minimal Debian with systemd and these ``packages``, without what they recommend.

    One that is not in the release itself is taken from its backports.

    It is made once, with mmdebstrap, and kept in the cache; a guest writes to a layer above it. Raises OSError and
    RuntimeError.
    """
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    wanted = sorted({*_ALWAYS, *packages})
    digest = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:16]
    root = CACHE / "roots" / f"{release}-{digest}"
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        unfinished = root.with_suffix(f".{os.getpid()}")
        try:
            _make(unfinished, release, wanted)
            unfinished.rename(root)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return root


def _make(root: Path, release: str, packages: Sequence[str]) -> None:
    program = shutil.which("mmdebstrap")
    if program is None:
        raise FileNotFoundError("no mmdebstrap: ./dev test installs the package")
    argv = [program, "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    argv += ["--aptopt=APT::Install-Recommends false", "--dpkgopt=force-unsafe-io"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    argv += [release, str(root), *map(str, _lists()), _backports(release)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap: status {done.returncode}\n{done.stdout}{done.stderr}")


def _lists() -> list[Path]:
    """The files that say where this machine's packages come from."""
    main, more = _SOURCES
    found = [path for path in (main, *sorted(more.glob("*"))) if path.suffix in (".list", ".sources")]
    return [path for path in found if path.exists() and path.read_text(encoding="utf-8").strip()]


def _backports(release: str) -> str:
    """The line for what is made of later releases for this one, from where the release is."""
    said = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    sites = [site for site, suite in map(str.split, said.splitlines()) if suite == release]
    if not sites:
        raise RuntimeError(f"apt-get indextargets names no source of {release}")
    return f"deb {sites[0]} {release}-backports main"
