"""Which tests run in which guests.

A guest is booted once for each of these, so tests that want the same machine are together; more than one for the same
machine are there so that one can be chosen (-k), and to lose less when a guest dies.
"""

from dataclasses import dataclass

from tests.guest.machine import Machine


@dataclass(frozen=True)
class Rung:
    """Some tests in one guest."""

    name: str
    machine: Machine
    tests: tuple[str, ...]
    """Arguments of pytest."""
    minutes: float = 10
    """How long it may take at most."""


_FEWER_ENGINES = ("-k", "not crun and not lxc")
"""For what differs by cgroup layout and not by engine: one engine that sets limits in its own way, and none."""
_ALL_BUT_THE_LONGEST = ("-k", "not hundred")

_SOME_MANAGERS = (
    "-k",
    "runc or crun and not podman or lxc or podman-plain-hook or podman-rootless-plain-hook or docker-mapped-hook",
)
"""Emulated, podman takes half a minute for a container, and dockerd a quarter."""

_V2 = Machine("6.12", "v2", swap_mib=256, disks_mib=(64,))
_OLD = Machine("6.1", "v2", swap_mib=256)
_V1 = Machine("6.12", "v1", swap_mib=256)
_HYBRID = Machine("6.12", "hybrid", swap_mib=256)

_VIEWS = tuple(f"tests/containers/test_{name}.py" for name in ("who_reads", "tools", "updates", "counters", "disks"))
_SLOTS = (
    "tests/slots",
    # Not its reading of states, which no kernel makes a difference to.
    *(f"tests/hook/test_{name}.py" for name in ("by_hand", "engines", "views")),
    "tests/containers/test_degradation.py",
)
_DAEMON = (
    *(f"tests/daemon/test_{name}.py" for name in ("life", "slots_life")),
    *(f"tests/check/test_{name}.py" for name in ("check", "kernel", "slots")),
)

RUNGS: tuple[Rung, ...] = (
    # The longest first: what comes last runs alone.
    Rung("6.12-v2-slots", _V2, (*_SLOTS, *_ALL_BUT_THE_LONGEST), minutes=25),
    Rung("6.1-v2-slots", _OLD, (*_SLOTS, _VIEWS[0], *_ALL_BUT_THE_LONGEST), minutes=25),
    Rung("6.12-v2-views", _V2, (*_VIEWS, "tests/containers/test_user_namespaces.py"), minutes=25),
    Rung("6.12-v2-daemon", _V2, _DAEMON, minutes=25),
    Rung("6.12-v2-engines", _V2, ("tests/containers/test_matrix.py", *_SOME_MANAGERS), minutes=20),
    Rung("6.12-v1-views", _V1, (*_VIEWS, *_FEWER_ENGINES), minutes=15),
    Rung("6.12-hybrid-views", _HYBRID, (*_VIEWS, *_FEWER_ENGINES), minutes=15),
)
