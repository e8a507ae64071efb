"""The tree: fixed inode numbers, who has which name, what a directory lists."""

import errno

import pytest

from procview._fast.engine import PROC_VIEWS
from procview.fs.nodes import CPU_DIR, CPU_FILES, NODE_DIR, NODE_FILES, ROOT_INODE, Node, Tree, inode_of
from tests.fs.fake import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(cpus_of={7: 2}, nodes_of={7: 1})


@pytest.fixture
def tree(engine: FakeEngine) -> Tree:
    return Tree(engine.as_engine())


def walk(tree: Tree, path: str, pid: int) -> Node:
    node = tree.node(ROOT_INODE)
    for name in filter(None, path.split("/")):
        node = tree.child(node, name, pid)
    return node


def names(tree: Tree, path: str, pid: int) -> list[str]:
    return [node.path.rpartition("/")[2] for node in tree.children(walk(tree, path, pid), pid)]


def test_inode_numbers_are_fixed_for_good() -> None:
    # A daemon of another version may take over a mount whose inodes the kernel knows: these may never change.
    assert inode_of("") == 1
    assert inode_of("proc/meminfo") == 3203711480
    assert inode_of(f"{CPU_DIR}/cpu17") == (1 << 28) + 17
    assert inode_of(f"{CPU_DIR}/cpu0/topology/core_id") == 13339760679932356474
    assert inode_of(f"{NODE_DIR}/node3") == (1 << 29) + 3


def test_inode_numbers_collide_nowhere_on_a_large_host() -> None:
    paths = ["", "proc", "sys", "sys/devices", "sys/devices/system", CPU_DIR, "proc/pressure"]
    paths += [f"proc/{name}" for name in PROC_VIEWS] + [f"{CPU_DIR}/{name}" for name in CPU_FILES]
    paths += [NODE_DIR, *(f"{NODE_DIR}/{name}" for name in NODE_FILES)]
    paths += [f"{NODE_DIR}/node{node}" for node in range(1024)]
    paths += [f"{NODE_DIR}/node{node}/meminfo" for node in range(1024)]
    paths += [f"{NODE_DIR}/node{cpu % 8}/cpu{cpu}" for cpu in range(8192)]
    paths += [f"{CPU_DIR}/cpu{cpu}" for cpu in range(8192)]
    paths += [f"{CPU_DIR}/cpu{cpu}/topology/core_id" for cpu in range(8192)]
    assert len({inode_of(path) for path in paths}) == len(paths)


def test_inode_numbers_of_what_every_container_reads_fit_32_bits() -> None:
    for path in [f"proc/{name}" for name in PROC_VIEWS] + [
        *(f"{CPU_DIR}/online", f"{CPU_DIR}/cpu8191", CPU_DIR),
        *(f"{NODE_DIR}/online", f"{NODE_DIR}/node1023", NODE_DIR),
    ]:
        assert 1 < inode_of(path) < 1 << 32


def test_what_everyone_has_is_static_and_the_rest_is_not(tree: Tree) -> None:
    everyones = ("", "proc", "proc/meminfo", "proc/pressure", "sys/devices/system")
    for path in (*everyones, CPU_DIR, f"{CPU_DIR}/online", NODE_DIR, f"{NODE_DIR}/online"):
        assert not walk(tree, path, 7).per_caller
    for path in ("proc/pressure/cpu", f"{CPU_DIR}/cpu1", f"{CPU_DIR}/cpu1/topology/core_id", f"{NODE_DIR}/node0",
                 f"{NODE_DIR}/node0/meminfo", f"{NODE_DIR}/node0/cpu1", f"{CPU_DIR}/cpu1/node0"):  # fmt: skip
        assert walk(tree, path, 7).per_caller


def test_each_caller_has_its_own_cpus(tree: Tree) -> None:
    assert walk(tree, f"{CPU_DIR}/cpu3", 8).is_dir
    with pytest.raises(FileNotFoundError):
        walk(tree, f"{CPU_DIR}/cpu3", 7)
    assert names(tree, CPU_DIR, 7) == [*CPU_FILES, "cpu0", "cpu1"]
    assert names(tree, CPU_DIR, 8) == [*CPU_FILES, "cpu0", "cpu1", "cpu2", "cpu3"]


