"""What a look at the host finds: facts, each with how bad it is and what to do about it."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Severity(enum.Enum):
    """How bad it is, worst first: the order in which monitoring plugins let one finding outrank another.

    What is known to be broken outranks what could not be told.
    """

    CRITICAL = 2
    WARNING = 1
    UNKNOWN = 3
    OK = 0

    @property
    def exit_code(self) -> int:
        """The exit code by which monitoring systems know it."""
        return self.value

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. ``text`` says what is, ``advice`` what to do (empty only where all is well)."""

    subject: str
    severity: Severity
    text: str
    advice: str = ""
    name: str = ""
    """Which one, where there are several of the subject: the container's name, as it is; it may be hostile."""
    pid: int | None = None
    """Of a container's init."""

    def __post_init__(self) -> None:
        assert self.advice or self.severity is Severity.OK, self


@dataclass(frozen=True, slots=True)
class Counts:
    """How many containers there are."""

    running: int
    """All that were looked at."""
    attached: int
    """Those that have all their views and were answered."""
    ignored: int
    """Those left out on purpose."""


def worst(findings: Iterable[Finding]) -> Severity:
    """The state of the whole. Without a single finding nothing is known."""
    return min((finding.severity for finding in findings), key=lambda one: one.rank, default=Severity.UNKNOWN)
