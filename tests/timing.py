"""How long things may take, where the machine is an emulated one.

A bound that a test asserts, such as "within a second", is meant for real machines, and holds there as it is written. In
a guest whose processor is emulated instruction by instruction the same takes ten to twenty times as long, for reasons
that are not procview's. tests/guest says so in the environment, and all bounds that real machines have are multiplied.
"""

import os

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


def patient(seconds: float) -> float:
    """A bound for this machine, from the one for real machines."""
    return seconds * FACTOR
