"""The measurement of kills: it works for real, it cleans up, and it can fail."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.compile import CHECKOUT
from tests import lane
from tests.bench.test_soak import left_of, privileges
from tests.timing import patient

__all__ = ["privileges"]

pytestmark = [
    pytest.mark.usefixtures("privileges"),
    pytest.mark.skipif(not lane.continues(), reason=lane.WHY_NOT_CONTINUED),
]

KILLS = 3
EXPECTS_ANOTHER_LIMIT = """
from dataclasses import replace
from bench import chaos

def wrong(limits, right=chaos.expected_of):
    return replace(right(limits), memory_kb=right(limits).memory_kb + 4)

chaos.expected_of = wrong
raise SystemExit(chaos.main())
"""


def _chaos(tmp_path: Path, *program: str) -> tuple[int, dict[str, Any], str]:
    """Its status, what it saved and what it said. No stall is too long: other tests may run on this machine."""
    saved = tmp_path / "chaos.json"
    options = [
        "--kills",
        str(KILLS),
        "--containers",
        "2",
        "--seed",
        "1",
        "--takeover-seconds",
        "60",
        "--json",
        str(saved),
    ]
    with subprocess.Popen([sys.executable, *program, *options], cwd=CHECKOUT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # fmt: skip
        said, _ = process.communicate(timeout=patient(120))
    assert not left_of(process.pid)
    assert saved.exists(), said
    return process.returncode, json.loads(saved.read_text()), said


@pytest.mark.slow
def test_kills_are_noticed_by_nobody(tmp_path: Path) -> None:
    _, found, said = _chaos(tmp_path, "-m", "bench.chaos")
    values = {one["what"]: (one["value"], one["kept"]) for one in found["verdicts"]}
    assert values.pop("p99 of the longest read after it")[0] > 0
    assert all(kept for _, kept in values.values()), said
    assert found["counted"]["reads"] > 0


@pytest.mark.slow
def test_a_wrong_number_is_found(tmp_path: Path) -> None:
    status, found, said = _chaos(tmp_path, "-c", EXPECTS_ANOTHER_LIMIT)
    assert status == 1, said
    assert found["counted"]["wrong"] > 0
    assert "MemTotal" in said
