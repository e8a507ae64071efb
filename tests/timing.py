"""How long things may take, where the machine is an emulated one.

A bound that a test asserts, such as "within a second", is meant for real machines, and holds there as it is written. In
a guest whose processor is emulated instruction by instruction the same takes ten to twenty times as long, for reasons
that are not procview's. tests/guest says so in the environment, and all bounds that real machines have are multiplied.
"""

import os
from collections.abc import Callable
from pathlib import Path

VARIABLE = "PROCVIEW_TEST_TIME_FACTOR"
EMULATED = 10
"""For TCG, measured: Python, runc and the kernel's own work take 6 to 12 times as long there."""

FACTOR = float(os.environ.get(VARIABLE, "1"))


def paced_settings() -> str:
    """What a daemon has to be told in order not to take this machine's pace for a hang of its own.

    Less than what it has by default, times the factor: what follows a hang takes more than that there, and all of it
    has ten seconds.
    """
    return "" if FACTOR == 1 else f"hang_seconds = {patient(0.4)}\n"


def unhurried_settings() -> str:
    """For the daemons of tests that are not about hangs: a pause of a busy machine is none. Elsewhere than on real
    machines paced_settings() has the key already.
    """
    return "hang_seconds = 20\n" if FACTOR == 1 else ""


def lateness() -> Callable[[], float]:
    """How long somebody on this machine has waited for a processor since now, in seconds, whenever it is asked: by so
    much a bound of a second may be longer, as nobody can be quicker than the kernel lets it.
    """
    begun = _waited_seconds()
    return lambda: _waited_seconds() - begun


def _waited_seconds() -> float:
    """Since the machine was booted (Documentation/accounting/psi.rst)."""
    try:
        text = Path("/proc/pressure/cpu").read_text(encoding="ascii")
    except OSError:  # a kernel without
        return 0.0
    return int(text.split("total=")[1].split()[0]) / 1e6


def patient(seconds: float) -> float:
    """A bound for this machine, from the one for real machines."""
    return seconds * FACTOR
