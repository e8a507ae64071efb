"""What the benchmark concludes and counts, without measuring anything."""

import json
import math
from pathlib import Path

from bench.bounds import Verdict
from bench.cgroups import Hierarchy, Limits, hierarchies
from bench.profile import parse_summary
from bench.results import Results, save
from bench.stats import Samples
from bench.through_fuse import Cell
from bench.verdicts import verdicts


def test_a_bound_that_was_not_measured_is_a_row_and_is_not_kept() -> None:
    found = verdicts(Results(), reasons={"lxcfs": "no lxcfs"})
    assert found
    assert not any(verdict.kept for verdict in found)
    assert {verdict.row()[1] for verdict in found} == {"not measured"}
    assert "no lxcfs" in {verdict.word for verdict in found}


def test_a_bound_is_kept_on_its_own_side_of_the_limit() -> None:
    assert Verdict("", 3.5, 3.5, at_least=True).kept
    assert not Verdict("", 3.4, 3.5, at_least=True).kept
    assert Verdict("", 1.5, 1.5).kept
    assert not Verdict("", 1.6, 1.5).kept
    assert not Verdict("", math.nan, 1.5).kept


def test_calls_are_read_from_a_summary_of_strace_with_and_without_errors() -> None:
    text = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           1       500           read
 40.00    0.000400           4       100        50 readlinkat
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           1       600        50 total
"""
    assert parse_summary(text) == {"read": 500, "readlinkat": 100}


def test_hierarchies_of_v1_and_v2_are_told_apart(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n"
        "32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    v1, v2 = hierarchies(table)
    assert v1.mount_point == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert {"cpu", "cpuacct"} <= v1.controllers
    assert v2 == Hierarchy(Path("/sys/fs/cgroup/unified"), frozenset(), unified=True)


def test_the_quota_is_all_of_the_cpus() -> None:
    assert Limits(1 << 29, (2, 3)).quota_usec == 200_000
    assert Limits(1 << 29, (2, 3)).cpu_list == "2,3"


def test_what_was_not_measured_is_null_in_the_saved_figures(tmp_path: Path) -> None:
    results = Results()
    results.latency[Cell("pinned", "meminfo", "ours")] = Samples()
    save(tmp_path / "run.json", "kernel: any", results, verdicts(results, reasons={}))
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["latency"][0]["median_ns"] is None
