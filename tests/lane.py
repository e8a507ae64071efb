"""Whether the daemons of this run have the fast lane in front of pyfuse3: ``pytest --no-lane`` says they have not."""

import os

VARIABLE = "PROCVIEW_TEST_LANE"
"""How child processes, and guests, are told."""


def is_wanted() -> bool:
    return os.environ.get(VARIABLE) != "no"


def options(wanted: bool | None = None) -> list[str]:
    """For ``procview serve``; ``wanted`` for a test that is about one of the two."""
    return ["--lane" if (is_wanted() if wanted is None else wanted) else "--no-lane"]
