"""The file system through the kernel: a daemon in a process of its own, with the lane on each transport and
without it, read as programs read it.
"""

import errno
import mmap
import os
import platform
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview._fast.engine import PROC_VIEWS
from procview.fs.nodes import CPU_DIR, NODE_DIR, inode_of
from tests import lane
from tests.daemon.process import Place, eventually, is_mounted, needs_mount

pytestmark = needs_mount


@pytest.fixture
def mount(place: Place, mode: str) -> Iterator[Path]:
    daemon = place.start(options=lane.options(mode))
    yield place.mount
    assert daemon.process.poll() is None, daemon.said
    assert "unexpected" not in daemon.said, daemon.said
    daemon.stop()


def test_there_is_a_lane_where_one_is_wanted(place: Place, mode: str) -> None:
    daemon = place.start(options=lane.options(mode))
    (place.mount / "proc/meminfo").read_bytes()
    daemon.process.send_signal(signal.SIGUSR1)
    daemon.says("rss_bytes=")
    assert ("lane_answered=" in daemon.said) == (mode != lane.NONE)
    by_ring = re.search(r"lane_by_ring=([0-9]+)", daemon.said)
    assert (by_ring is not None and int(by_ring[1]) > 0) == (mode == lane.RING)
    daemon.stop()


def files_below(directory: Path) -> list[Path]:
    return [Path(folder) / name for folder, _, names in os.walk(directory) for name in names]


def content(path: Path) -> bytes | int:
    """What is in ``path``, or the errno that reading it gives."""
    try:
        return path.read_bytes()
    except OSError as error:
        return error.errno or 0


def test_every_file_can_be_read(mount: Path) -> None:
    found = files_below(mount)
    for view in PROC_VIEWS:  # pressure is not there under cgroup v1
        assert mount / "proc" / view in found or view.startswith("pressure/") or not Path("/proc", view).exists()
    for path in found:
        text = content(path)
        if isinstance(text, bytes):
            assert text.endswith(b"\n") or not text, path
        else:  # some files of sysfs say so themselves, e.g. power/autosuspend_delay_ms with EIO
            assert content(Path("/", path.relative_to(mount))) == text


def in_chunks(path: Path, size: int) -> bytes:
    """The whole of ``path``, read ``size`` bytes at a time."""
    text = b""
    fd = os.open(path, os.O_RDONLY)
    try:
        while chunk := os.read(fd, size):
            text += chunk
        assert os.read(fd, size) == b""
        assert os.pread(fd, size, len(text)) == b""
        assert os.pread(fd, size, 1 << 40) == b""
    finally:
        os.close(fd)
    return text


def test_listing_names_and_attributes(mount: Path) -> None:
    assert sorted(os.listdir(mount)) == ["proc", "sys"]
    trees = ["cpu", "node"] if Path("/", NODE_DIR).is_dir() else ["cpu"]
    assert os.listdir(mount / "sys/devices/system") == trees
    meminfo = (mount / "proc/meminfo").stat()
    assert (meminfo.st_size, stat.S_IMODE(meminfo.st_mode), meminfo.st_uid, meminfo.st_gid) == (0, 0o444, 0, 0)
    assert stat.S_IMODE((mount / "proc").stat().st_mode) == 0o555
    assert meminfo.st_ino == inode_of("proc/meminfo")
    for entry in os.scandir(mount / CPU_DIR):
        assert entry.inode() == entry.stat().st_ino == inode_of(f"{CPU_DIR}/{entry.name}")
    seen = subprocess.run(["ls", "-a", mount], capture_output=True, text=True, check=True).stdout.split()
    assert seen == [".", "..", "proc", "sys"]


def test_links_between_cpus_and_nodes_lead_somewhere(mount: Path) -> None:
    if not Path("/", NODE_DIR).is_dir():
        pytest.skip("this kernel has no memory nodes")
    for node in (mount / NODE_DIR).glob("node[0-9]*"):
        for to_cpu in node.glob("cpu[0-9]*"):
            assert stat.S_IMODE(to_cpu.lstat().st_mode) == 0o777
            assert to_cpu.resolve(strict=True) == mount / CPU_DIR / to_cpu.name
            to_node = mount / CPU_DIR / to_cpu.name / node.name
            assert os.readlink(to_node) == f"../../node/{node.name}"
            assert to_node.resolve(strict=True) == node
            assert (to_node / "cpulist").read_bytes() == (node / "cpulist").read_bytes()
    with pytest.raises(OSError, match="Invalid argument"):
        os.readlink(mount / NODE_DIR / "online")


