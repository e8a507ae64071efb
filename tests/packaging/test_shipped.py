"""What an installation has beside the package, as setuptools takes it from pyproject.toml; nothing is compiled."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview import shipped
from procview.engines import ENGINES
from procview.shipped import hook_program, packaging_file
from tests.packaging.builds import CHECKOUT, files_for_engines
from tests.session import temporary_directory

SITE = f"lib/python3.{sys.version_info.minor}/site-packages"
TEMPLATES = sorted({file.template for engine in ENGINES for file in engine.files})
PROGRAMS = ["docker/procview-runc"]
COMPLETIONS = (
    "bash-completion/completions/procview",
    "fish/vendor_completions.d/procview.fish",
    "zsh/site-functions/_procview",
)


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """The data files of a wheel, below a prefix."""
    with temporary_directory() as directory:
        source = directory / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(CHECKOUT / name, source)
        for name in ("docs", "hooks", "packaging"):
            shutil.copytree(CHECKOUT / name, source / name)
        (source / "procview").mkdir()
        for package in {path.parent for path in (CHECKOUT / "procview").rglob("*.py")}:
            (source / package.relative_to(CHECKOUT)).mkdir(exist_ok=True, parents=True)
        script = "import setuptools; setuptools.setup(ext_modules=[])"
        argv = [sys.executable, "-c", script, "-q", "install_data", "--install-dir", str(directory / "prefix")]
        result = subprocess.run(argv, cwd=source, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        yield directory / "prefix"


def asked(package: Path, expression: str) -> subprocess.CompletedProcess[str]:
    """What ``shipped`` of a package in that folder says; nothing else of the package is needed for it."""
    package.mkdir(parents=True)
    shutil.copy(shipped.__file__, package)
    script = f"from shipped import *; print(({expression}))"
    return subprocess.run(
        [sys.executable, "-c", script], cwd=package, capture_output=True, text=True, timeout=30, check=False
    )


def test_an_installation_has_the_hook_and_every_file_that_is_shipped(data: Path) -> None:
    assert os.access(data / "libexec/procview/procview-hook", os.X_OK)
    for name, path in files_for_engines().items():
        there = data / "share/procview" / name
        assert there.read_bytes() == path.read_bytes(), path
        assert stat.S_IMODE(there.stat().st_mode) & 0o111 == stat.S_IMODE(path.stat().st_mode) & 0o111, path
    for page in (CHECKOUT / "docs/man").glob("*.1"):
        assert (data / "share/man/man1" / page.name).read_bytes() == page.read_bytes()
    for name in COMPLETIONS:
        assert (data / "share" / name).is_file()


@pytest.mark.parametrize("package", [f"{SITE}/procview", "lib/python3/dist-packages/procview", "procview"])
def test_an_installed_package_finds_them_beside_itself(data: Path, package: str) -> None:
    with temporary_directory() as directory:
        shutil.copytree(data, directory, dirs_exist_ok=True)
        found = asked(directory / package, f"hook_program(), *map(packaging_file, {TEMPLATES})")
        files = ["libexec/procview/procview-hook", *(f"share/procview/{name}" for name in TEMPLATES)]
        assert found.stdout == f"{tuple(f'{directory}/{name}' for name in files)}\n", found.stderr


def test_an_installation_without_them_says_what_is_missing_and_what_to_do() -> None:
    with temporary_directory() as directory:
        found = asked(directory / SITE / "procview", "hook_program()")
        assert found.returncode == 1
        last = found.stderr.splitlines()[-1]
        assert last.startswith("FileNotFoundError: this installation of procview is incomplete: no ")
        assert f"{directory}/libexec/procview/procview-hook" in last
        assert last.endswith("; install procview again")


def test_a_checkout_has_its_own() -> None:
    if not (CHECKOUT / "pyproject.toml").is_file():
        pytest.skip("this is not a checkout")
    assert hook_program() == f"{CHECKOUT}/hooks/procview-hook"
    assert packaging_file("procview.toml") == f"{CHECKOUT}/packaging/procview.toml"
    for program in [hook_program(), *(packaging_file(name) for name in PROGRAMS)]:
        assert os.access(program, os.X_OK), program
        assert Path(program).read_text(encoding="utf-8").startswith("#!/usr/bin/python3 -IS\n")
