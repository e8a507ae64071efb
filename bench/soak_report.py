"""What a run of ``bench.soak`` has found: its tables, its verdicts, and how it is saved. Measures nothing."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import report
from bench.bounds import GROWTH_BYTES, MIB, VERDICT_HEADER, Verdict

KILLED_PER_READS = 1 / 2000
"""A run in which fewer callers die proves too little."""


@dataclass(frozen=True)
class Counted:
    """By all readers since the start, those that were killed as well."""

    reads: int = 0
    """Whole texts, checked."""
    requests: int = 0
    """Calls of open, pread and opendir."""
    looked_up: int = 0
    """Files with names that pyfuse3 has to look up: in folders of CPUs, nodes and pressure."""
    listings: int = 0
    """Of the folder of CPUs, by pyfuse3 as well."""
    killed: int = 0
    killed_asking: int = 0
    """In the middle of such a call."""
    wrong: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """Calls, by the name of the error."""


@dataclass(frozen=True)
class State:
    """The daemon, calm, after so much."""

    name: str
    counted: Counted
    resident_bytes: int
    descriptors: int
    threads: int
    peak_bytes: int
    """Since the state before, while it was read."""
    peak_descriptors: int
    counters: dict[str, int]
    """Its own."""

    @property
    def fallbacks(self) -> int:
        """How often a reader got the host's file, since the daemon started."""
        return sum(count for name, count in self.counters.items() if name.startswith("fs_fallback"))


def heading(module: str = "soak") -> str:
    lines = {
        "command": f"python -m bench.{module} {shlex.join(sys.argv[1:])}".rstrip(),
        "kernel": f"{platform.release()} {platform.machine()}, {os.cpu_count()} CPUs",
        "versions": ", ".join([f"Python {platform.python_version()}", *map(_versioned, ("procview", "pyfuse3"))]),
    }
    return "\n".join(f"{name + ':':<13}{text}" for name, text in lines.items())


def table(states: Sequence[State]) -> str:
    header = ["after", "reads", "killed", "asking", "wrong", "failed", "MiB", "fds", "threads", "most MiB", "most fds"]
    rows = [
        [
            state.name,
            *(report.thousands(value) for value in (state.counted.reads, state.counted.killed)),
            report.thousands(state.counted.killed_asking),
            str(state.counted.wrong),
            str(sum(state.counted.failed.values())),
            f"{state.resident_bytes / MIB:.2f}",
            str(state.descriptors),
            str(state.threads),
            f"{state.peak_bytes / MIB:.2f}",
            str(state.peak_descriptors),
        ]
        for state in states
    ]
    counted = states[-1].counted
    title = "The daemon when it is calm, after tenths of the reads; at most, while it is read"
    lines = [
        report.table(title, header, rows),
        f"({counted.requests:,} calls of open, pread and opendir; 'asking': callers that were killed in one of them)",
        f"({counted.looked_up:,} of the files were looked up by pyfuse3, and {counted.listings:,} folders listed)",
    ]
    if counted.failed:
        lines.append(f"failed: {', '.join(f'{name} {count:,}' for name, count in counted.failed.items())}")
    return "\n".join(lines)


def report_lines(wrong: dict[str, Any]) -> str:
    text = "".join(f"    {line}\n" for line in str(wrong["text"]).splitlines())
    return f"\ncontainer {wrong['container']}, {wrong['path']}: {wrong['why']}\n{text}".rstrip()


def verdicts(states: Sequence[State]) -> list[Verdict]:
    """Of a calm daemon at the start, after each tenth, and when the containers have gone."""
    start, warm, last = states[0], states[1], states[-1]
    tenths = states[1:-1] or states[1:]
    counted = last.counted
    return [
        Verdict("texts or pieces that are wrong", counted.wrong, 0),
        Verdict("reads that failed", sum(counted.failed.values()), 0),
        Verdict("readers that got the host's file instead", last.fallbacks - start.fallbacks, 0),
        Verdict(
            "callers that died in mid-request", counted.killed_asking, counted.reads * KILLED_PER_READS, at_least=True
        ),
        Verdict("files still open", last.counters["fs_open"], 0),
        Verdict("text still kept", last.counters["fs_text_bytes"], 0, unit=" B"),
        Verdict(
            "growth of memory after the first tenth",
            (tenths[-1].resident_bytes - warm.resident_bytes) / MIB,
            GROWTH_BYTES / MIB,
            unit=" MiB",
        ),
        Verdict("growth of descriptors after the first tenth", tenths[-1].descriptors - warm.descriptors, 0),
        Verdict("the same, at any tenth", max(state.descriptors for state in tenths) - warm.descriptors, 0),
    ]


def verdict_table(found: Sequence[Verdict]) -> str:
    return report.table("Bounds", VERDICT_HEADER[:4], [verdict.row()[:4] for verdict in found])


def save(
    path: Path,
    heading: str,
    states: Sequence[State],
    reports: Sequence[dict[str, Any]],
    found: Sequence[Verdict],
    trouble: str,
) -> None:
    document = {
        "heading": heading.splitlines(),
        "states": [asdict(state) for state in states],
        "reports": list(reports),
        "verdicts": [{**asdict(verdict), "kept": verdict.kept} for verdict in found],
        "trouble": trouble,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _versioned(package: str) -> str:
    return f"{package} {version(package)}"
