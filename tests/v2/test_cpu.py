"""CPU time under a quota, and CPUs that come and go by partitions."""

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.containers.cgroups import Limits
from tests.containers.conftest import Start
from tests.v2.conftest import NewGroup, StartInside
from tests.v2.groups import ROOT, Group
from tests.v2.inside import MIB, Inside, age_ticks, eventually, settled

USER, NICE, SYSTEM, IDLE, STEAL = 0, 1, 2, 3, 7
USEC_PER_TICK = 10_000
MEMORY_BYTES = 256 * MIB

_BURN = """
import os, time
def burn(seconds, processes):
    '''Several processes that do nothing but compute, for a time.'''
    children = []
    for _ in range(processes):
        child = os.fork()
        if not child:
            end = time.monotonic() + seconds
            while time.monotonic() < end: pass
            os._exit(0)
        children.append(child)
    for child in children: os.waitpid(child, 0)
"""


def _stat(inside: Inside) -> dict[str, list[int]]:
    rows = (line.split() for line in inside.read("proc/stat").splitlines() if line.startswith("cpu"))
    return {row[0]: [int(word) for word in row[1:]] for row in rows}


def _bracketed(inside: Inside, group: Group) -> tuple[dict[str, int], dict[str, list[int]], dict[str, int]]:
    """The cgroup's times before and after a reading of stat, in ticks: the reader needs time as well."""

    def ticks() -> dict[str, int]:
        times = group.table("cpu.stat").items()
        return {key.removesuffix("_usec"): value // USEC_PER_TICK for key, value in times if key.endswith("_usec")}

    return ticks(), _stat(inside), ticks()


@pytest.mark.parametrize(("quota", "processes", "cpus"), [("20000 100000", 1, 1), ("120000 100000", 2, 2)])
def test_what_a_quota_takes_away_is_steal_and_all_time_adds_up_to_the_age(
    new_group: NewGroup, start_inside: StartInside, two_cpus: list[int], quota: str, processes: int, cpus: int
) -> None:
    # As many as the quota leaves: one that goes away in between keeps what it had, which is more than the age.
    group = new_group(cpuset_cpus=",".join(map(str, two_cpus[:cpus])))
    inside = start_inside(group)
    inside.do(_BURN)
    # Only then the quota: what a cgroup used and lost before init started is more than the container's age has room
    # for; and a reading in the middle of a throttled period has time as idle that the kernel counts later.
    eventually(lambda: _stat(inside)["cpu"][IDLE] > 30, "some idle time")
    first = _stat(inside)["cpu"]
    group.write("cpu.max", quota)
    inside.do(f"burn(3, {processes})")
    youngest = age_ticks(inside.pid)
    before, shown, after = _bracketed(inside, group)
    oldest = age_ticks(inside.pid)
    total = shown["cpu"]
    assert len(shown) - 1 == cpus
    assert before["throttled"] <= total[STEAL] <= after["throttled"]
    assert total[STEAL] - first[STEAL] > 50
    busy = total[USER] + total[NICE] + total[SYSTEM]
    assert before["usage"] - 3 <= busy <= after["usage"]  # three roundings down
    assert total[USER] - first[USER] > 20
    lines = [row for name, row in shown.items() if name != "cpu"]
    assert total == [sum(column) for column in zip(*lines, strict=True)]
    # A tick for each rounding of a column.
    assert (youngest - 4) * cpus <= sum(total) <= (oldest + 1) * cpus
    for row in shown.values():
        assert row[4:7] == [0, 0, 0]  # iowait, irq, softirq: nobody knows them
        assert row[8:10] == [0, 0]


def test_a_nice_program_has_nice_time_where_the_kernel_counts_it(
    new_group: NewGroup, start_inside: StartInside
) -> None:
    group = new_group()
    inside = start_inside(group)
    inside.do(f"{_BURN}\nos.nice(10)")
    first = _stat(inside)["cpu"]
    inside.do("burn(2, 1)")
    before, shown, after = _bracketed(inside, group)
    total = shown["cpu"]
    assert before.get("nice", 0) <= total[NICE] <= after.get("nice", 0)
    busy = total[USER] - first[USER] + total[NICE] - first[NICE]
    assert busy > 50
    if "nice" in after:
        assert total[NICE] - first[NICE] > busy * 0.5  # the kernel samples it at its own ticks
    else:
        assert total[NICE] == 0


@pytest.mark.slow
def test_mpstat_top_and_vmstat_see_the_quota_as_steal(start_unshare: Start, two_cpus: list[int]) -> None:
    """A program that wants a CPU and gets 0.4 of it: the rest is stolen, and the columns are all of the time."""
    container = start_unshare(Limits(memory_bytes=MEMORY_BYTES, cpuset=str(two_cpus[0]), cpus=0.4))
    group = Group(container.cgroup.directories["cpu"])
    burner = container.popen(["sh", "-c", "while :; do :; done"])
    try:
        tools = {
            "mpstat": ["mpstat", "3", "1"],
            "vmstat": ["vmstat", "3", "2"],
            "top": ["top", "-b", "-n", "2", "-d", "3"],
        }
        before = group.table("cpu.stat")["throttled_usec"]
        running = {
            name: container.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            for name, argv in tools.items()
        }
        said = {name: process.communicate(timeout=120)[0].splitlines() for name, process in running.items()}
        assert group.table("cpu.stat")["throttled_usec"] > before
    finally:
        burner.kill()  # nsenter's process; what it runs inside ends with the container
        burner.wait()
    average = dict(zip(said["mpstat"][2].split()[-10:], map(float, said["mpstat"][-1].split()[-10:]), strict=True))
    assert sum(average.values()) == pytest.approx(100, abs=1)
    assert average["%steal"] > 30
    assert average["%idle"] < 30
    last = dict(zip(said["vmstat"][1].split(), map(int, said["vmstat"][3].split()), strict=True))
    assert sum(last[column] for column in ("us", "sy", "id", "wa", "st")) == pytest.approx(100, abs=2)
    assert last["st"] > 30
    top = [line for line in said["top"] if line.startswith("%Cpu")][-1].partition(":")[2]
    shares = {word.split()[1]: float(word.split()[0]) for word in top.split(",")}
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert shares["st"] > 30


def test_counters_go_on_when_the_quota_changes_the_number_of_cpus(
    new_group: NewGroup, start_inside: StartInside, two_cpus: list[int]
) -> None:
    group = new_group(cpuset_cpus=",".join(map(str, two_cpus)))
    inside = start_inside(group)
    inside.do(_BURN)
    last = [0] * 10
    for quota, cpus in (("max", 2), ("50000", 1), ("150000", 2), ("100000", 1), ("max", 2)):
        group.write("cpu.max", quota)
        inside.do("burn(0.5, 2)")
        shown = _stat(inside)
        assert len(shown) - 1 == cpus
        assert all(new >= old for new, old in zip(shown["cpu"], last, strict=True)), (shown["cpu"], last)
        last = shown["cpu"]


def test_uptime_is_the_age_of_init_and_the_idle_time_of_stat(new_group: NewGroup, start_inside: StartInside) -> None:
    inside = start_inside(new_group())
    youngest = age_ticks(inside.pid)
    texts = inside.do(f"result = [read({str(inside.views)!r} + name) for name in ('/proc/uptime', '/proc/stat')]")
    oldest = age_ticks(inside.pid)
    age, idle = (float(word) * 100 for word in texts[0].split())
    assert youngest - 1 <= age <= oldest + 1
    cpus = os.cpu_count() or 1
    assert idle == pytest.approx(int(texts[1].split()[1 + IDLE]), abs=cpus * (10 + oldest - youngest))


@pytest.mark.slow
def test_load_and_tasks_are_those_of_the_cgroup(new_group: NewGroup, start_inside: StartInside) -> None:
    """Three that compute: the first sample finds them, and the load goes up; a container beside it has none."""
    group = new_group()
    inside, idle = start_inside(group), start_inside(new_group())
    inside.read("proc/loadavg")
    idle.read("proc/loadavg")
    inside.do(
        "import os\nchildren = []\nfor _ in range(3):\n    child = os.fork()\n"
        "    if not child:\n        while True: pass\n    children.append(child)"
    )
    eventually(lambda: group.number("pids.current") >= 5, "three more processes")
    other = Inside.start(group, inside.views, ("nsenter", "--target", str(inside.pid), "--pid"))
    try:
        eventually(lambda: float(other.read("proc/loadavg").split()[0]) > 0.1, "a load")
        # The tasks are those of the last sample, which may be older than the last of the newcomers.
        eventually(lambda: _tasks(other)[1] == group.number("pids.current"), "a sample with all of them")
        # Both views in one go: the next sample may find the reader itself asleep, or awake.
        (running, total), stat = settled(lambda: _tasks(other), lambda: other.read("proc/stat"))
        fields = dict(line.split()[:2] for line in stat.splitlines())
        assert 3 <= running <= 4
        assert total == group.number("pids.current")
        assert int(fields["processes"]) == total
        assert int(fields["procs_running"]) == running
        assert float(other.read("proc/loadavg").split()[0]) < 3
        # A sample may find its reader awake, once.
        assert float(idle.read("proc/loadavg").split()[0]) <= 0.08
    finally:
        other.stop()
    inside.do("for child in children: os.kill(child, 9); os.waitpid(child, 0)")


def _tasks(inside: Inside) -> tuple[int, int]:
    """Those that run, and all."""
    running, total = inside.read("proc/loadavg").split()[3].split("/")
    return int(running), int(total)


# --- Which CPUs ------------------------------------------------------------------------------------------------------


def _assert_cpus(inside: Inside, group: Group, wanted: int) -> None:
    """Every view has this many, and it is as many as the kernel lets the container's processes run on."""
    assert inside.do("import os; result = len(os.sched_getaffinity(0))") == wanted
    assert inside.cpus() == dict.fromkeys(("cpuinfo", "stat", "tree", "online"), wanted)
    effective = group.read("cpuset.cpus.effective").strip()
    assert effective.count(",") + effective.count("-") + 1 == wanted  # with one or two of them


@pytest.mark.parametrize("kind", ["root", "isolated"])
def test_a_partition_takes_its_cpus_from_all_others(new_group: NewGroup, start_inside: StartInside, kind: str) -> None:
    """Which the others see in their next reading, and it has just its own."""
    if len(_all_cpus()) != 2:
        pytest.skip(f"counted on a machine with two CPUs; this one has {len(_all_cpus())}")
    other = new_group()
    outside = start_inside(other)
    _assert_cpus(outside, other, 2)
    group = new_group(cpuset_cpus=_all_cpus()[1])
    inside = start_inside(group)
    _assert_cpus(inside, group, 1)
    group.write("cpuset.cpus.partition", kind)
    try:
        state = group.read("cpuset.cpus.partition").strip()
        assert state == kind
        _assert_cpus(outside, other, 1)
        _assert_cpus(inside, group, 1)
    finally:
        group.write("cpuset.cpus.partition", "member")
    _assert_cpus(outside, other, 2)


def _all_cpus() -> list[int]:
    """What the root cgroup has to give away."""
    text = Group(ROOT).read("cpuset.cpus.effective").strip()
    ends = [[int(word) for word in part.split("-")] for part in text.split(",")]
    return [cpu for end in ends for cpu in range(end[0], end[-1] + 1)]


def test_a_cgroup_that_asks_for_more_cpus_than_those_above_have_gets_theirs(
    new_group: NewGroup, start_inside: StartInside, two_cpus: list[int]
) -> None:
    """cpuset.cpus may say anything on v2; what counts is cpuset.cpus.effective."""
    top = new_group(cpuset_cpus=two_cpus[1])
    group = top.make("middle").make("container")
    group.write("cpuset.cpus", ",".join(map(str, two_cpus)))
    inside = start_inside(group)
    _assert_cpus(inside, group, 1)
    shown = inside.read("proc/cpuinfo")
    assert _apicids(shown) in ([], ["0"])  # renumbered, although it is the second of the machine
    top.write("cpuset.cpus", ",".join(map(str, two_cpus)))
    _assert_cpus(inside, group, 2)


def _apicids(cpuinfo: str) -> list[str]:
    return [line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("apicid")]


def test_a_container_without_its_own_cpus_has_those_of_the_cgroup_above(
    new_group: NewGroup, start_inside: StartInside, two_cpus: list[int]
) -> None:
    top = new_group(cpuset_cpus=two_cpus[1])
    group = top.make("container")
    assert not group.read("cpuset.cpus").strip()
    _assert_cpus(start_inside(group), group, 1)


def _is(shown: Callable[[], int], count: int) -> bool:
    return shown() == count


def test_a_cpu_that_goes_offline_and_comes_back(
    new_group: NewGroup, start_inside: StartInside, two_cpus: list[int]
) -> None:
    """The kernel takes it out of every cpuset and puts it back, and nobody writes to a cgroup."""
    switch = Path(f"/sys/devices/system/cpu/cpu{two_cpus[1]}/online")
    if not switch.exists():
        pytest.skip("this machine's CPUs cannot be switched off")
    inside = start_inside(new_group(cpuset_cpus=",".join(map(str, two_cpus))))

    def shown() -> int:
        return inside.read("proc/cpuinfo").count("processor\t:")

    assert [shown() for _ in range(5)] == [2] * 5  # until what is remembered of a caller is
    try:
        for text, count in (("0", 1), ("1", 2)) * 2:
            switch.write_text(text, encoding="ascii")
            eventually(partial(_is, shown, count), f"{count} CPUs")
    finally:
        switch.write_text("1", encoding="ascii")
