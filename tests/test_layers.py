"""What may import what; docs/architecture.md says why."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "procview"
GROUND = ("procview.logs", "procview.printable")
"""What every module may stand on, but the hot path; these two on nothing."""
MODULES = sorted(PACKAGE.rglob("*.py")) + sorted(PACKAGE.rglob("*.pyi"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Every module that ``path`` imports anywhere in it, functions and type checks included, by its full name."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.fixture(params=MODULES, ids=name_of)
def imports(request: pytest.FixtureRequest) -> tuple[str, set[str]]:
    return name_of(request.param), set(imports_of(request.param))


def test_only_fs_imports_pyfuse3(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    assert within(module, "procview.fs") or not any(within(name, "pyfuse3") for name in names)


def test_only_daemon_fs_and_control_import_trio(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    assert within(module, "procview.fs", "procview.daemon", "procview.control") or not any(
        within(name, "trio") for name in names
    )


def test_the_hot_path_knows_nothing_of_the_rest(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if within(module, "procview._fast"):
        assert not [name for name in names if within(name, "procview") and not within(name, "procview._fast")]


def test_fs_knows_no_policy_and_no_people(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if within(module, "procview.fs"):
        above = (
            "procview.daemon",
            "procview.cli",
            "procview.check",
            "procview.settings",
            "procview.roots",
            "procview.notify",
            "procview.slots",
            "click",
        )
        assert not [name for name in names if within(name, *above)]


def test_slots_know_mounts_and_nothing_of_views(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if within(module, "procview.slots"):
        below = (
            *GROUND,
            "procview.slots",
            "procview.history",
            "procview.mount_namespace",
            "procview.mounts",
            "procview.shipped",
            "procview.faults",
        )
        assert not [name for name in names if name.startswith("procview.") and not within(name, *below)]


def test_the_guard_knows_slots_only(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if module == "procview.guard":
        below = (
            *GROUND,
            "procview.slots.publish",
            "procview.slots.skeleton",
            "procview.mount_namespace",
            "procview.mounts",
            "procview.starvation",
        )
        assert not [name for name in names if name.startswith("procview.") and not within(name, *below)]


def test_the_supervisor_outlives_what_the_daemon_needs(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if within(module, "procview.supervisor"):
        below = (*GROUND, "procview.supervisor", "procview.standby", "procview.store", "procview.notify")
        assert not [name for name in names if name.startswith("procview.") and not within(name, *below)]


def test_a_check_mends_nothing(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if within(module, "procview.check"):
        # Not move_mount: it is asked for nothing, to see whether the kernel knows a flag.
        mending = {"mount", "detach", "publish", "withdraw", "cut_off", "detach_exactly"}
        assert not [name for name in names if within(name, "procview") and name.rpartition(".")[2] in mending]


def test_nothing_imports_the_commands(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if not within(module, "procview.cli", "procview.__main__"):
        assert not [name for name in names if within(name, "procview.cli", "click")]


def test_only_what_draws_imports_rich(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if not within(module, "procview.screen", "procview.cli.top", "procview.cli.progress"):
        assert not [name for name in names if within(name, "rich")]


def test_the_screen_asks_the_daemon_and_looks_at_nothing_else(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    if within(module, "procview.screen"):
        below = (*GROUND, "procview.screen", "procview.client", "procview.amounts")
        assert not [name for name in names if name.startswith("procview.") and not within(name, *below)]


def test_the_small_modules_stay_small(imports: tuple[str, set[str]]) -> None:
    module, names = imports
    allowed = {
        "procview.settings": (),
        "procview.notify": (),
        "procview.store": ("procview.notify",),
        "procview.standby": ("procview.notify", "procview.store"),
        "procview.faults": ("procview._fast.faults",),
        "procview.logs": ("procview.printable",),
        "procview.printable": (),
        "procview.lock": (),
        "procview.history": (),
        "procview.starvation": (),
        "procview.mount_namespace": (),
        "procview.mounts": ("procview.mount_namespace",),
        "procview.shipped": (),
        "procview.notes": (),
        "procview.container_settings": (
            "procview.notes",
            "procview.settings",
            "procview.slots.containers",
        ),
        "procview.roots": (
            "procview._fast",
            "procview.container_settings",
            "procview.notes",
            "procview.settings",
        ),
        "procview.client": (),
        "procview.amounts": (),
    }
    if module in allowed:
        below = allowed[module] if module in GROUND else (*GROUND, *allowed[module])
        assert not [name for name in names if within(name, "procview") and not within(name, *below)]


def test_every_module_says_what_it_is() -> None:
    for path in MODULES:
        if path.suffix == ".py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_the_test_sees_through_every_way_to_import() -> None:
    assert "procview.fs.nodes" in set(imports_of(PACKAGE / "fs/operations.py"))
    assert "procview.daemon" in set(imports_of(PACKAGE / "cli/serve.py"))  # inside a function
    assert name_of(PACKAGE / "fs/__init__.py") == "procview.fs"
