"""The picture of a run of the benchmark: it shows the run's figures, and the committed one is of the run beside it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.picture import RunError, medians, picture
from tests.session import environment_with_modules

DOCS = Path(__file__).parents[2] / "docs"
RUN = DOCS / "performance/bench.json"
PICTURE = DOCS / "performance/reads.svg"
SVG = "{http://www.w3.org/2000/svg}"


def run_of(**nanoseconds: float | None) -> dict[str, Any]:
    cells = [
        {"placement": "pinned", "file": "meminfo", "contender": name, "median_ns": value}
        for name, value in nanoseconds.items()
    ]
    return {"heading": ["kernel:  6.12 x86_64", "CPUs:  2 x <any>", "versions:  procview 1"], "latency": cells}


def test_the_committed_picture_is_of_the_committed_run() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(json.loads(RUN.read_text(encoding="utf-8")))


def test_the_committed_run_is_the_one_that_the_page_documents() -> None:
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    run = json.loads(RUN.read_text(encoding="utf-8"))
    assert "\n".join(run["heading"]) in page
    header, *rows = page.split("One reader, pinned: ")[1].split("\n\n")[0].splitlines()[2:]
    names = header.split("p99")[0].split()
    shown = {row.split()[0]: dict(zip(names, row.split(), strict=False)) for row in rows}
    for file, bars in medians(run).items():
        for name, usec in bars.items():
            assert shown[file][name] == f"{usec:.1f}", (file, name)


def test_each_figure_is_a_bar_of_its_length_and_a_word() -> None:
    root = ElementTree.fromstring(picture(run_of(kernel=10_000, floor=20_000, ours=40_000, lxcfs=80_000)))
    lengths = {bar.get("class"): float(bar.get("width", "")) for bar in root.iter(f"{SVG}rect")}
    assert lengths["lxcfs"] == pytest.approx(2 * lengths["ours"], abs=1)
    assert lengths["lxcfs"] == pytest.approx(8 * lengths["kernel"], abs=1)
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words[-8:] == ["kernel", "10.0", "floor of FUSE", "20.0", "procview", "40.0", "lxcfs", "80.0"]
    assert any("2 x <any>" in (word or "") for word in words)


def test_who_has_not_got_a_file_has_no_bar() -> None:
    root = ElementTree.fromstring(picture(run_of(kernel=10_000, ours=40_000, lxcfs=None)))
    assert [bar.get("class") for bar in root.iter(f"{SVG}rect")] == ["card", "kernel", "ours"]


def test_the_picture_takes_nothing_from_elsewhere() -> None:
    text = picture(run_of(ours=1_000))
    assert set(re.findall(r"\w+://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        ({}, "not what `python -m bench --json` saves"),
        ({"latency": []}, "no reads"),
        (run_of(ours=1_000) | {"heading": ["kernel: 6.12"]}, "heading"),
    ],
)
def test_what_is_no_run_is_refused(run: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RunError, match=complaint):
        picture(run)


@pytest.mark.parametrize(
    ("text", "complaint"), [(None, "No such file"), ("nonsense", "Expecting value"), ("{}", "saves: KeyError")]
)
def test_the_command_names_the_file_that_it_cannot_draw(text: str | None, complaint: str, tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    if text is not None:
        run.write_text(text, encoding="utf-8")
    said = command(run, tmp_path / "picture.svg")
    assert said.returncode == 1
    assert said.stderr.startswith(f"bench.picture: {run}: ")
    assert complaint in said.stderr
    assert not (tmp_path / "picture.svg").exists()


def test_the_command_draws_a_run(tmp_path: Path) -> None:
    assert command(RUN, tmp_path / "picture.svg").returncode == 0
    assert (tmp_path / "picture.svg").read_bytes() == PICTURE.read_bytes()


def command(*arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.picture", *map(str, arguments)],
        cwd=DOCS.parent,
        env=environment_with_modules(),
        capture_output=True,
        text=True,
        check=False,
    )
