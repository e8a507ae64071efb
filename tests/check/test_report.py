"""What is printed: which finding counts, what the first line says, and that names cannot forge anything."""

import json
import time
from collections.abc import Iterator

import pytest

from procview.check import report
from procview.check.findings import Counts, Finding, Severity, worst
from procview.check.looking import Report, collected
from tests.timing import patient

OK = Finding("daemon", Severity.OK, "serves")
WARNING = Finding("container", Severity.WARNING, "no views", "attach it", "web", 7)
CRITICAL = Finding("hook", Severity.CRITICAL, "/hook is missing", "install it")
UNKNOWN = Finding("kernel", Severity.UNKNOWN, "no time left", "look again")


@pytest.mark.parametrize(
    ("findings", "severity", "code"),
    [
        ([OK], Severity.OK, 0),
        ([OK, WARNING], Severity.WARNING, 1),
        ([WARNING, UNKNOWN, OK], Severity.WARNING, 1),
        ([WARNING, UNKNOWN, CRITICAL, OK], Severity.CRITICAL, 2),
        ([OK, UNKNOWN], Severity.UNKNOWN, 3),
        ([], Severity.UNKNOWN, 3),
    ],
)
def test_the_worst_counts(findings: list[Finding], severity: Severity, code: int) -> None:
    assert worst(findings) is severity
    assert severity.exit_code == code


def test_what_is_wrong_without_advice_cannot_be_said() -> None:
    with pytest.raises(AssertionError):
        Finding("daemon", Severity.WARNING, "is odd")


def test_the_worst_stands_first_and_advice_below_what_it_is_for() -> None:
    other = Finding("container", Severity.WARNING, "no views", "attach it", "db", 8)
    text = report.text(Report((OK, WARNING, other, CRITICAL), Counts(3, 1, 0)))
    assert text.splitlines() == [
        "PROCVIEW CRITICAL - hook: /hook is missing; 2 containers: no views | running=3 attached=1 ignored=0",
        "CRITICAL  hook: /hook is missing",
        "          -> install it",
        "WARNING   container web (pid 7): no views",
        "WARNING   container db (pid 8): no views",
        "          -> attach it",
        "OK        daemon: serves",
    ]


def test_when_all_is_well_it_is_short() -> None:
    views = [Finding("container", Severity.OK, "views are answered", name=str(number)) for number in range(100)]
    kernel = [Finding("kernel", Severity.OK, "new"), Finding("kernel", Severity.OK, "has FUSE")]
    text = report.text(Report((OK, *views, *kernel), Counts(100, 100, 2)))
    assert text.splitlines() == [
        "PROCVIEW OK - the daemon serves; 100 containers with views | running=100 attached=100 ignored=2",
        "OK        daemon: serves",
        "OK        100 containers: views are answered",
        "OK        kernel: new; has FUSE",
    ]


def test_the_first_line_stays_short() -> None:
    findings = [Finding("slots", Severity.CRITICAL, f"trouble {number}", "mend it") for number in range(9)]
    assert report.summary(Report(tuple(findings))) == "slots: trouble 0; slots: trouble 1; slots: trouble 2; and 6 more"


NAME = "w|b\n\x1b[2JOK \u202e" + "x" * 200


def test_a_name_forges_no_line_and_no_number() -> None:
    finding = Finding("container", Severity.WARNING, "no views", "attach it", NAME)
    text = report.text(Report((finding,), Counts(1, 0, 0)))
    assert len(text.splitlines()) == 3
    assert all(line.isprintable() for line in text.splitlines())
    first = text.splitlines()[0]
    assert first.count("|") == 1
    assert r"w/b\n\x1b[2JOK \u202exx" in first
    assert len(first) < 200


def test_json_has_names_as_they_are() -> None:
    name = NAME + "\udcff"
    said = json.loads(report.as_json(Report((Finding("container", Severity.WARNING, "no views", "attach it", name),))))
    assert said["findings"][0]["name"] == name
    assert said["containers"] is None
    assert (said["status"], said["exit_code"]) == ("WARNING", 1)


def test_a_look_that_takes_too_long_keeps_what_was_found_and_says_where_it_was() -> None:
    def looking() -> Iterator[str | Finding | Counts]:
        yield WARNING
        yield Counts(3, 2, 1)
        yield "slots"
        time.sleep(1000)

    start = time.monotonic()
    found = collected(looking, 0.5)
    assert time.monotonic() - start < patient(5)
    assert found.findings[0] == WARNING
    assert found.counts == Counts(3, 2, 1)
    assert (found.findings[1].subject, found.findings[1].severity) == ("slots", Severity.UNKNOWN)
    assert "no time left" in found.findings[1].text


def test_a_look_that_breaks_off_is_unknown() -> None:
    def looking() -> Iterator[str | Finding | Counts]:
        yield OK
        yield "kernel"
        raise RuntimeError

    found = collected(looking, 10)
    assert found.findings[0] == OK
    assert (found.findings[1].subject, found.findings[1].severity) == ("kernel", Severity.UNKNOWN)
