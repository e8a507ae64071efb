"""Each view of each known host tree, whole, against tests/golden/<tree>/<view>.txt.

``pytest tests/views --update-golden`` rewrites them; read what changed before keeping it. A missing golden fails.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.hosts.known import KNOWN, Known
from tests.hosts.trees import fresh

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import PROC_VIEWS, Engine

GOLDEN = Path(__file__).parents[1] / "golden"
TREES = ("sys/devices/system/cpu", "sys/devices/system/node")


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
@pytest.mark.parametrize("view", [*PROC_VIEWS, *TREES])
def test_golden(scratch: Path, update_golden: bool, known: Known, view: str) -> None:
    with fresh(scratch) as folder:
        roots, pid = known.write(folder)
        engine = Engine(**roots)
        text = render_tree(engine, pid, view) if view in TREES else render(engine, pid, f"proc/{view}")
        assert not {name: n for name, n in engine.counters().items() if name.startswith("fallback") and n}
        engine.close()
    golden = GOLDEN / known.name / f"{view.removeprefix('sys/devices/system/').replace('/', '-')}.txt"
    if update_golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
        return
    assert golden.exists(), f"no golden {golden}: look at what --update-golden writes"
    expected = golden.read_text()
    assert text == expected, "\n" + "".join(
        difflib.unified_diff(expected.splitlines(keepends=True), text.splitlines(keepends=True), "golden", "engine")
    )


def render(engine: Engine, pid: int, path: str) -> str:
    try:
        return engine.open(pid, path).render().decode()
    except FileNotFoundError:
        return "(no such file)\n"


def render_tree(engine: Engine, pid: int, top: str) -> str:
    """Every folder and file below, a line for each line of text."""
    lines = []
    try:
        names = engine.listdir(pid, top)
    except FileNotFoundError:
        return "(no such folder)\n"
    for name in names:
        path = f"{top}/{name}"
        kind = engine.kind(pid, path)
        if kind == "dir":
            lines += [f"{path}/\n", render_tree(engine, pid, path)]
        elif kind == "link":
            lines.append(f"{path} (link)\n")
        else:
            text = render(engine, pid, path)
            lines += [f"{path}: {line}\n" for line in text.split("\n")[: max(1, text.count("\n"))]]
    return "".join(lines)
