"""pressure/{cpu,memory,io}: the container's own on v2, else not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts.build import build
from tests.hosts.model import Container, Host, Layout, Level
from tests.hosts.trees import fresh
from tests.oracle.pressure import pressure

pytest.importorskip("procview._fast.engine", reason="the engine is not built")
from procview._fast.engine import Engine

TEXTS = {
    "cpu": "some avg10=0.12 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "memory": "some avg10=99.00 avg60=0.00 avg300=0.00 total=18446744073709551615\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
    "io": "some avg10=0.00 avg60=0.01 avg300=0.00 total=3\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
}


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("there", [("cpu", "memory", "io"), ("io",), ()], ids=["all", "io", "none"])
def test_equals_the_oracle(scratch: Path, layout: Layout, there: tuple[str, ...]) -> None:
    container = Container(levels=(Level("c"),), pressure={name: TEXTS[name] for name in there})
    with fresh(scratch) as folder:
        engine = Engine(**build(folder, layout, Host(), container).roots)
        listed = (
            engine.listdir(container.pid, "proc/pressure")
            if "pressure" in engine.listdir(container.pid, "proc")
            else []
        )
        for name in TEXTS:
            expected = pressure(container, layout, name)
            assert (name in listed) == (expected is not None)
            if expected is None:
                with pytest.raises(FileNotFoundError):
                    engine.open(container.pid, f"proc/pressure/{name}").render()
            else:
                assert engine.open(container.pid, f"proc/pressure/{name}").render().decode() == expected
        engine.close()


def test_hybrid_container_in_the_root_of_the_v2_tree(scratch: Path) -> None:
    """Engines that know v1 alone leave it there: what the root says is the host's, so there is nothing to show."""
    container = Container(levels=(Level("c"),))
    with fresh(scratch) as folder:
        tree = build(folder, Layout.HYBRID, Host(), container)
        tree.write("cgroup/unified/cpu.pressure", TEXTS["cpu"])
        for pid in (container.init_pid, container.pid):
            tree.write(f"proc/{pid}/cgroup", (folder / f"proc/{pid}/cgroup").read_text().replace("0::/c", "0::/"))
        engine = Engine(**tree.roots)
        with pytest.raises(FileNotFoundError):
            engine.open(container.pid, "proc/pressure/cpu").render()
        engine.close()
