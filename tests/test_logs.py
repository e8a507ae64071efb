"""Log lines that a container can cause come at a bounded rate, and none is lost silently."""

import logging

from procview.logs import BURST, REFILL_SECONDS, BoundedRate


def record(event: str | None, name: str = "procview.fs") -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, "file", 1, "odd %d", (7,), None)
    if event is not None:
        made.event = event
    return made


def test_a_burst_and_then_one_per_period() -> None:
    now = 100.0
    bounded = BoundedRate(lambda: now)
    assert sum(bounded.filter(record("a")) for _ in range(1000)) == BURST
    now += REFILL_SECONDS
    line = record("a")
    assert bounded.filter(line)
    assert line.getMessage() == f"odd 7 ({1000 - BURST} more suppressed)"
    assert not bounded.filter(record("a"))
    now += 100 * REFILL_SECONDS
    assert sum(bounded.filter(record("a")) for _ in range(1000)) == BURST


def test_events_have_buckets_of_their_own_and_other_lines_have_none() -> None:
    bounded = BoundedRate(lambda: 100.0)
    for _ in range(1000):
        bounded.filter(record("a"))
    assert bounded.filter(record("b"))
    assert all(bounded.filter(record(None)) for _ in range(100))


def test_libraries_are_bounded_too() -> None:
    bounded = BoundedRate(lambda: 100.0)
    assert sum(bounded.filter(record(None, "pyfuse3._pyfuse3")) for _ in range(100)) == BURST
