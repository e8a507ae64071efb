"""What of the kernel is trouble, on made-up trees; and that this machine's is none."""

from pathlib import Path

import pytest

from procview.check import kernel
from procview.check.findings import Severity, worst


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/filesystems").write_text("nodev\tproc\n\text4\n\tfuseblk\nnodev\tfuse\n")
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "cgroup/cgroup.controllers").write_text("cpu memory\n")
    return tmp_path


def bad(trees: Path) -> list[str]:
    found = kernel.findings(str(trees / "proc"), str(trees / "cgroup"))
    return [finding.text for finding in found if finding.severity is not Severity.OK]


def test_a_kernel_with_everything_is_ok(trees: Path) -> None:
    assert bad(trees) == []


def test_without_fuse(trees: Path) -> None:
    (trees / "proc/filesystems").write_text("nodev\tproc\n\tfuseblk\n")
    assert bad(trees) == ["no FUSE: it is not built in, or its module is not loaded"]


@pytest.mark.parametrize("folders", [["memory"], ["cpu"], ["memory", "unified"]])
def test_older_cgroup_layouts_are_ok(trees: Path, folders: list[str]) -> None:
    (trees / "cgroup/cgroup.controllers").unlink()
    for folder in folders:
        (trees / "cgroup" / folder).mkdir()
    assert bad(trees) == []


def test_without_cgroups(trees: Path) -> None:
    (trees / "cgroup/cgroup.controllers").unlink()
    assert bad(trees) == [f"no cgroup controllers below {trees}/cgroup: containers see the host's values"]


@pytest.mark.parametrize(
    ("release", "severity"),
    [
        ("5.15.0-101-generic", Severity.OK),
        ("6.1.0", Severity.OK),
        ("10.0", Severity.OK),
        ("5.14.21", Severity.WARNING),
        ("4.19.90-2003.4.0.0036.oe1.x86_64", Severity.WARNING),
        ("odd", Severity.WARNING),
    ],
)
def test_old_releases_are_told(release: str, severity: Severity) -> None:
    assert kernel.release(release).severity is severity


def test_the_machine_that_runs_this_is_ok() -> None:
    assert worst(kernel.findings()) is Severity.OK
