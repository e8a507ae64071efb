"""The Debian package where nothing of procview's has ever been: a minimal Debian in a guest, with systemd as PID 1.

What is typed is what docs/quickstart.md says for Debian, for Prometheus and for Incus, which is there with lxcfs; then
the package is upgraded under a reader in a container, and removed.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import quickstart, session
from tests.containers.rootfs import Rootfs
from tests.guest import job
from tests.guest.boot import boot
from tests.guest.debian import debian_root
from tests.guest.machine import Machine
from tests.packaging.builds import CHECKOUT, TOOLS, WHEELS, build, one_file, wheel_of_this_checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

PACKAGES = ("python3", "fuse3", "podman", "crun", "procps", "curl", "jq", "prometheus", "incus-base")
SECONDS = 1500
"""A net. Emulated, beside other tests, it took ten minutes."""
CLEAN = Path(__file__).with_name("clean.py")
PROGRAMS = ("sh", "sleep", "free", "grep", "touch")
"""What the image has."""

Report = list[dict[str, Any]]


def _next_version(package: Path, folder: Path) -> None:
    """The same package as a later one."""
    root = folder / "unpacked"
    folder.mkdir()
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(root)], check=True)
    control = root / "DEBIAN/control"
    text = re.sub(r"^(Version: .*)$", r"\1.1", control.read_text(encoding="utf-8"), flags=re.MULTILINE)
    control.write_text(text, encoding="utf-8")
    subprocess.run(["dpkg-deb", "--build", str(root), str(folder)], check=True, capture_output=True)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """What clean.py has found."""
    missing = pytest.fail if os.environ.get("PROCVIEW_REQUIRE_ENGINES") else pytest.skip
    if os.geteuid() != 0:
        pytest.skip("only root can make a root file system and boot it")
    for program in ("mmdebstrap", "qemu-system-x86_64", "dpkg-buildpackage"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    if not TOOLS.exists() or not WHEELS.is_dir():
        missing("what packages are built with and of is not here: ./dev test and ./dev package fetch it")
    with session.temporary_directory() as work, session.temporary_directory() as shared:
        shutil.copytree(WHEELS, work / "wheels")
        wheel_of_this_checkout(work / "wheels")
        build("deb", TOOLS, work / "wheels", work / "deb")
        package = one_file(work / "deb", "*.deb")
        shutil.copy(package, shared)
        _next_version(package, shared / "next")
        image = Rootfs.copied(work / "image", PROGRAMS)
        init = image.path / "usr/sbin/init"
        init.write_text("#!/bin/sh\nexec sleep infinity\n", encoding="ascii")
        init.chmod(0o755)
        subprocess.run(["tar", "-C", str(image.path), "-cf", str(shared / "image.tar"), "."], check=True)
        for file in (CHECKOUT / "docs/quickstart.md", Path(quickstart.__file__), CLEAN):
            shutil.copy(file, shared)
        machine = Machine("6.12", "v2", systemd=True)
        command = ["python3", f"{job.INSIDE}/clean.py", job.INSIDE]
        end = boot(machine, command, shared, seconds=SECONDS, root=debian_root(PACKAGES))
        assert end.status == 0, end.why()
        lines = (shared / "report").read_text(encoding="utf-8").splitlines()
        yield [json.loads(line) for line in lines]


def of(report: Report, block: str) -> Report:
    found = [step for step in report if step["block"] == block]
    assert found, block
    return found


@pytest.mark.parametrize("block", ["prepared", "debian", "prometheus", "prepared incus", "incus"])
def test_the_commands_of_the_page_do_what_the_page_says(report: Report, block: str) -> None:
    for step in of(report, block):
        assert step["right"], json.dumps(step, indent=1).replace("\\n", "\n")


def test_an_upgrade_is_noticed_by_no_reader(report: Report) -> None:
    (step,) = of(report, "upgraded")
    *_, another, counted = step["out"].splitlines()
    assert step["status"] == 0, step
    assert another == "another daemon", step
    number, word = counted.split()
    assert (int(number) > 10, word) == (True, "right"), step


def test_a_removal_leaves_nothing(report: Report) -> None:
    (step,) = of(report, "removed")
    assert "that is all" in step["out"], step
    lines = step["out"].splitlines()
    host_kib = int(lines[[line.split()[:1] for line in lines].index(["Mem:"])].split()[1])
    assert host_kib > 1 << 20, step
    swap = next(index for index, line in enumerate(lines) if line.startswith("Swap:"))
    assert lines[swap + 1 :] == ["that is all"], step
