"""Where the host's trees are, and an engine made from them.

The trees are a value, so that tests and people can point procview at a recorded host.
"""

from dataclasses import dataclass

from procview._fast.engine import Engine
from procview.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The trees that are read, as absolute paths."""

    proc: str = "/proc"
    sys: str = "/sys"
    cgroup: str = "/sys/fs/cgroup"


def open_engine(roots: Roots, settings: Settings) -> Engine:
    """An engine on ``roots`` that follows ``settings``. Raises OSError when a tree is not usable."""
    engine = Engine(proc=roots.proc, sys=roots.sys, cgroup=roots.cgroup)
    configure(engine, settings)
    return engine


def configure(engine: Engine, settings: Settings) -> None:
    """Hand the engine its part of the settings; the next render follows them."""
    engine.configure(
        cpus=settings.cpus,
        topology=settings.topology,
        swap=settings.swap,
        devices=settings.devices,
        uptime=settings.uptime,
        loadavg=settings.loadavg,
    )
