"""What one run has found, and how it is saved."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bounds import Verdict
from bench.control import Control
from bench.crowd import CrowdResult
from bench.endurance import Endurance
from bench.hook import HookCost
from bench.idle import Idle
from bench.neighbour import Neighbour
from bench.propagation import Propagation
from bench.stats import Samples
from bench.through_fuse import Cell, Rate

if TYPE_CHECKING:
    # They import the compiled engine, and the rest of the benchmark runs without that.
    from bench.hotpath import HotPath, LargeHost
    from bench.sampling import Sampling


@dataclass
class Results:
    latency: dict[Cell, Samples] = field(default_factory=dict)
    fresh: dict[Cell, Samples] = field(default_factory=dict)
    rate: dict[Cell, Rate] = field(default_factory=dict)
    endurance: list[Endurance] = field(default_factory=list)
    hotpath: "dict[str, HotPath]" = field(default_factory=dict)
    large_host: "LargeHost | None" = None
    neighbour: Neighbour = field(default_factory=dict)
    control: Control | None = None
    crowd: CrowdResult | None = None
    idle: Idle | None = None
    sampling: "Sampling | None" = None
    hook: HookCost | None = None
    propagation: list[Propagation] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What could not be measured, or not as it should be."""


def save(path: Path, heading: str, results: Results, verdicts: Sequence[Verdict]) -> None:
    large, crowd = results.large_host, results.crowd
    document = {
        "heading": heading.splitlines(),
        "latency": _cells(results.latency),
        "fresh": _cells(results.fresh),
        "rate": [{**asdict(cell), **asdict(rate)} for cell, rate in results.rate.items()],
        "endurance": [asdict(result) for result in results.endurance],
        "hotpath": {
            file: {name: getattr(result, name).summary() for name in ("kernel", "identify", "render")}
            for file, result in results.hotpath.items()
        },
        "large_host": {"first_ns": large.first_ns, **large.render.summary()} if large else None,
        "neighbour": {server: _summaries(found) for server, found in results.neighbour.items()},
        "control": _summaries(vars(results.control)) if results.control else None,
        "crowd": {
            "containers": crowd.containers,
            "start_seconds": crowd.start_seconds,
            "reads": {name: _summaries(vars(reads)) for name, reads in crowd.reads.items()},
            "resident_bytes": crowd.resident_bytes,
            "sampling_percent": crowd.sampling_percent,
        }
        if crowd
        else None,
        "idle": asdict(results.idle) if results.idle else None,
        "sampling": asdict(results.sampling) if results.sampling else None,
        "hook": _summaries(results.hook.runs) if results.hook else None,
        "propagation": [asdict(one) for one in results.propagation],
        "verdicts": [{**asdict(verdict), "kept": verdict.kept} for verdict in verdicts],
        "notes": results.missing,
    }
    path.write_text(json.dumps(_measured(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _measured(value: Any) -> Any:
    """``value`` with null for what is not a number, because it was not measured: JSON has no other word for it."""
    if isinstance(value, dict):
        return {key: _measured(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_measured(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _summaries(named: Mapping[str, Samples]) -> dict[str, dict[str, float]]:
    return {name: samples.summary() for name, samples in named.items()}


def _cells(values: dict[Cell, Samples]) -> list[dict[str, Any]]:
    return [{**asdict(cell), **samples.summary()} for cell, samples in values.items()]
