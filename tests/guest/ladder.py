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


_NEW = Machine("6.12", "v2", memory_mib=3072, swap_mib=256, disks_mib=(64,))
_OLD = Machine("6.1", "v2", memory_mib=3072, swap_mib=256, disks_mib=(64,))
_V1 = Machine("6.12", "v1", memory_mib=3072, swap_mib=256)
_HYBRID = Machine("6.12", "hybrid", memory_mib=3072, swap_mib=256)

RUNGS: tuple[Rung, ...] = (Rung("6.12-v2-who", _NEW, ("tests/containers/test_who_reads.py",)),)
