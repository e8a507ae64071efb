"""meminfo line by line: a program makes one kind of memory grow, and the line of that kind grows by as much.

Every reading is compared as a whole with the cgroup's own memory.stat, memory.current and memory.max.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle.meminfo import V2_KEYS, ZERO
from tests.v2.conftest import NewGroup, StartInside
from tests.v2.disks import mounted
from tests.v2.groups import ROOT, Group
from tests.v2.inside import MIB, Inside, eventually, settled

LIMIT_BYTES = 192 * MIB
SIZE_KB = 8 << 10
"""How much of something the programs take."""
SLACK_KB = 1 << 10
"""What else may come and go meanwhile: the interpreter's own memory, and what the kernel counts by CPU in batches."""
BATCHES_KB = 64 * 4 * (os.cpu_count() or 1)
"""The kernel charges 64 pages at once, on each CPU: a reader is charged while it reads, and no longer afterwards."""
SLAB = ("Slab", "SReclaimable", "SUnreclaim", "KReclaimable")
OPEN_FILE_KB = 16
"""Slab is counted in bytes, and a file that the reader has open while it reads is some of it."""

_TAKE = f"""
import ctypes, mmap
PAGE = mmap.PAGESIZE
SIZE = {SIZE_KB} << 10
def touch(memory, step=PAGE):
    memory[::step] = b"x" * len(range(0, len(memory), step))
def anonymous(size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, huge=False):
    memory = mmap.mmap(-1, size, flags=flags)
    memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    return memory
"""


@pytest.fixture(scope="module")
def group(new_module_group: NewGroup) -> Group:
    return new_module_group(memory_max=LIMIT_BYTES)


@pytest.fixture(scope="module")
def inside(group: Group, start_module_inside: StartInside) -> Inside:
    inside = start_module_inside(group)
    inside.do(_TAKE)
    return inside


@pytest.fixture
def ext4_inside(ext4: Path, group: Group, start_inside: StartInside) -> Inside:
    """For what needs a disk below the files: one that started when the disk was there."""
    inside = start_inside(group)
    inside.do(f"{_TAKE}\nimport os\nFILE = {str(ext4 / 'file')!r}")
    return inside


def _meminfo(inside: Inside, group: Group) -> dict[str, int]:
    """meminfo inside, after a comparison of all lines with what the cgroup says."""

    def truth() -> tuple[dict[str, int], int]:
        return group.table("memory.stat"), group.number("memory.current")

    (stat, current), shown = settled(truth, inside.meminfo)
    for line, key in V2_KEYS.items():
        if line in shown:
            slack_kb = OPEN_FILE_KB if line in SLAB else 0
            assert abs(shown[line] - (stat.get(key, 0) >> 10)) <= slack_kb, line
    assert {line: shown[line] for line in ZERO if line in shown} == {line: 0 for line in ZERO if line in shown}
    limit = group.number("memory.max")
    assert shown["MemTotal"] == limit >> 10
    assert abs(shown["MemFree"] - ((limit - current) >> 10)) <= BATCHES_KB
    cache = sum(stat[key] for key in ("active_file", "inactive_file", "slab_reclaimable")) >> 10
    assert shown["MemAvailable"] == pytest.approx(min(shown["MemTotal"], shown["MemFree"] + cache), abs=2)
    assert shown["Active"] == shown["Active(anon)"] + shown["Active(file)"]
    assert shown["Inactive"] == shown["Inactive(anon)"] + shown["Inactive(file)"]
    return shown


def _growth(inside: Inside, group: Group, take: str, give_back: str = "") -> dict[str, int]:
    """By how much each line grows while a program has taken something, in kB."""
    before = _meminfo(inside, group)
    inside.do(take)
    try:
        after = _meminfo(inside, group)
    finally:
        inside.do(give_back)
    return {line: after[line] - before[line] for line in before}


def _is_about(kb: int, wanted_kb: int = SIZE_KB) -> bool:
    return abs(kb - wanted_kb) <= SLACK_KB


@pytest.fixture
def file_of_8_mib(ext4_inside: Inside) -> Iterator[str]:
    """The name inside of a file whose pages are in nobody's cache."""
    name = ext4_inside.do("result = FILE")
    Path(name).unlink(missing_ok=True)
    ext4_inside.do("""
with open(FILE, "wb") as file:
    file.write(bytes(SIZE))
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
""")
    yield name
    Path(name).unlink(missing_ok=True)


def test_anonymous_memory_shows_as_anonymous(inside: Inside, group: Group) -> None:
    grown = _growth(inside, group, "memory = anonymous(SIZE); touch(memory)", "memory.close()")
    assert _is_about(grown["AnonPages"])
    assert _is_about(grown["Active(anon)"] + grown["Inactive(anon)"])
    assert _is_about(-grown["MemFree"])
    assert _is_about(-grown["MemAvailable"])
    assert _is_about(grown["Committed_AS"])
    assert _is_about(grown["Shmem"], 0)
    assert _is_about(grown["Cached"], 0)


