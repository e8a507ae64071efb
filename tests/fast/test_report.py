"""What an engine tells of containers and of its own work, for who looks from outside."""

import os
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import PROC_VIEWS, Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


def test_every_render_is_counted_once_and_its_time_with_it(engine: Engine) -> None:
    before = engine.latencies()["proc/uptime"]
    view = engine.open(os.getpid(), "proc/uptime")
    for _ in range(10):
        view.render()
    total_ns, buckets = engine.latencies()["proc/uptime"]
    assert sum(number for _, number in buckets) - sum(number for _, number in before[1]) == 10
    assert 0 < total_ns - before[0] < 10e9
    bounds = [bound for bound, _ in buckets]
    assert bounds == [*sorted(bounds[:-1]), 0]
    assert set(engine.latencies()) >= {f"proc/{name}" for name in PROC_VIEWS}
    assert engine.counters()["reads"] == 10


def test_a_text_for_who_is_no_reader_is_counted_nowhere(engine: Engine) -> None:
    view = engine.open(os.getpid(), "proc/meminfo")
    text = engine.text(os.getpid(), "proc/meminfo")
    assert text is None or text.split()[:2] == view.render().split()[:2]
    (known,) = engine.containers()
    assert (known["reads"], engine.counters()["reads"]) == (1, 1)


def test_a_fallback_is_counted_by_file_and_reason_and_a_look_is_none(engine: Engine) -> None:
    if not os.path.exists("/proc/pressure/cpu"):
        pytest.skip("this kernel keeps no pressure numbers")
    assert engine.kind(0, "proc/pressure/cpu") == "file"
    assert engine.fallbacks() == {}
    engine.open(0, "proc/pressure/cpu")
    engine.open(0, "proc/stat")
    engine.open(0, "sys/devices/system/cpu/cpu0/topology/core_id")
    assert engine.fallbacks() == {
        ("proc/pressure/cpu", "unknown-caller"): 1,
        ("proc/stat", "unknown-caller"): 1,
        ("sys", "unknown-caller"): 1,
    }


def test_of_whom_nothing_is_known_there_are_no_numbers(engine: Engine) -> None:
    assert engine.numbers(0) is None
    assert engine.text(0, "proc/meminfo") is None
    assert engine.containers() == []


def test_containers_are_listed_while_others_come_and_go(engine: Engine) -> None:
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            engine.open(os.getpid(), "proc/uptime").render()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2000):
            for known in engine.containers():
                assert known["cgroup"].startswith("/")
                assert known["init_pid"] >= 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
