"""Whether the daemons of this run have the fast lane in front of pyfuse3: ``pytest --no-lane`` says they have not."""

import os

VARIABLE = "PROCVIEW_TEST_LANE"
"""How child processes, and guests, are told."""


def is_wanted() -> bool:
    return os.environ.get(VARIABLE) != "no"


def options() -> list[str]:
    """For ``procview serve``."""
    return ["--lane" if is_wanted() else "--no-lane"]
