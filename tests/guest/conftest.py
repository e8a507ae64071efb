"""Guests as fixtures, and what was run where, said in the end."""

import os
import platform
import shutil
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.containers import cgroups
from tests.guest.reports import GUEST

_COLUMNS = ("passed", "failed", "error", "skipped")


@dataclass
class Booted:
    """One guest, for the summary."""

    name: str
    machine: str
    seconds: float = 0.0
    died_of: str = ""
    """The first one, if there had to be a second."""


booted_key = pytest.StashKey[list[Booted]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[booted_key] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Guests last: what fails on the host already is known when they start."""
    here = os.path.dirname(__file__)
    items.sort(key=lambda item: item.path.is_relative_to(here))


@pytest.fixture(scope="session")
def possible() -> None:
    """Skips where no guest can be had, with the reason; that something is not installed is none."""
    if os.geteuid() != 0:
        pytest.skip("a guest's root is this machine's own, which only root can share")
    if platform.machine() != "x86_64":
        pytest.skip(f"the kernels for guests are for x86-64, and this machine is {platform.machine()}")
    if shutil.which("apt-get") is None:
        pytest.skip("not a Debian system: kernels for guests come by apt")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    booted = config.stash.get(booted_key, [])
    if not booted:
        return
    counts: dict[str, Counter[str]] = {}
    for kind in _COLUMNS:
        for report in terminalreporter.stats.get(kind, []):
            counts.setdefault(getattr(report, GUEST, ""), Counter())[kind] += 1
    rows = [("", f"host: {platform.release()}, {cgroups.layout()}", "", "")]
    rows += [(guest.name, guest.machine, f"{guest.seconds:.0f} s", guest.died_of) for guest in booted]
    width = max(len(f"{name} {machine}") for name, machine, _, _ in rows) + 2
    terminalreporter.section("by kernel and cgroup layout")
    terminalreporter.write_line(" " * width + "".join(f"{kind:>9}" for kind in _COLUMNS))
    for name, machine, seconds, died_of in rows:
        numbers = "".join(f"{counts.get(name, Counter())[kind]:>9}" for kind in _COLUMNS)
        terminalreporter.write_line(f"{f'{name} {machine}'.strip():<{width}}{numbers}{seconds:>8}")
        if died_of:
            terminalreporter.write_line(f"  booted again because the guest died: {died_of}", yellow=True)
