"""Kernels for guests: the distribution's own, fetched by apt into .cache/guest and unpacked there, never installed.

They are found by the names of meta packages, which outlive the versions that they stand for. What was fetched once is
used for good: rm -r .cache/guest asks for newer ones.
"""

import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache/guest"
_META_PACKAGES = ("linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64", "linux-image-virtual")
"""Debian 12 has the first two (6.12, 6.1), Debian 13 the second, Ubuntu the last."""
_ZSTD = b"\x28\xb5\x2f\xfd"


class NoSuchKernelError(Exception):
    """This system's apt has no kernel of the series that was asked for."""


@dataclass(frozen=True)
class Kernel:
    """One kernel, unpacked in ``directory``."""

    release: str
    directory: Path

    @property
    def image(self) -> Path:
        """What QEMU boots: the bare ELF file if there is one, which starts 2 s earlier under TCG than a zstd one."""
        bare = self.directory / "vmlinux"
        return bare if bare.exists() else self.directory / f"boot/vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        for place in ("lib/modules", "usr/lib/modules"):
            if (found := self.directory / place / self.release).is_dir():
                return found
        raise FileNotFoundError(f"{self.directory} has no modules of {self.release}")


def kernel(series: str) -> Kernel:
    """The kernel of a series such as "6.12", fetched if need be."""
    places = CACHE / "kernels"
    cached = sorted(place.name for place in places.glob("*") if _in_series(place.name, series))
    if not cached:
        cached = [_fetch(series, places)]
    return Kernel(cached[-1], places / cached[-1])


def series_are_promised() -> bool:
    """Whether this system's apt has all series that the tests name, so that to miss one is an error."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return False
    return (system.get("ID"), system.get("VERSION_ID")) == ("debian", "12")


def _in_series(release: str, series: str) -> bool:
    return re.match(rf"{re.escape(series)}\D", release) is not None


def _fetch(series: str, places: Path) -> str:
    try:
        return _try_to_fetch(series, places)
    except (subprocess.CalledProcessError, NoSuchKernelError):  # lists that are missing, or older than the archive
        subprocess.run(["apt-get", "-q", "update"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return _try_to_fetch(series, places)


def _try_to_fetch(series: str, places: Path) -> str:
    found = {image.removeprefix("linux-image-"): image for meta in _META_PACKAGES for image in _images(meta)}
    releases = [release for release in found if _in_series(release, series)]
    if not releases:
        there = ", ".join(sorted(found)) or "none at all"
        raise NoSuchKernelError(
            f"apt has no kernel {series} here, only: {there} (Debian 12 has 6.12 in its security part)"
        )
    release = releases[0]
    places.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=places.parent) as folder:
        # Ubuntu has the modules in a package of their own, which the image depends on.
        packages = [found[release], *_dependencies(found[release], r"linux-modules-\S+")]
        # apt's own unprivileged user cannot write into the checkout of root.
        _run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages, directory=folder)
        new = Kernel(release, Path(folder, "kernel"))
        for archive in Path(folder).glob("*.deb"):
            _run("dpkg-deb", "-x", str(archive), str(new.directory))
        _run("depmod", "-b", str(new.modules.parents[2]), release)
        _unpack_image(new)
        new.directory.chmod(0o755)
        shutil.rmtree(places / release, ignore_errors=True)
        new.directory.rename(places / release)
    return release


def _images(package: str) -> list[str]:
    return _dependencies(package, r"linux-image-\d\S+")


def _dependencies(package: str, wanted: str) -> list[str]:
    """The names among the dependencies of a package's newest version that are ``wanted``."""
    shown = subprocess.run(["apt-cache", "show", package], capture_output=True, text=True, check=False).stdout
    newest = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
    return [] if newest is None else re.findall(rf"(?:^|, )({wanted})", newest[1])


def _unpack_image(new: Kernel) -> None:
    """Take the ELF file out of an image that is compressed with zstd; another one boots as it is."""
    image = new.image.read_bytes()
    start = image.find(_ZSTD)
    while start >= 0:
        unpacked = subprocess.run(["zstd", "-dcq"], input=image[start:], capture_output=True, check=False).stdout
        if unpacked.startswith(b"\x7fELF"):
            (new.directory / "vmlinux").write_bytes(unpacked)
            return
        start = image.find(_ZSTD, start + 1)


def _run(*argv: str, directory: str | None = None) -> None:
    try:
        subprocess.run(argv, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        error.add_note(f"{error.stdout}{error.stderr}")
        raise
