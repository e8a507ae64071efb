"""Questions in children: answers, errors, silence; and none of it keeps the asker."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from procview.children import Answer, ask, ask_all, reaped

SILENT = Answer(timed_out=True)


def silence() -> str:
    time.sleep(1000)
    return "too late"


def failure() -> str:
    raise ValueError("no such thing")


def death() -> str:
    os._exit(1)


def test_an_answer_an_error_and_silence() -> None:
    assert ask(lambda: "yes\n|\udcff", 5) == Answer(text="yes\n|\udcff")
    assert ask(failure, 5) == Answer(error="no such thing")
    assert ask(silence, 1) == SILENT
    assert ask(death, 5) == Answer(error="the process that read it has ended")


def test_nobody_asked_is_nobody_answered() -> None:
    assert ask_all([], each_seconds=1, all_seconds=1) == []


def test_each_answer_goes_with_its_question_whatever_becomes_of_the_others() -> None:
    def answer(number: int) -> Callable[[], str]:
        return lambda: str(number)

    questions = [answer(number) for number in range(40)]
    questions[3], questions[17], questions[18], questions[39] = silence, failure, death, silence
    answers = ask_all(questions, each_seconds=2, all_seconds=20)
    assert (answers[3], answers[39]) == (SILENT, SILENT)
    assert answers[17].error == "no such thing"
    assert answers[18].error is not None
    assert [answer.text for number, answer in enumerate(answers) if number not in (3, 17, 18, 39)] == [
        str(number) for number in range(40) if number not in (3, 17, 18, 39)
    ]


def test_the_whole_has_a_deadline_and_the_rest_is_not_asked() -> None:
    start = time.monotonic()
    answers = ask_all([silence] * 100, each_seconds=0.1, all_seconds=1.5)
    assert time.monotonic() - start < 5
    assert SILENT in answers
    assert answers[-1] == Answer()
    assert not answers[-1].asked


def forked() -> set[psutil.Process]:
    """Our children that have executed nothing else, as guests beside these tests have."""
    ours = psutil.Process()
    found = set()
    for child in ours.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == ours.name():
                found.add(child)
    return found


def test_no_child_is_left() -> None:
    before = forked()
    ask_all([silence, failure, death, lambda: "yes"] * 2, each_seconds=0.05, all_seconds=1)
    # One that was killed on a loaded machine may not have ended yet when it was given up: it does, and soon.
    deadline = time.monotonic() + 5
    while reaped() or forked() - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_holds_none_of_our_streams_and_dies_with_us() -> None:
    """Whoever reads our output would else wait for a child that cannot be killed."""
    program = """if True:
        import os, time
        from procview.children import Child
        Child(lambda send: (send(1), time.sleep(1000)))
        child = Child(lambda send: (send([os.readlink(f"/proc/self/fd/{n}") for n in range(3)]), time.sleep(1000)))
        print(child.received()[0], child._pid, flush=True)
        os._exit(0)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    streams, _, pid = done.stdout.strip().rpartition(" ")
    assert streams == str(["/dev/null"] * 3)
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
