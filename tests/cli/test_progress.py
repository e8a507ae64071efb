"""The bar for what takes long: on a terminal, after a second, and nowhere else."""

import subprocess
import sys

from tests.cli.terminal import output_of

_WORK = """
import sys
from procview.cli import progress
progress.PATIENCE_SECONDS = {patience}
with progress.progress("containers", 3) as told:
    for done in (1, 2, 3):
        told(done)
print("done", "rich" in sys.modules)
"""


def _program(patience: str) -> list[str]:
    return [sys.executable, "-c", _WORK.format(patience=patience)]


def test_what_takes_long_shows_how_far_it_is() -> None:
    said = output_of(_program("-1"))
    assert "containers" in said
    assert "2/3" in said
    assert said.endswith("done True\r\n")
    assert "\x1b[?25h" in said[said.rindex("\x1b[?25l") :]  # the cursor is back


def test_what_is_quick_shows_nothing() -> None:
    assert output_of(_program("1000")) == "done False\r\n"


def test_without_a_terminal_nothing_is_shown() -> None:
    done = subprocess.run(_program("-1"), capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done False\n", "")