def test_shared_memory_shows_as_shared_cached_and_mapped(inside: Inside, group: Group) -> None:
    take = "memory = anonymous(SIZE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS); touch(memory)"
    grown = _growth(inside, group, take, "memory.close()")
    assert _is_about(grown["Shmem"])
    assert _is_about(grown["Cached"])
    assert _is_about(grown["Mapped"])
    assert _is_about(grown["Committed_AS"])
    assert _is_about(-grown["MemAvailable"])  # it is no cache that could be dropped
    assert _is_about(grown["AnonPages"], 0)


def test_a_file_that_is_read_shows_as_cache_that_is_available(
    ext4_inside: Inside, group: Group, file_of_8_mib: str
) -> None:
    read = f"""
with open({file_of_8_mib!r}, "rb", buffering=0) as file:
    while file.read(1 << 16): pass
"""
    grown = _growth(ext4_inside, group, read)
    assert _is_about(grown["Cached"])
    assert _is_about(grown["Active(file)"] + grown["Inactive(file)"])
    assert _is_about(-grown["MemFree"])
    assert _is_about(grown["MemAvailable"], 0)
    assert _is_about(grown["Mapped"], 0)
    assert _is_about(grown["AnonPages"], 0)


def test_a_mapped_file_shows_as_mapped(ext4_inside: Inside, group: Group, file_of_8_mib: str) -> None:
    take = f"""
file = open({file_of_8_mib!r}, "r+b")
memory = mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ)
sum(memory[::PAGE])
"""
    grown = _growth(ext4_inside, group, take, "memory.close(); file.close()")
    assert _is_about(grown["Mapped"])
    assert _is_about(grown["Cached"])
    assert _is_about(grown["Shmem"], 0)


def test_what_is_written_is_dirty_until_it_is_on_the_disk(
    ext4_inside: Inside, group: Group, file_of_8_mib: str
) -> None:
    write = f"file = open({file_of_8_mib!r}, 'r+b', buffering=0); file.write(bytes(SIZE))"
    grown = _growth(ext4_inside, group, write, "os.fsync(file.fileno()); file.close()")
    assert _is_about(grown["Dirty"])
    assert _meminfo(ext4_inside, group)["Dirty"] < SLACK_KB


def test_what_is_on_its_way_to_the_disk_is_under_writeback(
    ext4_inside: Inside, group: Group, file_of_8_mib: str, ext4: Path
) -> None:
    device = os.stat(ext4).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    group.write("io.max", f"{number} wbps=65536")  # 8 MiB take two minutes
    try:
        # As sync_file_range(2) with SYNC_FILE_RANGE_WRITE: begin, and do not wait.
        grown = _growth(
            ext4_inside,
            group,
            f"""
slow = open({file_of_8_mib!r}, 'r+b', buffering=0)
slow.write(bytes(SIZE))
ctypes.CDLL(None).sync_file_range(slow.fileno(), ctypes.c_long(0), ctypes.c_long(SIZE), 2)
""",
        )
        assert grown["Writeback"] > SIZE_KB // 4
        assert grown["Writeback"] + grown["Dirty"] < SIZE_KB + SLACK_KB
    finally:
        group.write("io.max", f"{number} wbps=max")
        ext4_inside.do("os.fsync(slow.fileno()); slow.close()")
    assert _meminfo(ext4_inside, group)["Writeback"] == 0


def test_a_transparent_huge_page_shows_as_huge_and_anonymous(inside: Inside, group: Group) -> None:
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not enabled.exists() or "[never]" in enabled.read_text(encoding="ascii"):
        pytest.skip("this machine has transparent huge pages switched off")
    # Twice the size, so that all of SIZE is aligned to huge pages somewhere in it.
    take = """
memory = anonymous(2 * SIZE, huge=True)
start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % (2 << 20)
for offset in range(start, start + SIZE, PAGE): memory[offset] = 1
"""
    grown = _growth(inside, group, take, "memory.close()")
    assert grown["AnonHugePages"] == SIZE_KB
    assert _is_about(grown["AnonPages"])


def test_huge_pages_of_a_tmpfs_show_as_huge_and_shared(group: Group, start_inside: StartInside, tmp_path: Path) -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled").exists():
        pytest.skip("this kernel has no huge pages for shared memory")
    with mounted("tmpfs", "tmpfs", tmp_path / "huge", "huge=always,size=32m"):
        inside = start_inside(group)
        inside.do(_TAKE)
        take = f"file = open({str(tmp_path / 'huge/file')!r}, 'wb', buffering=0); file.write(bytes(SIZE))"
        grown = _growth(inside, group, take, "file.close()")
        inside.stop()
    assert grown["ShmemHugePages"] == SIZE_KB
    assert _is_about(grown["Shmem"])
    assert _is_about(grown["Mapped"], 0)