@pytest.mark.parametrize("name", ["proc/nothing", "proc/version", "proc/1", f"{CPU_DIR}/cpu99999", f"{CPU_DIR}/smt"])
def test_other_names_are_not_there(mount: Path, name: str) -> None:
    for _ in range(2):
        assert not (mount / name).exists()


def test_sizes_and_offsets_concatenate(mount: Path) -> None:
    path = mount / CPU_DIR / "kernel_max"
    whole = Path(f"/{CPU_DIR}/kernel_max").read_bytes()
    for size in (1, 2, 3, 7, 4096, 1 << 20):
        assert in_chunks(path, size) == whole


def test_chunks_of_a_moving_file_come_from_one_rendering(mount: Path) -> None:
    for size in (1, 13, 100):
        lines = [line.split() for line in in_chunks(mount / "proc/stat", size).decode().splitlines()]
        assert lines[0][0] == "cpu"
        assert lines[-1][0] == "softirq"
        # A text torn between two renderings has a sum that is not the sum of its parts, or a broken line somewhere.
        assert {len(line) for line in lines if line[0].startswith("cpu")} == {11}
        assert all(word.isdecimal() for line in lines for word in line[1:])


def test_rewinding_renders_afresh(mount: Path) -> None:
    with open(mount / "proc/uptime", "rb", buffering=0) as file:
        first = file.read()

        def moved() -> bool:
            file.seek(0)
            return file.read() != first

        eventually(moved, "another uptime")


def test_eight_threads_on_one_descriptor(mount: Path) -> None:
    path = mount / CPU_DIR / "kernel_max"
    whole = path.read_bytes()
    fd = os.open(path, os.O_RDONLY)
    wrong: list[tuple[int, int, bytes]] = []

    def read(seed: int) -> None:
        numbers = random.Random(seed)
        for _ in range(300):
            offset, size = numbers.randrange(len(whole) + 3), numbers.randrange(1, 5000)
            text = os.pread(fd, size, offset)
            if text != whole[offset : offset + size]:
                wrong.append((offset, size, text))

    try:
        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        os.close(fd)
    assert not wrong


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND])
def test_opening_for_writing_is_eacces(mount: Path, flags: int) -> None:
    for name in ("proc/meminfo", f"{CPU_DIR}/online", "proc/pressure/cpu"):
        if (mount / name).exists():
            with pytest.raises(PermissionError) as caught:
                os.open(mount / name, flags)
            assert caught.value.errno == errno.EACCES


def test_changes_are_refused(mount: Path) -> None:
    for change in (
        lambda: os.mkdir(mount / "proc/x"),
        lambda: os.unlink(mount / "proc/meminfo"),
        lambda: os.rmdir(mount / "proc"),
        lambda: os.rename(mount / "proc/meminfo", mount / "proc/stat"),
        lambda: os.symlink("x", mount / "proc/x"),
        lambda: os.chmod(mount / "proc/meminfo", 0o777),
        lambda: os.truncate(mount / "proc/meminfo", 0),
        lambda: os.open(mount / "proc/x", os.O_CREAT | os.O_WRONLY),
        lambda: os.utime(mount / "proc/meminfo"),
    ):
        with pytest.raises(PermissionError):
            change()
    with pytest.raises(OSError):
        os.setxattr(mount / "proc/meminfo", "user.x", b"y")


def test_other_calls_programs_make(mount: Path) -> None:
    path = mount / "proc/meminfo"
    assert os.access(path, os.R_OK)
    assert not os.access(mount / "proc/meminfo", os.X_OK)
    assert os.statvfs(mount).f_namemax == 255
    with pytest.raises(OSError) as caught:
        os.listxattr(path)
    assert caught.value.errno == errno.EOPNOTSUPP
    fd = os.open(path, os.O_RDONLY)
    try:
        assert os.lseek(fd, 0, os.SEEK_END) == 0
        with pytest.raises(ValueError, match="empty"):
            mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        other = os.dup(fd)
        os.close(fd)
        fd = other
        assert os.pread(fd, 8, 0) == b"MemTotal"
    finally:
        os.close(fd)
    copied = subprocess.run(["cat", path], capture_output=True, check=True).stdout
    assert copied.startswith(b"MemTotal:")


