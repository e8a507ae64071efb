"""What is said of one container: its places, what to call it, and what became of a read."""

import os
import subprocess

import pytest

from procview.check.commands import Commands
from procview.check.containers import Looks, Question, findings
from procview.check.daemon import Service, State
from procview.check.findings import Counts, Finding, Severity
from procview.children import Answer
from procview.mounts import parse_mountinfo
from procview.slots.containers import Container, has_place, is_running, running
from procview.slots.skeleton import Skeleton
from tests.daemon.process import eventually

CPU = "sys/devices/system/cpu"
SERVICE = Service(State.SERVING, Finding("daemon", Severity.OK, "serves"), "0:50")
QUESTION = Question(Skeleton("/nowhere"), SERVICE, use_slots=True, commands=Commands(("--config", "/a b")))


def looks(*containers: Container) -> Looks:
    return Looks(QUESTION, {}, containers)


def container(name: str) -> Container:
    return Container(4711, 77, name, "sleep")


@pytest.mark.parametrize(
    ("answer", "severity", "words"),
    [
        (Answer(text=""), Severity.OK, "answered"),
        (Answer(timed_out=True), Severity.CRITICAL, "/proc/meminfo was not answered within 0.4 s"),
        (Answer(error="[Errno 107] gone"), Severity.CRITICAL, "/proc/meminfo cannot be read: [Errno 107] gone"),
        (Answer(), Severity.UNKNOWN, "no time was left"),
    ],
)
def test_what_became_of_the_read(answer: Answer, severity: Severity, words: str) -> None:
    finding = looks(container("web")).answered(container("web"), answer)
    assert finding.severity is severity
    assert words in finding.text
    assert (finding.name, finding.pid) == ("web", 4711)


@pytest.mark.parametrize("name", ["web", "a" * 64, "my_web-1.x:y"])
def test_a_plain_name_stands_in_advice(name: str) -> None:
    finding = looks(container(name)).answered(container(name), Answer(timed_out=True))
    assert finding.advice.endswith(
        f"procview detach {name} --config '/a b'; then procview attach {name} --config '/a b'"
    )


@pytest.mark.parametrize("name", ["", "-rf", "$(reboot)", "we b", "web\n", "w'eb", "\udcff", "a;b", "x" * 100])
def test_any_other_name_does_not(name: str) -> None:
    finding = looks(container(name)).answered(container(name), Answer(timed_out=True))
    assert "procview attach --pid 4711 " in finding.advice
    assert finding.advice.isprintable()
    assert not name or name not in finding.advice


def test_a_name_that_two_have_does_not_either() -> None:
    finding = looks(container("web"), container("web")).answered(container("web"), Answer(timed_out=True))
    assert "procview attach --pid 4711 " in finding.advice


ROOT = "20 1 8:1 / / rw - ext4 /dev/sda rw"
PROC = "21 20 0:9 / /proc rw - proc proc rw"
SYS = "22 20 0:10 / /sys ro - sysfs sysfs ro"


@pytest.mark.parametrize(
    ("mounts", "proc", "sys"),
    [
        ([ROOT, PROC, SYS], True, True),
        ([ROOT, PROC], True, False),
        ([ROOT], False, False),
        ([], False, False),
        ([ROOT, PROC, SYS, "23 21 0:11 / /proc rw - tmpfs tmpfs rw"], False, True),
        ([ROOT, PROC, SYS, "23 22 0:11 / /sys/devices rw - tmpfs tmpfs rw"], True, False),
        ([ROOT, PROC, SYS, "23 22 0:10 /devices/virtual /sys/devices/virtual rw - sysfs sysfs rw"], True, True),
    ],
)
def test_a_container_without_the_file_misses_no_view(mounts: list[str], proc: bool, sys: bool) -> None:
    table = list(parse_mountinfo("\n".join(mounts)))
    assert (has_place(table, "proc/meminfo"), has_place(table, "proc/pressure"), has_place(table, CPU)) == (
        proc,
        proc,
        sys,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="pid namespaces can be made by root only")
def test_a_container_that_ends_meanwhile_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["unshare", "--kill-child", "-m", "-p", "-f", "--mount-proc", "sleep", "1000"])
    try:
        eventually(lambda: [one for one in running() if one.command == "sleep"], "the container")
        seen = running()
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not all(is_running(one) for one in seen), "its end")
    monkeypatch.setattr("procview.check.containers.running", lambda: [one for one in seen if not is_running(one)])
    assert list(findings(QUESTION)) == [Counts(running=0, attached=0, ignored=0)]
