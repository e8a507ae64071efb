"""Guests as fixtures, and what was run where, said in the end."""

import contextlib
import os
import platform
import shutil
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass

import pytest

from tests.containers import cgroups
from tests.guest.fleet import Fleet
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
fleet_key = pytest.StashKey[Fleet | Exception]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[booted_key] = []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Guests last: what fails on the host already is known when they tell."""
    here = os.path.dirname(__file__)
    items.sort(key=lambda item: item.path.is_relative_to(here))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Guests start with the first test, whatever that is: half of the time would be lost else."""
    rungs = [
        item.callspec.params["rung"]
        for item in session.items
        if hasattr(item, "callspec") and "rung" in item.callspec.params
    ]
    if not rungs or session.config.option.collectonly or _why_not():
        return (yield)
    from tests.guest.test_ladder import fleet_of

    with contextlib.ExitStack() as stack:
        try:
            session.config.stash[fleet_key] = stack.enter_context(fleet_of(rungs))
        except Exception as error:  # for their tests to raise
            session.config.stash[fleet_key] = error
        return (yield)


def _why_not() -> str:
    """Why no guest can be had here; that something is not installed is no reason."""
    if os.geteuid() != 0:
        return "a guest's root is this machine's own, which only root can share"
    if platform.machine() != "x86_64":
        return f"the kernels for guests are for x86-64, and this machine is {platform.machine()}"
    if shutil.which("apt-get") is None:
        return "not a Debian system: kernels for guests come by apt"
    return ""


@pytest.fixture(scope="session")
def possible() -> None:
    """Skips where no guest can be had, with the reason."""
    if why := _why_not():
        pytest.skip(why)


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