def test_an_unprivileged_user_can_read_and_not_write(mount: Path) -> None:
    script = f"open({str(mount)!r} + '/proc/meminfo').read()\ntry: open({str(mount)!r} + '/proc/meminfo', 'w')\n"
    script += "except PermissionError: print('good')"
    done = subprocess.run(
        ["/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable, "-c", script],
        user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "good\n", done.stderr


READER = """
import os, sys
print("ready", flush=True)
while True:
    for name in ("proc/meminfo", "proc/stat", "sys/devices/system/cpu/cpu0/online", "proc/diskstats"):
        try:
            fd = os.open(sys.argv[1] + "/" + name, os.O_RDONLY)
        except FileNotFoundError:
            continue
        while os.read(fd, 100): pass
        os.close(fd)
    os.listdir(sys.argv[1] + "/sys/devices/system/cpu")
"""


def test_readers_killed_in_mid_request_harm_nobody(mount: Path) -> None:
    for number in range(30):
        readers = [
            subprocess.Popen([sys.executable, "-S", "-c", READER, mount], stdout=subprocess.PIPE) for _ in range(2)
        ]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"ready\n"
        for reader in readers:
            reader.kill()
        assert (mount / "proc/uptime").read_bytes().count(b" ") == 1, number
        for reader in readers:
            reader.wait()
            if reader.stdout is not None:
                reader.stdout.close()


def test_thousands_of_open_files(mount: Path) -> None:
    count = 3000
    handles = []
    try:
        for _ in range(count):
            handles.append(os.open(mount / "proc/meminfo", os.O_RDONLY))
            os.read(handles[-1], 10)
        assert all(os.read(handle, 10) for handle in handles[:50])
    finally:
        for handle in handles:
            os.close(handle)


def test_files_open_at_the_end_do_not_hold_the_daemon_up(place: Place, mode: str) -> None:
    daemon = place.start(options=lane.options(mode))
    (place.mount / "proc/meminfo").read_bytes()  # close(2) asks the daemon once, and never again
    with open(place.mount / "proc/meminfo", "rb", buffering=0) as file:
        file.read(10)
        daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: not is_mounted(place.mount), "the unmount")
        assert daemon.ends() == 0
        with pytest.raises(OSError):
            file.read(10)


@pytest.fixture(scope="module")
def reader32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 32-bit program of the oldest kind."""
    program = tmp_path_factory.mktemp("reader32") / "reader32"
    options = ["-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector", "-O1"]
    if platform.machine() != "x86_64" or shutil.which("gcc") is None:
        pytest.skip("32-bit x86 programs can be made with gcc on x86-64 only")
    subprocess.run(["gcc", *options, "-o", program, Path(__file__).with_name("reader32.c")], check=True)
    try:
        subprocess.run([program, "stat", "/proc"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this kernel runs no 32-bit programs")
    return program


def test_a_32_bit_program_without_large_files_reads_and_lists(mount: Path, reader32: Path) -> None:
    """Such as an old agent in an i386 image. Inode numbers of what it looks at have to fit 32 bits."""

    def run(*words: str | Path) -> str:
        return subprocess.run([reader32, *words], capture_output=True, text=True, check=True).stdout

    trees = [CPU_DIR, NODE_DIR] if Path("/", NODE_DIR).is_dir() else [CPU_DIR]
    for path in (
        "proc/meminfo",
        "proc/cpuinfo",
        "proc/stat",
        "proc/vmstat",
        f"{CPU_DIR}/online",
        f"{CPU_DIR}/possible",
    ):
        run("stat", mount / path)
        names = [line.split()[:1] for line in run("read", mount / path).splitlines()]
        assert names == [line.split()[:1] for line in (mount / path).read_text().splitlines()]
    for path in ("", "proc", "sys/devices/system", *trees):
        run("stat", mount / path)
        assert sorted(run("list", mount / path).split()) == sorted([".", "..", *os.listdir(mount / path)])
    for tree in trees:
        for folder in (mount / tree).glob("*[0-9]"):
            run("stat", folder)


def test_a_32_bit_personality_changes_cpuinfo_where_it_changes_the_hosts(mount: Path) -> None:
    """On x86 nowhere; of arm64 see docs/views.md."""
    if platform.machine() != "x86_64":
        pytest.skip("on other machines than x86-64 the kernel has another text for 32-bit programs")

    def read(*words: str | Path) -> list[str]:
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return [line for line in text.splitlines() if "MHz" not in line]

    for path in (Path("/proc/cpuinfo"), mount / "proc/cpuinfo"):
        assert read("setarch", "i386", "cat", path) == read("cat", path)
