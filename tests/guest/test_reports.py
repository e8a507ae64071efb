"""Results of tests inside become results of the run outside; a run that was cut short goes on where it was."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.guest import inside

_ROOT = Path(__file__).parents[2]
_INNER = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_passes(number):
    pass

def test_fails():
    assert 1 == 2, "on purpose"

def test_skips():
    pytest.skip("no reason")
"""
_OUTER = """
from pathlib import Path
from tests.guest.reports import Reader

def test_guest(request):
    reader = Reader(Path("reports"), "the-guest", request.session)
    reader.tell()
    reader.tell()  # nothing is told twice
    assert reader.failed == 1
"""


def _pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "-rfs", "-p", "no:cacheprovider", "--rootdir", ".", *arguments]
    variables = os.environ | {inside.VARIABLE: str(directory / "reports"), "PYTHONPATH": str(_ROOT)}
    return subprocess.run(argv, cwd=directory, env=variables, capture_output=True, text=True, timeout=60, check=False)


def _inner(directory: Path) -> list[dict[str, object]]:
    """Run what would run in a guest; the records of its file."""
    (directory / "test_inner.py").write_text(_INNER, encoding="ascii")
    assert _pytest(directory, "-p", "tests.guest.inside", "test_inner.py").returncode == 1
    return [json.loads(line) for line in (directory / "reports").read_text(encoding="utf-8").splitlines()]


def test_each_test_inside_is_one_outside(tmp_path: Path) -> None:
    _inner(tmp_path)
    (tmp_path / "test_outer.py").write_text(_OUTER, encoding="ascii")
    result = _pytest(tmp_path, "test_outer.py")
    assert result.returncode == 1
    assert "1 failed, 4 passed, 1 skipped in" in result.stdout  # its own test is the fourth
    assert "the-guest/test_inner.py ...Fs" in result.stdout
    assert "FAILED the-guest/test_inner.py::test_fails - AssertionError: on purpose" in result.stdout
    assert "[guest the-guest] no reason" in result.stdout
    assert ">       assert 1 == 2" not in result.stdout.split("short test summary")[1]
    assert 'assert 1 == 2, "on purpose"' in result.stdout


def test_a_run_that_was_cut_short_goes_on_where_it_was(tmp_path: Path) -> None:
    lines = [json.dumps(record) for record in _inner(tmp_path)]
    second = next(number for number, line in enumerate(lines) if "[1]" in line)
    (tmp_path / "reports").write_text("\n".join(lines[:second]) + "\n" + lines[second][:40], encoding="utf-8")
    records = _inner(tmp_path)
    assert [record["collected"] for record in records if "collected" in record] == [5, 4]
    finished = [str(record["nodeid"]).partition("::")[2] for record in records if record.get("when") == "teardown"]
    assert finished == ["test_passes[0]", "test_passes[1]", "test_passes[2]", "test_fails", "test_skips"]
