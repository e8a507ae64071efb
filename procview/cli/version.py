"""``procview version``: the version, and what it runs on."""

import os
from importlib.machinery import EXTENSION_SUFFIXES

import click

import procview


@click.command()
def version() -> None:
    """Print the version and what the implementation runs on."""
    import platform

    from procview.fs.libfuse import libfuse_version

    system = os.uname()
    facts = {
        "procview": procview.__version__,
        "compiled": _compiled(),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        **{package: _version_of(package) for package in ("pyfuse3", "trio", "psutil", "click")},
        "libfuse": libfuse_version() or "not found",
        "kernel": f"{system.sysname} {system.release} {system.machine}",
        "cgroup": _cgroup_layout("/sys/fs/cgroup"),
    }
    for name, fact in facts.items():
        click.echo(f"{name + ':':<10} {fact}")


def _version_of(package: str) -> str:
    from importlib import metadata  # brings in email and zipfile, for which no start of the daemon is to wait

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _compiled() -> str:
    """The modules of the hot path that are built for this Python."""
    built = {
        entry.partition(".")[0]
        for entry in os.listdir(os.path.join(os.path.dirname(procview.__file__), "_fast"))
        if entry.endswith(tuple(EXTENSION_SUFFIXES))
    }
    return " ".join(sorted(built)) or "nothing: the hot path is not built"


def _cgroup_layout(root: str) -> str:
    if os.path.exists(f"{root}/cgroup.controllers"):
        return "v2"
    if os.path.exists(f"{root}/unified/cgroup.controllers"):
        return "v1 with v2 beside it (hybrid)"
    return "v1" if os.path.isdir(f"{root}/memory") or os.path.isdir(f"{root}/cpu") else "none found"