def test_each_caller_has_its_own_nodes(tree: Tree) -> None:
    assert walk(tree, f"{NODE_DIR}/node1", 8).is_dir
    with pytest.raises(FileNotFoundError):
        walk(tree, f"{NODE_DIR}/node1", 7)
    assert names(tree, NODE_DIR, 7) == ["has_cpu", "online", "possible", "node0"]
    assert names(tree, f"{NODE_DIR}/node0", 7) == ["cpu0", "cpu1", "meminfo"]


def test_cpus_and_nodes_link_to_each_other(tree: Tree) -> None:
    to_cpu, to_node = walk(tree, f"{NODE_DIR}/node0/cpu1", 7), walk(tree, f"{CPU_DIR}/cpu1/node0", 7)
    assert to_cpu.is_link
    assert to_node.is_link
    assert (to_cpu.target, to_node.target) == ("../../cpu/cpu1", "../../node/node0")
    with pytest.raises(NotADirectoryError):
        names(tree, f"{NODE_DIR}/node0/cpu1", 7)
    with pytest.raises(FileNotFoundError):
        walk(tree, f"{NODE_DIR}/node0/cpu2", 7)


def test_without_numa_there_is_no_node_tree() -> None:
    tree = Tree(FakeEngine(has_nodes=False).as_engine())
    assert names(tree, "sys/devices/system", 7) == ["cpu"]
    with pytest.raises(FileNotFoundError):
        walk(tree, NODE_DIR, 7)


def test_listings(tree: Tree) -> None:
    assert names(tree, "", 7) == ["proc", "sys"]
    assert set(names(tree, "proc", 7)) == {view.split("/")[0] for view in PROC_VIEWS}
    assert names(tree, "proc/pressure", 7) == ["io", "cpu", "memory"]


def test_who_has_no_pressure_numbers_has_an_empty_folder() -> None:
    tree = Tree(FakeEngine(pressure_of=lambda pid: pid == 0).as_engine())
    assert "pressure" in names(tree, "proc", 7)
    assert names(tree, "proc/pressure", 7) == []
    with pytest.raises(FileNotFoundError):
        walk(tree, "proc/pressure/cpu", 7)


def test_listings_of_cpu_folders(tree: Tree) -> None:
    assert names(tree, f"{CPU_DIR}/cpu0", 7) == ["node0", "online", "topology"]


def test_without_psi_nothing_of_pressure_is_there() -> None:
    tree = Tree(FakeEngine(pressure_of=lambda _pid: False).as_engine())
    assert "pressure" not in names(tree, "proc", 7)
    with pytest.raises(FileNotFoundError):
        walk(tree, "proc/pressure", 7)


def test_what_the_host_lacks_nobody_has() -> None:
    tree = Tree(FakeEngine(missing=frozenset({"proc/swaps"})).as_engine())
    assert "swaps" not in names(tree, "proc", 7)
    with pytest.raises(FileNotFoundError):
        walk(tree, "proc/swaps", 7)


@pytest.mark.parametrize(
    "path", ["nothing", "proc/version", "proc/1", "proc/self", "sys/kernel", "sys/devices/virtual", f"{CPU_DIR}/smt"]
)
def test_nothing_else_can_be_reached(tree: Tree, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        walk(tree, path, 7)


def test_dots(tree: Tree) -> None:
    assert walk(tree, "proc/.", 7).path == "proc"
    assert walk(tree, "proc/pressure/..", 7).path == "proc"
    assert walk(tree, "..", 7).path == ""


def test_a_file_has_no_children(tree: Tree) -> None:
    with pytest.raises(NotADirectoryError):
        walk(tree, "proc/meminfo/x", 7)
    with pytest.raises(NotADirectoryError):
        names(tree, "proc/meminfo", 7)


def test_unknown_inode_is_stale(tree: Tree) -> None:
    with pytest.raises(OSError) as caught:
        tree.node(12345)
    assert caught.value.errno == errno.ESTALE


def test_missing_names_do_not_grow_the_table(tree: Tree) -> None:
    before = len(tree)
    for number in range(1000):
        with pytest.raises(FileNotFoundError):
            walk(tree, f"{CPU_DIR}/cpu{1000 + number}", 7)
        with pytest.raises(FileNotFoundError):
            walk(tree, f"proc/{number}", 7)
    assert len(tree) == before
