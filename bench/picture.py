"""Draws what a run of the benchmark has saved (--json): for each file one read by kernel, floor, ours and lxcfs.

    python -m bench.picture docs/performance/bench.json docs/performance/reads.svg

Touches nothing but its two files. The picture depends on no font, script or file of anywhere else, brings its own
background, for light and for dark, and says each figure in words.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench.files import FILES
from bench.servers import FLOOR, KERNEL, LXCFS, OURS
from bench.through_fuse import PINNED

CONTENDERS = (KERNEL, FLOOR, OURS, LXCFS)
CALLED = {FLOOR: "floor of FUSE", OURS: "procview"}
WIDTH, MARGIN = 760, 20
BARS_FROM, BARS_TO = 190, 680
"""Where a bar begins, and where the longest ends: beside it is room for its figure."""
BAR, BETWEEN_FILES, TOP = 13, 12, 100
_STYLE = """\
.card { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328; font: 11px system-ui, sans-serif }
.title { font-size: 15px; font-weight: 600 } .file { font-weight: 600 } .small { fill: #59636e }
.kernel { fill: #8c959f } .floor { fill: #bf8700 } .ours { fill: #0969da } .lxcfs { fill: #cf222e }
@media (prefers-color-scheme: dark) {
.card { fill: #151b23; stroke: #3d444d } text { fill: #f0f6fc } .small { fill: #9198a1 }
.kernel { fill: #9198a1 } .floor { fill: #d29922 } .ours { fill: #4493f8 } .lxcfs { fill: #f85149 }
}"""


class RunError(Exception):
    """What is wrong with the file of a run."""


def medians(run: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """For each file, in the order of the tables: who answers, and the median of its reads, pinned, in µs.

    Raises RunError.
    """
    found: dict[str, dict[str, float]] = {file: {} for file in FILES}
    try:
        for cell in run["latency"]:
            if cell["placement"] == PINNED and cell["contender"] in CONTENDERS and cell["median_ns"]:
                found.setdefault(cell["file"], {})[cell["contender"]] = cell["median_ns"] / 1000
    except (KeyError, TypeError) as error:
        raise RunError(f"this is not what `python -m bench --json` saves: {error!r}") from None
    measured = {file: bars for file, bars in found.items() if bars}
    if not measured:
        raise RunError("it has no reads by a reader and a server on one CPU ('latency', 'pinned')")
    return measured


def picture(run: Mapping[str, Any]) -> str:
    """The SVG. Raises RunError."""
    found = medians(run)
    longest_usec = max(usec for bars in found.values() for usec in bars.values())
    heights = [len(bars) * BAR + BETWEEN_FILES for bars in found.values()]
    facts = _facts(run)
    height = TOP + sum(heights) + MARGIN
    title = "One read of each file in a container: open, read to the end, close"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title facts">',
        f'<title id="title">{title}</title>',
        f'<desc id="facts">{escape("; ".join(facts))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="title" x="{MARGIN}" y="30">{title}</text>',
        *(
            f'<text class="small" x="{MARGIN}" y="{48 + 15 * number}">{escape(fact)}</text>'
            for number, fact in enumerate(facts)
        ),
    ]
    top = TOP
    for (file, bars), needed in zip(found.items(), heights, strict=True):
        lines += _bars(file, bars, top, (BARS_TO - BARS_FROM) / longest_usec)
        top += needed
    return "\n".join([*lines, "</svg>", ""])


def _facts(run: Mapping[str, Any]) -> Sequence[str]:
    """Of which machine and versions the figures are, from the heading of the run: three lines. Raises RunError."""
    try:
        told = dict(line.split(":", 1) for line in run["heading"])
        kernel, cpus, versions = (told[name].strip() for name in ("kernel", "CPUs", "versions"))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"its heading does not say kernel, CPUs and versions: {error!r}") from None
    return ["Medians in µs, reader and server on one CPU: shorter is better", f"{cpus}, Linux {kernel}", versions]


def _bars(file: str, bars: Mapping[str, float], top: int, per_usec: float) -> Iterator[str]:
    yield f'<text class="file" x="{MARGIN}" y="{top + 10}">{escape(file)}</text>'
    for number, name in enumerate(name for name in CONTENDERS if name in bars):
        y = top + number * BAR
        length = bars[name] * per_usec
        yield f'<text class="small" x="{BARS_FROM - 8}" y="{y + 10}" text-anchor="end">{CALLED.get(name, name)}</text>'
        yield f'<rect class="{name}" x="{BARS_FROM}" y="{y + 1}" width="{length:.1f}" height="{BAR - 2}" rx="2"/>'
        yield f'<text x="{BARS_FROM + length + 6:.1f}" y="{y + 10}">{bars[name]:.1f}</text>'


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.picture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", metavar="RUN.json", type=Path, help="what `python -m bench --json RUN.json` saved")
    parser.add_argument("svg", metavar="PICTURE.svg", type=Path, help="where the picture goes")
    options = parser.parse_args()
    try:
        text = picture(json.loads(options.run.read_text(encoding="utf-8")))
        options.svg.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"bench.picture: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except (RunError, ValueError) as error:
        print(f"bench.picture: {options.run}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
