"""Starts and withdrawals are counted over daemons, whoever withdraws."""

import signal

import psutil

from procview.history import History
from tests.daemon.process import Place, eventually, needs_mount

pytestmark = needs_mount


def test_a_stop_and_a_kill_are_counted_and_told(place: Place) -> None:
    history = History(str(place.run_directory))
    first = place.start()
    read = history.read()
    assert (read["starts"], read["takeovers"], read["withdrawals"]) == (1, 0, 0)
    assert "[published]" not in first.said
    first.stop()
    assert history.read()["withdrawn_at_ns"] > 0
    second = place.start()
    second.says("[published]")
    read = history.read()
    assert (read["starts"], read["withdrawals"], read["withdrawn_at_ns"]) == (2, 1, 0)
    second.process.send_signal(signal.SIGKILL)
    second.process.wait()
    eventually(lambda: history.read()["withdrawn_at_ns"] > 0, "the guard's withdrawal")
    third = place.start()
    third.says("[published]")
    after = history.read()
    assert (after["starts"], after["withdrawals"]) == (3, 2)
    assert after["withdrawn_ns"] > read["withdrawn_ns"] > 0
    third.stop()


def test_a_successor_leaves_no_gap(place: Place) -> None:
    history = History(str(place.run_directory))
    first = place.start()
    first.process.send_signal(signal.SIGUSR2)
    assert first.ends() == 0
    second = psutil.Process(place.owner())
    try:
        eventually(lambda: history.read()["starts"] == 2, "the successor")
        read = history.read()
        assert (read["withdrawals"], read["withdrawn_at_ns"]) == (0, 0)
    finally:
        second.terminate()
        eventually(lambda: not second.is_running(), "its end")
