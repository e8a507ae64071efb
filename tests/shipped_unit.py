"""The shipped unit, as its tests read it: directives in order, and the capabilities that it leaves the daemon."""

from pathlib import Path

from procview.shipped import packaging_file

TEMPLATE = "systemd/procview.service"
NUMBERS = {"CAP_SYS_CHROOT": 18, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
"""linux/capability.h, for those that the unit has."""


def lines() -> list[tuple[str, str]]:
    """Its directives with their values, as they stand there."""
    text = Path(packaging_file(TEMPLATE)).read_text(encoding="utf-8")
    split = [line.partition("=") for line in text.splitlines() if line and line[0] not in "#["]
    return [(key, value) for key, _, value in split]


def capabilities() -> list[str]:
    """What CapabilityBoundingSet= leaves, such as ``CAP_SYS_ADMIN``."""
    return dict(lines())["CapabilityBoundingSet"].split()


def mask(names: list[str]) -> int:
    """As CapEff in /proc/<pid>/status has them."""
    return sum(1 << NUMBERS[name] for name in names)


def only(names: list[str]) -> list[str]:
    """What to put before a command so that it has these capabilities, and can get no others."""
    kept = "".join(f",+{name.removeprefix('CAP_').lower()}" for name in names)
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all{kept}", "--"]


def held(pid: int) -> int:
    """What a process can do now, as a mask."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("CapEff:")[1].split()[0], 16)


def hardening() -> list[str]:
    """The directives after UMask=: what a service has to be started with to be confined as the daemon is."""
    found = [f"{key}={value}" for key, value in lines()]
    first = next(number for number, line in enumerate(found) if line.startswith("CapabilityBoundingSet="))
    return [line for line in found[first:] if not line.startswith("WantedBy=")]
