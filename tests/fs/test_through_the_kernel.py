"""What only the kernel can show: its cache of names, and its readers beside a view that hangs or breaks."""

import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.fs.nodes import CPU_DIR
from tests.daemon.process import Place, descriptors, eventually, needs_mount
from tests.fs.fake_daemon import DEADLINE_SECONDS

pytestmark = needs_mount


@pytest.fixture
def mount(place: Place) -> Iterator[Path]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fs.fake_daemon", place.mount, str(os.getpid())], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"mounted\n"
        yield place.mount
        server.terminate()
        assert server.wait(20) == 0
        assert not place.mount.parent.exists()
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def seen_by_another(mount: Path) -> list[str]:
    """The directories cpuN as a process sees them that has four, with a stat(2) of each."""
    script = "cd $0 && for i in 0 1 2 3 4; do test -d cpu$i && test -f cpu$i/topology/core_id && echo cpu$i; done; true"
    done = subprocess.run(["/bin/sh", "-c", script, mount / CPU_DIR], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_callers_do_not_see_each_others_names(mount: Path) -> None:
    all_four = ["cpu0", "cpu1", "cpu2", "cpu3"]
    for _ in range(20):
        assert seen_by_another(mount) == all_four
        for cpu in range(5):
            path = mount / CPU_DIR / f"cpu{cpu}"
            assert path.exists() == (path / "topology/core_id").exists() == (cpu < 2)
        assert [name for name in os.listdir(mount / CPU_DIR) if name.startswith("cpu")] == all_four[:2]
        with pytest.raises(FileNotFoundError):
            os.open(mount / CPU_DIR / "cpu2/online", os.O_RDONLY)


def test_an_open_file_outlives_the_name(mount: Path) -> None:
    with open(mount / CPU_DIR / "cpu1/online", "rb", buffering=0) as file:
        seen_by_another(mount)
        file.seek(0)
        assert file.read().startswith(b"%d " % os.getpid())


def test_a_view_that_hangs_holds_nobody_else_up(mount: Path) -> None:
    results: list[bytes] = []
    hanging = [
        threading.Thread(target=lambda: results.append((mount / "proc/diskstats").read_bytes())) for _ in range(10)
    ]
    start = time.monotonic()
    for thread in hanging:
        thread.start()
    count = 0
    while any(thread.is_alive() for thread in hanging):
        assert (mount / "proc/uptime").read_bytes().endswith(b"proc/uptime\n")
        count += 1
    for thread in hanging:
        thread.join()
    assert results == [b"host proc/diskstats\n"] * 10
    assert time.monotonic() - start >= DEADLINE_SECONDS
    assert count > 10


def test_a_reader_of_a_hanging_view_can_be_killed(mount: Path) -> None:
    reader = subprocess.Popen(["cat", mount / "proc/diskstats"], stdout=subprocess.DEVNULL)
    eventually(lambda: any(name.endswith("diskstats") for _, name in descriptors(reader.pid)), "the open file")
    reader.kill()
    reader.wait(20)
    assert (mount / "proc/uptime").read_bytes().endswith(b"proc/uptime\n")


def test_a_view_that_breaks_gives_the_host(mount: Path) -> None:
    assert (mount / "proc/swaps").read_bytes() == b"host proc/swaps\n"
    assert (mount / "proc/uptime").read_bytes().endswith(b"proc/uptime\n")


def test_a_text_larger_than_a_request(mount: Path) -> None:
    whole = f"{os.getpid()} proc/stat\n".encode() * 20_000
    assert (mount / "proc/stat").read_bytes() == whole
    fd = os.open(mount / "proc/stat", os.O_RDONLY)
    try:
        assert os.pread(fd, 1 << 20, 0) == whole
        assert os.pread(fd, 1 << 20, 300_000) == whole[300_000:]
        assert os.pread(fd, 5, len(whole) - 3) == whole[-3:]
    finally:
        os.close(fd)


def test_threads_with_any_offsets_and_sizes_on_one_descriptor(mount: Path) -> None:
    whole = f"{os.getpid()} proc/stat\n".encode() * 20_000
    fd = os.open(mount / "proc/stat", os.O_RDONLY)
    wrong: list[tuple[int, int]] = []

    def read(seed: int) -> None:
        numbers = random.Random(seed)
        for _ in range(100):
            offset, size = numbers.choice([0, numbers.randrange(len(whole) + 10)]), numbers.randrange(1, 200_000)
            if os.pread(fd, size, offset) != whole[offset : offset + size]:
                wrong.append((offset, size))

    try:
        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        os.close(fd)
    assert not wrong


def test_no_error_but_an_answer_for_odd_names(mount: Path) -> None:
    for name in (b"\xff\xfe", b"cpu\xff", b"cpu-1", b"cpu01", b"a" * 255, b"cpu" + b"9" * 200):
        with pytest.raises(FileNotFoundError):
            os.stat(os.fsencode(mount / CPU_DIR) + b"/" + name)
    with pytest.raises(OSError) as caught:
        os.stat(mount / CPU_DIR / ("a" * 256))
    assert caught.value.errno in (errno.ENAMETOOLONG, errno.ENOENT)
