"""The programs of packaging/build, run as a test needs them: here, and elsewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from procview import shipped

CHECKOUT = Path(shipped.__file__).parent.parent
BUILD = CHECKOUT / "packaging/build"
TOOLS = CHECKOUT / ".cache/tools/bin/python"
WHEELS = CHECKOUT / ".cache/wheels-of-others"
NOT_FOR_ENGINES = {"build", "completions", "debian", "rpm"}
"""Folders of packaging/ that are for building packages, or are installed to where shells look."""
EPOCH_SECONDS = "1700000000"


def files_for_engines() -> dict[str, Path]:
    """The files under packaging/ that are installed to share/procview, by their name there."""
    folder = CHECKOUT / "packaging"
    names = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in names.items() if name.partition("/")[0] not in NOT_FOR_ENGINES}


def build(program: str, *arguments: str | Path, elsewhere: bool = False) -> None:
    """Run one of packaging/build. ``elsewhere``: with another umask, language and time zone, which may show nowhere."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH_SECONDS}
    if elsewhere:
        environment |= {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "LOGNAME": "somebody", "PYTHONHASHSEED": "7"}
    words = ["sh", "-c", f'umask {"077" if elsewhere else "022"}; exec "$@"', "sh", str(BUILD / program)]
    done = subprocess.run(
        [*words, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def one_file(folder: Path, pattern: str) -> Path:
    """The only file of that kind in a folder."""
    (found,) = folder.glob(pattern)
    return found


def wheel_of_this_checkout(folder: Path) -> None:
    """procview's wheel into ``folder``, of the modules that are compiled already: packages can be built of it."""
    work = folder / "work"
    for name in ("docs", "hooks", "packaging", "procview"):
        shutil.copytree(CHECKOUT / name, work / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, work)
    script = "import setuptools; setuptools.setup(ext_modules=[])"
    for command in (["build_py"], ["bdist_wheel", "--skip-build", "--dist-dir", str(folder)]):
        done = subprocess.run(
            [sys.executable, "-c", script, "-q", *command],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if command == ["build_py"]:
            for module in (CHECKOUT / "procview/_fast").glob("*.so"):
                shutil.copy(module, one_file(work / "build", "lib*") / "procview/_fast")
    shutil.rmtree(work)
