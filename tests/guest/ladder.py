"""Which tests run in which guests.

The choice is by what differs by kernel or by cgroup layout, since an emulated guest takes twenty times as long as the
host, and all of them are to take no more than twenty minutes on two cores (twice that on slow ones):

- what only v2 has, and the kernel counts itself (tests/v2): all of it on 6.12; on 6.1 memory, swap and pressure, whose
  lines and files changed in between;
- the views in containers on each layout: on v2 with one engine that sets limits itself (runc) and with none (unshare),
  on v1 and hybrid mostly with none;
- the slots and the hook, in every way that a daemon can end: on 6.12 and 6.1, which have and have not the call that
  puts a mount beneath another one, in a fleet of all engines;
- each engine once more, by another way in;
- systemd as PID 1.

Texts of pure views, recorded hosts, the command line and files for engines are the same on every kernel: the host has
them alone.

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
    minutes: float = 25
    """Then it is given up. Several times what it takes: one machine needs more than twice as long as another."""


_V2 = Machine("6.12", "v2", swap_mib=256, disks_mib=(64, 32))
_OLD_V2 = Machine("6.1", "v2", swap_mib=256, disks_mib=(64, 32))
_NODES = Machine("6.12", "v2", swap_mib=256, disks_mib=(64,), numa_nodes=2)
# Debian builds 6.12 without memory and cpuset controllers for v1.
_V1 = Machine("6.1", "v1", swap_mib=256)
_HYBRID = Machine("6.1", "hybrid", swap_mib=256)
_SYSTEMD = Machine("6.12", "v2", swap_mib=256, systemd=True)

_ENDS = (
    "a_planned_stop_is_noticed_by_no_reader",
    "sigkill_gives_the_hosts_files_back_at_once",
    "a_hang_ends_within_a_second",
    "a_daemon_that_nobody_asks_is_left_alone",
    "the_guard_is_started_again",
    "the_guard_of_a_dead_daemon_leaves_the_views_of_the_next_one_alone",
    "withdraw_after_a_crash",
    "withdraw_of_a_hanging_daemon_frees_its_readers",
    "a_successor_takes_over_without_a_gap",
)
_OTHER_ENDS = (
    "a_hang_ends_within_a_second",
    "withdraw_of_a_hanging_daemon_frees_its_readers",
    "a_successor_takes_over_without_a_gap",
)
"""Where a newer kernel has other calls, or other ways to wait. The stop and the kill tests/systemd has there, too."""
_PLACES = ("tests/slots/test_slots.py", "tests/hook/test_views.py", "tests/containers/test_degradation.py")


def _slots(ends: tuple[str, ...]) -> tuple[str, ...]:
    """What becomes of views when the daemon goes, in every engine: calls about mounts differ between these kernels."""
    return (*_PLACES, *(f"tests/daemon/test_slots_life.py::test_{name}" for name in ends))


_NOT_A_HUNDRED = ("-k", "not hundred")
"""So many containers say nothing about a kernel, and are a matter of minutes there."""

_VIEWS = tuple(f"tests/containers/test_{name}.py" for name in ("who_reads", "tools", "updates", "counters", "disks"))
"""What programs in containers show, against what the host says."""
_ONE_THAT_SETS_LIMITS_AND_NONE = (
    "-k",
    "not crun and not lxc and not nspawn and not ((counters or tools) and runc)",
)
"""runc writes the files of a layout in its own way; with unshare the tests do. What then is counted is the same, and
what tools make of it."""

_WAYS_IN = (
    "crun-mapped-attach",
    "lxc-mapped-hook",
    "nspawn-mapped-attach",
    "podman-plain-hook",
    "podman-crun-plain-hook",
    "podman-rootless-mapped-hook",
    "docker-plain-hook",
)
"""Each engine once, by the way and with the users that are not in the fleet of test_degradation.py."""

RUNGS: tuple[Rung, ...] = (
    # The longest first: what comes last runs alone.
    # Views that come and go while containers start: where there is a gap each time.
    Rung("6.1-v2-slots", _OLD_V2, (*_slots(_ENDS), *_NOT_A_HUNDRED), minutes=45),
    Rung("6.12-v2-slots", _V2, (*_slots(_OTHER_ENDS), "-k", "not hundred and not meanwhile"), minutes=45),
    Rung(
        "6.12-v2-views",
        _NODES,
        (*_VIEWS, "tests/containers/test_user_namespaces.py", *_ONE_THAT_SETS_LIMITS_AND_NONE),
        minutes=45,
    ),
    Rung("6.12-v2-numbers", _V2, ("tests/v2",), minutes=35),
    # runc where it says whose numbers a reader sees and sets limits; what the numbers are, without an engine.
    Rung("6.1-v1-views", _V1, (*_VIEWS, "-k", "unshare or disks or runc and (who_reads or updates)"), minutes=35),
    # What tools make of the numbers is as on v1: the same controllers.
    Rung("6.1-hybrid-views", _HYBRID, (*_VIEWS, "-k", "(unshare or disks) and not tools")),
    Rung("6.12-v2-systemd", _SYSTEMD, ("tests/systemd",)),
    Rung("6.12-v2-engines", _V2, ("tests/containers/test_matrix.py", "-k", " or ".join(_WAYS_IN))),
    # What an older kernel counts otherwise, or not at all.
    Rung("6.1-v2-numbers", _OLD_V2, tuple(f"tests/v2/test_{name}.py" for name in ("memory", "swap", "pressure"))),
)
