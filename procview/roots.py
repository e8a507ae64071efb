"""Where the host's trees are, and an engine made from them.

The trees are a value, so that tests and people can point procview at a recorded host.
"""

from dataclasses import dataclass

from procview._fast.engine import Engine
from procview.container_settings import Rules
from procview.notes import Notes
from procview.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The trees that are read, as absolute paths."""

    proc: str = "/proc"
    sys: str = "/sys"
    cgroup: str = "/sys/fs/cgroup"
    mounts_of: str = "self"
    """The pid of a process that has the host's mounts; "self" where this one has them."""


def open_engine(roots: Roots, settings: Settings, notes: Notes | None = None) -> Engine:
    """An engine on ``roots`` that follows ``settings``. Raises OSError when a tree is not usable."""
    engine = Engine(proc=roots.proc, sys=roots.sys, cgroup=roots.cgroup, mounts_of=roots.mounts_of)
    configure(engine, settings, notes)
    return engine


def configure(engine: Engine, settings: Settings, notes: Notes | None = None) -> None:
    """Hand the engine its part of the settings; the next render follows them.

    ``notes`` are what hooks have told of containers; None: in the run directory of the settings. Where containers have
    settings of their own, each that is known is looked at, which takes some 10 microseconds for each of them.
    """
    rules = Rules(settings, Notes(settings.run_directory) if notes is None else notes)
    engine.configure(
        cpus=settings.cpus,
        topology=settings.topology,
        swap=settings.swap,
        devices=settings.devices,
        uptime=settings.uptime,
        loadavg=settings.loadavg,
        ask=rules.ask if rules.differ else None,
    )
