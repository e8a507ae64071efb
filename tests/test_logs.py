"""Log lines that a container can cause come at a bounded rate, and none is lost silently; each has an id that
docs/operations.md explains.
"""

import ast
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.logs import _BOUNDED, BURST, REFILL_SECONDS, VARIABLE, BoundedRate

ROOT = Path(__file__).parent.parent
STAYS = "serving"
"""An event that is never held back."""


def record(event: str | None, name: str = "procview.fs", reason: str | None = None) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, "file", 1, "odd %d", (7,), None)
    if event is not None:
        made.event = event
        made.reason = reason
    return made


def test_a_burst_and_then_one_per_period() -> None:
    now = 100.0
    bounded = BoundedRate(lambda: now)
    assert sum(bounded.filter(record("fallback")) for _ in range(1000)) == BURST
    now += REFILL_SECONDS
    line = record("fallback")
    assert bounded.filter(line)
    assert line.suppressed == 1000 - BURST  # type: ignore[attr-defined]
    assert not bounded.filter(record("fallback"))
    now += 100 * REFILL_SECONDS
    assert sum(bounded.filter(record("fallback")) for _ in range(1000)) == BURST


def test_events_and_reasons_have_buckets_of_their_own_and_other_lines_have_none() -> None:
    bounded = BoundedRate(lambda: 100.0)
    for _ in range(1000):
        bounded.filter(record("fallback", reason="deadline"))
    assert bounded.filter(record("hooked"))
    assert bounded.filter(record("fallback", reason="no-cgroup"))
    assert not bounded.filter(record("fallback", reason="deadline"))
    assert all(bounded.filter(record(STAYS)) for _ in range(100))


def test_libraries_are_bounded_too() -> None:
    bounded = BoundedRate(lambda: 100.0)
    assert sum(bounded.filter(record(None, "pyfuse3._pyfuse3")) for _ in range(100)) == BURST
    assert bounded.filter(record(None, "trio"))


# --- as they are written ---------------------------------------------------------------------------------------------

_SPEAKS = """
from procview.logs import Log, set_up
set_up("info")
log = Log("procview.x")
log.info("serving", "%s is there", "a")
for _ in range(9):
    log.warning("fallback", "a name: %s", "x\\n<0>forged\\x1b[1m", reason="deadline")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("crashed", "oh")
"""


def said(log_format: str | None, journal: bool = False) -> list[str]:
    """The lines that a program writes."""
    environment = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "JOURNAL_STREAM")}
    if log_format is not None:
        environment[VARIABLE] = log_format
    program = _SPEAKS
    if journal:
        program = (
            "import os\nseen = os.fstat(2)\nos.environ['JOURNAL_STREAM'] = f'{seen.st_dev}:{seen.st_ino}'\n" + program
        )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_a_line_of_text_has_its_id_and_stays_one_line() -> None:
    lines = said(None)
    assert lines == said("text")
    assert lines[0] == "procview: a is there [serving]"
    assert lines[1:6] == [r"procview: a name: x\n<0>forged\x1b[1m [fallback]"] * BURST
    assert lines[6] == "procview: oh [crashed]"
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_the_journal_gets_priorities() -> None:
    lines = said("text", journal=True)
    assert lines[0] == "<6>a is there [serving]"
    assert {line[:3] for line in lines[1:6]} == {"<4>"}
    assert {line[:3] for line in lines[6:]} == {"<3>"}
    assert json.loads(said("json", journal=True)[0].removeprefix("<6>"))["event"] == "serving"


def test_json_is_one_object_a_line() -> None:
    first, *middle, last = map(json.loads, said("json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", first.pop("time"))
    assert first.pop("pid") > 1
    assert first == {"level": "info", "event": "serving", "message": "a is there"}
    assert len(middle) == BURST
    assert middle[0]["message"] == "a name: x\n<0>forged\x1b[1m"
    assert middle[0]["reason"] == "deadline"
    assert last["event"] == "crashed"
    assert last["level"] == "error"
    assert last["traceback"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("wrong", ["", "JSON", "xml"])
def test_another_format_is_refused(wrong: str) -> None:
    environment = {**os.environ, VARIABLE: wrong}
    done = subprocess.run([sys.executable, "-c", _SPEAKS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"procview: {VARIABLE}={wrong!r} is not allowed; it must be text or json\n"


# --- ids -------------------------------------------------------------------------------------------------------------


def logged() -> Iterator[tuple[str, str]]:
    """The id and the level of every call that logs, by the source."""
    for path in sorted((ROOT / "procview").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func.value) in ("log", "Log('procview')"):
                event = ast.literal_eval(node.args[0])
                assert isinstance(event, str), f"{path}:{node.lineno}"
                yield event, node.func.attr.replace("exception", "error")


def test_every_id_is_explained_with_its_levels() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = text.split("\n## The log\n")[1].split("\n## ")[0]
    explained = re.findall(r"^\| `([a-z-]+)` \| ([a-z, ]+) \|", section, re.MULTILINE)
    levels: dict[str, set[str]] = {"library": {"warning", "error"}}
    for event, level in logged():
        levels.setdefault(event, set()).add(level)
    assert len(levels) > 50
    assert dict(explained) == {event: ", ".join(sorted(found)) for event, found in levels.items()}
    assert [event for event, _ in explained] == sorted(levels)
    assert levels.keys() >= _BOUNDED


def test_nobody_logs_by_another_way() -> None:
    for path in sorted((ROOT / "procview").rglob("*.py")):
        if path.name != "logs.py":
            assert "logging" not in path.read_text(encoding="utf-8").split(), path
