"""What `procview install` writes, used by the engines themselves: LXC by its include, runc through procview-runc.

podman and the others: tests/containers.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from procview.cli.install import install
from procview.engines import DOCKER_RUNTIME, HOOK
from procview.shipped import packaging_file
from tests import session
from tests.containers.cgroups import is_pure_v2
from tests.containers.rootfs import Rootfs, environment
from tests.daemon.process import Daemon, Place, needs_mount

pytestmark = needs_mount

MEMORY_BYTES = 256 << 20
COMMON = Path("/usr/share/lxc/config/common.conf")
VIEWS = ("/proc/meminfo", "/proc/partitions", "/proc/stat", "/sys/devices/system/cpu")


def needs(program: str) -> pytest.MarkDecorator:
    missing = shutil.which(program) is None and not os.environ.get("PROCVIEW_REQUIRE_ENGINES")
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


@dataclass(frozen=True)
class Served:
    """A daemon that serves, and the files of all engines for it."""

    place: Place
    prefix: Path
    rootfs: Rootfs


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    place = Place(session.new_directory())
    try:
        place.start()
        prefix = place.directory / "prefix"
        arguments = ["lxc", "docker", "--prefix", str(prefix), "--run-directory", str(place.run_directory)]
        result = CliRunner().invoke(install, arguments)
        assert result.exit_code == 0, result.output
        yield Served(place, prefix, Rootfs.create(place.directory / "rootfs"))
    finally:
        place.clean_up()
        session.remove_directory(place.directory)


def run(argv: Sequence[str | Path], cwd: Path | None = None) -> str:
    argv = [str(word) for word in argv]
    variables = environment({session.VARIABLE: session.SESSION})
    result = subprocess.run(
        argv, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, f"{argv}: {result.stdout}{result.stderr}"
    return result.stdout


def views_in(mountinfo: str) -> list[str]:
    """Where it has a view, in order."""
    lines = [line.split(" ") for line in mountinfo.splitlines() if " - " in line]
    return sorted(words[4] for words in lines if words[words.index("-") + 1] == "fuse.procview")


def total_of(meminfo: str) -> int:
    """In bytes."""
    return int(meminfo.split()[1]) << 10


# --- LXC ---


@contextlib.contextmanager
def lxc(served: Served, lines: Sequence[str]) -> Iterator[list[str]]:
    """A container whose configuration begins with ``lines``; what to put before a command that runs inside."""
    name = session.new_name()
    home = served.place.directory / name
    home.mkdir()
    kind = "cgroup2.memory.max" if is_pure_v2() else "cgroup.memory.limit_in_bytes"
    lines = [
        *lines,
        f"lxc.uts.name = {name}",
        f"lxc.rootfs.path = dir:{served.rootfs.path}",
        "lxc.init.cmd = sleep infinity",
        "lxc.net.0.type = empty",
        "lxc.apparmor.profile = unconfined",
        f"lxc.{kind} = {MEMORY_BYTES}",
        f"lxc.environment = {session.VARIABLE}={session.SESSION}",
        *(f"lxc.mount.entry = {host} {inside.lstrip('/')} none rbind,ro 0 0" for host, inside in served.rootfs.binds),
    ]
    (home / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    which = ["-P", str(served.place.directory), "-n", name]
    variables = [f"--set-var={key}={value}" for key, value in environment({}).items()]
    run(["lxc-start", *which, "-d", "-o", home / "log"])
    try:
        yield ["lxc-attach", *which, "--clear-env", *variables, "--"]
    finally:
        run(["lxc-stop", *which, "--kill"])
        # LXC keeps a lock for every place that containers are in, for good.
        shutil.rmtree(f"/run/lxc/lock{served.place.directory}", ignore_errors=True)


def assert_lxc_has_views(served: Served, lines: Sequence[str]) -> None:
    include = f"lxc.include = {served.prefix}/usr/share/lxc/config/common.conf.d/"
    with lxc(served, [*lines, include]) as inside:
        found = views_in(run([*inside, "cat", "/proc/self/mountinfo"]))
        assert set(VIEWS) <= set(found)
        assert len(found) == len(set(found))
        assert total_of(run([*inside, "cat", "/proc/meminfo"])) == MEMORY_BYTES


@needs("lxc-start")
def test_lxc_gives_views_to_a_container_that_includes_the_folder(served: Served) -> None:
    assert_lxc_has_views(served, ["lxc.mount.auto = proc:rw sys:ro"])


@needs("lxc-start")
@pytest.mark.skipif(not COMMON.exists(), reason=f"there is no {COMMON} here")
def test_lxc_gives_views_to_a_container_with_the_configuration_that_distributions_have(served: Served) -> None:
    assert_lxc_has_views(served, [f"lxc.include = {COMMON}"])


@needs("lxc-start")
def test_an_lxc_hook_that_passes_its_facts_in_the_environment_gets_them_too(served: Served) -> None:
    assert_lxc_has_views(served, ["lxc.mount.auto = proc:rw sys:ro", "lxc.hook.version = 1"])


@needs("lxc-start")
def test_an_lxc_container_without_proc_starts_all_the_same(served: Served) -> None:
    include = f"lxc.include = {served.prefix}/usr/share/lxc/config/common.conf.d/"
    with lxc(served, ["lxc.mount.auto =", include]) as inside:
        assert run([*inside, "echo", "here"]) == "here\n"


# --- runc through procview-runc ---


def bundle(served: Served, command: str) -> Path:
    path = served.place.directory / session.new_name()
    path.mkdir()
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        *(
            {"destination": inside, "type": "bind", "source": str(host), "options": ["rbind", "ro"]}
            for host, inside in served.rootfs.binds
        ),
    ]
    variables = environment({session.VARIABLE: session.SESSION})
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", command],
            "env": [f"{key}={value}" for key, value in variables.items()],
            "cwd": "/",
        },
        "root": {"path": str(served.rootfs.path), "readonly": True},
        "mounts": mounts,
        "linux": {
            "resources": {"memory": {"limit": MEMORY_BYTES}},
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
            **({"cgroupsPath": f"/{path.name}"} if is_pure_v2() else {}),
        },
    }
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def through_wrapper(served: Served, path: Path) -> str:
    """What the container of a bundle prints, run by procview-runc in a cgroup that is removed afterwards."""
    log = path / "log"
    options = [f"--procview-run-directory={served.place.run_directory}", f"--procview-log={log}"]
    options += ["--root", f"{path}/state"]
    said = run([f"{served.prefix}{DOCKER_RUNTIME}", *options, "run", "--bundle", path, path.name])
    assert not log.exists(), log.read_text(encoding="utf-8")
    return said


READ = "cat /proc/meminfo /proc/self/mountinfo"


@needs("runc")
def test_runc_through_the_wrapper_gives_views_to_a_container(served: Served) -> None:
    said = through_wrapper(served, bundle(served, READ))
    assert total_of(said) == MEMORY_BYTES
    found = views_in(said)
    assert set(VIEWS) <= set(found)
    assert len(found) == len(set(found))


@needs("runc")
def test_a_container_starts_through_the_wrapper_when_the_hook_is_gone(served: Served) -> None:
    hook = Path(f"{served.prefix}{HOOK}")
    path = bundle(served, READ)
    aside = hook.rename(f"{hook}.aside")
    try:
        argv = [f"{served.prefix}{DOCKER_RUNTIME}", f"--procview-log={path}/log", "--root", f"{path}/state"]
        said = run([*argv, "run", "--bundle", path, path.name])
    finally:
        aside.rename(hook)
    assert total_of(said) > MEMORY_BYTES  # the host's
    assert len((path / "log").read_text(encoding="utf-8").splitlines()) == 1


# --- the unit ---


def as_the_unit_runs_it() -> list[str]:
    """What gives a command the capabilities of the unit, and no way to more."""
    lines = Path(packaging_file("systemd/procview.service")).read_text(encoding="utf-8").splitlines()
    granted = next(line for line in lines if line.startswith("CapabilityBoundingSet=")).partition("=")[2].split()
    bounding = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in granted)])
    return ["setpriv", "--no-new-privs", f"--bounding-set={bounding}", "--"]


@needs("runc")
def test_the_daemon_needs_no_more_capabilities_than_its_unit_grants(served: Served) -> None:
    place = Place(session.new_directory())
    program = [*as_the_unit_runs_it(), sys.executable, "-m", "procview"]
    where = ["--run-directory", str(place.run_directory)]
    try:
        log = place.directory / "log"
        with log.open("wb") as output:
            argv = [*program, "serve", *where]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        daemon = Daemon(process, log)
        place.started.append(daemon)
        daemon.says("serving ")
        here = Served(place, served.prefix, served.rootfs)
        said = through_wrapper(here, bundle(here, READ))
        assert total_of(said) == MEMORY_BYTES
        assert set(VIEWS) <= set(views_in(said))
        daemon.stop()
        assert place.ours() == []
        place.start().process.kill()
        run([*program, "withdraw", *where])
        assert place.ours() == []
    finally:
        place.clean_up()
        session.remove_directory(place.directory)
