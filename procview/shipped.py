"""Where the files are that come with this package: the hook program and the files for the engines.

Looks for them beside the package, and nowhere else: in a checkout, below the prefix of an installation, or below the
folder that ``pip install --target`` was given. So an old copy elsewhere on the machine is never taken by mistake.
"""

from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
HOOK = "libexec/procview/procview-hook"
"""The hook program, below the prefix of an installation."""
FILES = "share/procview"
"""The folder with the files for the engines, below the prefix of an installation."""


def hook_program() -> str:
    """The absolute path of the hook program. Raises FileNotFoundError, saying what to do."""
    return _first("hooks/procview-hook", HOOK)


def packaging_file(name: str) -> str:
    """The absolute path of ``name``, e.g. ``cdi/procview.json``. Raises FileNotFoundError, saying what to do."""
    return _first(f"packaging/{name}", f"{FILES}/{name}")


def _first(in_checkout: str, in_installation: str) -> str:
    candidates = list(_candidates(in_checkout, in_installation))
    for path in candidates:
        if path.is_file():
            return str(path)
    places = " or ".join(str(path) for path in candidates)
    raise FileNotFoundError(f"this installation of procview is incomplete: no {places}; install procview again")


def _candidates(in_checkout: str, in_installation: str) -> Iterator[Path]:
    beside = _PACKAGE.parent
    if (beside / "pyproject.toml").is_file():
        yield beside / in_checkout
        return
    yield beside / in_installation  # pip install --target
    if len(_PACKAGE.parents) > 3:  # <prefix>/lib/python3.11/site-packages/procview; Debian's own is as deep
        yield _PACKAGE.parents[3] / in_installation
