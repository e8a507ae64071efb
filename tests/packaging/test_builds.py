"""The same commit gives the same sdist and the same wheel, wherever they are built."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import procview
from tests.packaging.builds import CHECKOUT, EPOCH_SECONDS, build, one_file
from tests.session import temporary_directory

FEW = ("faults", "text")
"""Modules that are compiled twice here; ./dev build --again does it with all of them."""


@pytest.fixture(scope="module", autouse=True)
def _in_a_clone() -> None:
    done = subprocess.run(["git", "rev-parse"], cwd=CHECKOUT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this is no clone of the repository")


def with_few_modules(sdist: Path, folder: Path) -> Path:
    """The same, with the modules of FEW alone to compile."""
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(folder)], check=True)
    top = one_file(folder, "procview-*")
    text = (top / "pyproject.toml").read_text(encoding="utf-8")
    parts = re.split(r"(?=^\[)", text, flags=re.MULTILINE)
    kept = [part for part in parts if not part.startswith("[[tool.setuptools.ext-modules]]")
            or any(f'"procview._fast.{name}"' in part for name in FEW)]  # fmt: skip
    (top / "pyproject.toml").write_text("".join(kept), encoding="utf-8")
    with tarfile.open(folder / f"{top.name}.tar.gz", "w:gz") as archive:
        archive.add(top, top.name)
    return folder / f"{top.name}.tar.gz"


@pytest.mark.slow
def test_two_builds_have_the_same_bytes() -> None:
    with temporary_directory() as one, temporary_directory() as directory:
        other = directory / "a-folder-with/another-name"
        other.mkdir(parents=True)
        build("sdist", sys.executable, one)
        build("sdist", sys.executable, other, elsewhere=True)
        sdist = one_file(one, "*.tar.gz")
        assert sdist.read_bytes() == one_file(other, "*.tar.gz").read_bytes()
        with tarfile.open(sdist) as archive:
            members = archive.getmembers()
        assert {member.mtime for member in members} == {int(EPOCH_SECONDS)}
        assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}

        few = with_few_modules(sdist, directory)
        build("wheel", sys.executable, few, one)
        build("wheel", sys.executable, few, other, elsewhere=True)
        wheel = one_file(one, "*.whl")
        assert wheel.read_bytes() == one_file(other, "*.whl").read_bytes()
        with zipfile.ZipFile(wheel) as archive:
            modules = [name for name in archive.namelist() if name.endswith(".so")]
            assert len(modules) == len(FEW)
            for name in modules:
                assert str(one).encode() not in archive.read(name)
            assert {info.date_time for info in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}
        assert [path.name for path in sorted(one.iterdir())] == [wheel.name, sdist.name]


def test_the_sdist_has_what_a_wheel_is_made_of() -> None:
    with temporary_directory() as directory:
        build("sdist", sys.executable, directory)
        with tarfile.open(one_file(directory, "*.tar.gz")) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert {source for module in project["ext-modules"] for source in module["sources"]} <= names
    shipped = {path for paths in project["data-files"].values() for path in paths if "*" not in path}
    assert shipped <= names
    assert {f"docs/man/{path.name}" for path in (CHECKOUT / "docs/man").glob("*.1")} <= names


def test_a_build_that_fails_says_why() -> None:
    with temporary_directory() as directory:
        (directory / "broken-1").mkdir()
        (directory / "broken-1/pyproject.toml").write_text("[build-system\n", encoding="utf-8")
        with tarfile.open(directory / "broken-1.tar.gz", "w:gz") as archive:
            archive.add(directory / "broken-1", "broken-1")
        with pytest.raises(AssertionError, match="TOML"):
            build("wheel", sys.executable, directory / "broken-1.tar.gz", directory)
        assert not list(directory.glob("*.whl"))


def test_every_version_is_this_one() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (CHECKOUT / "packaging/debian/changelog").read_text(encoding="utf-8")
    assert project["version"] == procview.__version__
    assert changelog.startswith(f"procview ({procview.__version__}-1) ")


def test_the_bundle_pins_all_that_procview_depends_on_by_version_and_hash() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split("[>=]", line)[0] for line in project["dependencies"]}
    for name in ("bundle.txt", "tools.txt"):
        lines = (CHECKOUT / "packaging/build" / name).read_text(encoding="utf-8").replace("\\\n", "").splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+(\s+--hash=sha256:[0-9a-f]{64})+", pin) for pin in pins), name
        if name == "bundle.txt":
            assert wanted <= {pin.partition("==")[0] for pin in pins}