def test_many_files_show_as_slab(group: Group, start_inside: StartInside, tmp_path: Path) -> None:
    """Names (dentries) are reclaimable, inodes of a tmpfs are not; none is smaller than 64 bytes."""
    with mounted("tmpfs", "tmpfs", tmp_path / "many"):
        inside = start_inside(group)
        inside.do(_TAKE)
        count = 8000
        take = f"""
for number in range({count}): open(f"{tmp_path}/many/{{number}}", "w").close()
"""
        grown = _growth(inside, group, take)
        inside.stop()
    assert count * 128 >> 10 < grown["SReclaimable"] < count * 1024 >> 10
    assert count * 256 >> 10 < grown["SUnreclaim"] < count * 2048 >> 10
    assert abs(grown["Slab"] - grown["SReclaimable"] - grown["SUnreclaim"]) <= 2
    assert grown["KReclaimable"] == grown["SReclaimable"]


def test_threads_show_as_kernel_stacks(inside: Inside, group: Group) -> None:
    take = """
import _thread
block = _thread.allocate_lock()
block.acquire()
_thread.stack_size(1 << 16)
def wait():
    block.acquire()
    block.release()
for _ in range(100): _thread.start_new_thread(wait, ())
"""
    grown = _growth(inside, group, take, "block.release()")
    stack_kb = 16  # on x86-64, arm64 and s390x
    assert 100 * stack_kb <= grown["KernelStack"] <= 110 * stack_kb


def test_a_page_here_and_there_shows_as_page_tables(inside: Inside, group: Group) -> None:
    """One page in each 2 MiB costs one page of tables each: as much as the memory itself."""
    grown = _growth(inside, group, "memory = anonymous(1 << 30); touch(memory, 2 << 20)", "memory.close()")
    assert _is_about(grown["AnonPages"], 2048)
    assert 2048 <= grown["PageTables"] <= 2048 + 64


def test_locked_memory_shows_as_unevictable(inside: Inside, group: Group) -> None:
    take = """
memory = anonymous(SIZE)
touch(memory)
view = ctypes.c_char.from_buffer(memory)
assert ctypes.CDLL(None).mlock(ctypes.byref(view), ctypes.c_size_t(SIZE)) == 0
"""
    grown = _growth(inside, group, take, "del view; memory.close()")
    assert _is_about(grown["Unevictable"])
    assert _is_about(grown["AnonPages"])
    assert _is_about(grown["Active(anon)"] + grown["Inactive(anon)"], 0)


def test_a_large_table_of_open_files_shows_as_vmalloc(inside: Inside, group: Group) -> None:
    """A million entries of 8 bytes: more than kmalloc gives."""
    if int(Path("/proc/sys/fs/nr_open").read_text(encoding="ascii")) < 1 << 20:
        pytest.skip("this machine allows fewer than 2^20 open files")
    take = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
end = os.dup2(0, (1 << 20) - 1)
"""
    if "vmalloc" not in group.table("memory.stat"):
        pytest.skip("this kernel does not count vmalloc for cgroups")
    grown = _growth(inside, group, take, "os.close(end)")
    assert _is_about(grown["VmallocUsed"])


def test_cgroups_below_show_as_percpu_memory(new_group: NewGroup, start_inside: StartInside) -> None:
    """With systemd's layout, where init is in a cgroup of its own below that of the container."""
    group = new_group(memory_max=LIMIT_BYTES)
    inside = start_inside(group.make("init.scope"))
    before = _meminfo(inside, group)
    for number in range(30):
        group.make(f"below-{number}")
    # The kernel adds up what is little only every two seconds.
    eventually(lambda: _meminfo(inside, group)["Percpu"] - before["Percpu"] > 10, "percpu memory of 30 cgroups")


def test_lines_that_are_no_containers_are_the_hosts(inside: Inside) -> None:
    names = ("VmallocTotal", "VmallocChunk", "Hugepagesize", "DirectMap4k", "DirectMap2M", "HardwareCorrupted")

    def hosts() -> list[str]:
        return Path("/proc/meminfo").read_text(encoding="ascii").splitlines()

    def of_the_host(lines: list[str]) -> list[str]:
        return [line for line in lines if line.startswith(names)]

    truth, shown = settled(lambda: of_the_host(hosts()), lambda: inside.read("proc/meminfo").splitlines())
    assert of_the_host(shown) == truth
    assert [line.split(":")[0] for line in shown] == [line.split(":")[0] for line in hosts()]


def test_a_lower_limit_shows_at_once(inside: Inside, group: Group) -> None:
    group.write("memory.max", LIMIT_BYTES // 2)
    try:
        assert _meminfo(inside, group)["MemTotal"] == LIMIT_BYTES // 2 >> 10
    finally:
        group.write("memory.max", LIMIT_BYTES)
    assert _meminfo(inside, group)["MemTotal"] == LIMIT_BYTES >> 10


def test_without_a_limit_the_total_is_the_hosts(inside: Inside, group: Group) -> None:
    hosts = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()[0]
    group.write("memory.max", "max")
    try:
        assert ROOT in group.path.parents
        current, text = settled(lambda: group.number("memory.current"), lambda: inside.read("proc/meminfo"))
    finally:
        group.write("memory.max", LIMIT_BYTES)
    total, free = text.splitlines()[:2]
    assert total == hosts
    assert abs(int(free.split()[1]) - (int(hosts.split()[1]) - current // 1024)) <= BATCHES_KB
