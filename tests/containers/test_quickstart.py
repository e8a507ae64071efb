"""The commands of docs/quickstart.md, run as they stand there, against a real daemon; what they print is compared.

tests/quickstart.py takes the page apart. A container is called c1 there.

Between the page and the machine stand only the places: programs of these names come first in PATH, and add where this
test's daemon, files and containers are (and that there is no network), as an administrator's configuration would.
"""

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import session
from tests.containers import cgroups, engines
from tests.containers.cgroups import Limits
from tests.containers.conftest import usable
from tests.containers.engines import Engine
from tests.containers.engines.base import WITHOUT_V2, EngineError, checked
from tests.containers.engines.command_line import IMAGE
from tests.containers.engines.docker import DockerContainer
from tests.containers.engines.podman import ULIMITS, PodmanContainer
from tests.containers.rootfs import Rootfs
from tests.containers.served import Daemon
from tests.quickstart import Step, blocks, prints
from tests.timing import patient

PAGE = Path(__file__).parents[2] / "docs/quickstart.md"
LIMITS = Limits(memory_bytes=512 << 20)
PROGRAMS = ("sh", "env", "sleep", "free")
"""What the containers have: no machine's own folders are mounted into them, since no command of the page says so."""
COMMON = Path("/usr/share/lxc/config/common.conf")

NOT_RUN = {
    "install": "it compiles for minutes; ./dev build installs a wheel, and tests/systemd starts the unit",
    "docker-cdi": "it takes Docker 28.2, which Debian 12 and 13 have not got; tests/packaging validates the file",
    "isulad": "iSulad is in no package of Debian; tests/hook runs what its hookspec.json says, with runc",
}
"""Blocks whose commands cannot be run here, and why."""
IN_A_GUEST = {"debian", "incus", "prometheus"}
"""Blocks that tests/packaging/test_clean_debian.py runs in a machine of their own."""


# --- Where its commands are run ---


@dataclass(frozen=True)
class Scene:
    """A folder to run commands in, with a root file system in ``rootfs``, and a name for the container."""

    directory: Path
    rootfs: Rootfs
    daemon: Daemon
    name: str

    @property
    def prefix(self) -> Path:
        return self.directory / "prefix"

    def program(self, name: str, script: str) -> None:
        """A program that is found before all others of that name."""
        folder = self.directory / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)

    def run(self, step: Step, replaced: dict[str, str]) -> None:
        """One command of the page, which has to succeed and to print what the page says."""
        command, expected = step.command, step.prints
        for old, new in {r"\bc1\b": self.name, **replaced}.items():
            command = re.sub(old, new, command)
            expected = tuple(re.sub(old, new, line) for line in expected)
        variables = session.environment_with_modules() | {session.VARIABLE: session.SESSION, "LC_ALL": "C.UTF-8"}
        variables["PATH"] = f"{self.directory}/bin:{variables['PATH']}"
        result = subprocess.run(
            ["sh", "-ec", command],
            cwd=self.directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )
        said = f"{command}\nstatus {result.returncode}\n{result.stdout}{result.stderr}"
        assert result.returncode == 0, said
        assert prints(expected, result.stdout), said


@pytest.fixture
def scene(daemon: Daemon) -> Iterator[Scene]:
    with session.temporary_directory() as directory:
        scene = Scene(directory, Rootfs.copied(directory / "rootfs", PROGRAMS), daemon, session.new_name())
        run_directory = shlex.quote(str(daemon.run_directory))
        scene.program(
            "procview",
            f'command=$1; shift\n[ "$command" != install ] || set -- --prefix {scene.prefix} "$@"\n'
            f'exec {sys.executable} -m procview "$command" --run-directory {run_directory} "$@"',
        )
        yield scene


# --- The engines: what each of them finds when the commands begin ---

Replaced = dict[str, str]
"""Places in the page, as regular expressions, and where they are here."""
Prepare = Callable[[Scene], AbstractContextManager[Replaced]]
_QUIET = ["--network", "none", "--log-driver", "none", "--env", f"{session.VARIABLE}={session.SESSION}"]


@contextlib.contextmanager
def with_podman(scene: Scene) -> Iterator[Replaced]:
    """A podman whose storage has the image, and a container without views."""
    with engines.PODMAN.start(scene.rootfs, LIMITS, views=None) as container:
        assert isinstance(container, PodmanContainer)
        checked([*container.podman, "tag", IMAGE, "docker.io/library/ubuntu:24.04"])
        podman = shlex.join(_elsewhere(word) if word == "podman" else word for word in container.podman)
        hooks = f"{scene.prefix}/usr/share/containers/oci/hooks.d"
        options = shlex.join([*_QUIET, *ULIMITS, "--cgroup-parent", f"/{container.parent}"])
        run = f'{podman} --hooks-dir {hooks} run {options} "$@"'
        scene.program("podman", f'[ "$1" != run ] || {{ shift; exec {run}; }}\nexec {podman} "$@"')
        yield {rf"\b{scene.name}\b": container.name}


@contextlib.contextmanager
def with_docker(scene: Scene) -> Iterator[Replaced]:
    """A dockerd of its own; systemd, which is not there, would send it the same signal."""
    with engines.DOCKER.start(scene.rootfs, LIMITS, views=None) as container:
        assert isinstance(container, DockerContainer)
        checked([*container.docker, "tag", IMAGE, "ubuntu:24.04"])
        docker = shlex.join(container.docker)
        run = f'{docker} run {shlex.join(_QUIET)} "$@"'
        scene.program("docker", f'[ "$1" != run ] || {{ shift; exec {run}; }}\nexec {docker} "$@"')
        scene.program(
            "systemctl",
            f'[ "$*" = "reload docker" ] && kill -HUP {container.daemon.pid}\n'
            f"until {docker} info --format '{{{{json .Runtimes}}}}' | grep -q procview; do sleep 0.1; done",
        )
        yield {"/etc/docker/": f"{container.directory}/"}


@contextlib.contextmanager
def with_lxc(scene: Scene) -> Iterator[Replaced]:
    """A container with the configuration of the distribution, a limit, and the folder that the prefix has."""
    home = scene.directory / scene.name
    home.mkdir()
    kind = "cgroup2.memory.max" if cgroups.is_pure_v2() else "cgroup.memory.limit_in_bytes"
    lines = [
        f"lxc.include = {COMMON}",
        f"lxc.include = {scene.prefix}/usr/share/lxc/config/common.conf.d/",
        f"lxc.uts.name = {scene.name}",
        f"lxc.rootfs.path = dir:{scene.rootfs.path}",
        "lxc.init.cmd = sleep infinity",
        "lxc.net.0.type = empty",
        "lxc.apparmor.profile = unconfined",
        f"lxc.{kind} = {LIMITS.memory_bytes}",
        f"lxc.environment = {session.VARIABLE}={session.SESSION}",
    ]
    (home / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for program in ("lxc-start", "lxc-attach"):
        scene.program(program, f'exec {_elsewhere(program)} -P {scene.directory} "$@"')
    try:
        yield {}
    finally:
        with contextlib.suppress(EngineError):  # it may not have started
            checked(["lxc-stop", "-P", scene.directory, "-n", scene.name, "--kill"])
        # LXC keeps a lock for every place that containers are in, for good.
        checked(["rm", "-rf", f"/run/lxc/lock{scene.directory}"])


def with_oci(runtime: str) -> Prepare:
    """A runtime that keeps its state in the scene."""

    @contextlib.contextmanager
    def prepare(scene: Scene) -> Iterator[Replaced]:
        wrapper = shlex.join(WITHOUT_V2 if runtime == "crun" and cgroups.layout() == "hybrid" else ())
        command = f"{wrapper} {_elsewhere(runtime)} --root {scene.directory}/state"
        # Our own cgroup holds processes, so on v2 it cannot have children with limits.
        path = f"jq '.linux.cgroupsPath = \"/{scene.name}\"' config.json >at-root.json && mv at-root.json config.json"
        scene.program(runtime, (f'[ "$1" != run ] || {{ {path}; }}\n' * cgroups.is_pure_v2()) + f'exec {command} "$@"')
        try:
            yield {}
        finally:
            checked(["sh", "-c", f"exec {command} delete --force {scene.name}"])

    return prepare


@contextlib.contextmanager
def with_nspawn(scene: Scene) -> Iterator[Replaced]:
    """A container that runs. There is no systemd-machined for machinectl, so what it would run is run without it."""
    with engines.NSPAWN.start(scene.rootfs, LIMITS, views=None) as container:
        scene.program("machinectl", f'[ "$1 $2" = "shell {container.name}" ] || exit 64\nshift 2\nexec '
                      f'{shlex.join(container.command(()))} "$@"')  # fmt: skip
        yield {rf"\b{scene.name}\b": container.name}


def _elsewhere(program: str) -> str:
    """The engine's own program."""
    return checked(["sh", "-c", f"command -v {program}"]).strip()


ENGINES: dict[str, tuple[Engine, Prepare]] = {
    "podman": (engines.PODMAN, with_podman),
    "docker": (engines.DOCKER, with_docker),
    "lxc": (engines.LXC, with_lxc),
    "runc": (engines.RUNC, with_oci("runc")),
    "crun": (engines.CRUN, with_oci("crun")),
    "nspawn": (engines.NSPAWN, with_nspawn),
    "attach": (engines.PODMAN, with_podman),
}


@pytest.mark.parametrize("name", [*ENGINES, *NOT_RUN])
def test_the_commands_of_the_page_do_what_the_page_says(name: str, request: pytest.FixtureRequest) -> None:
    page = blocks(PAGE.read_text(encoding="utf-8"))
    assert page[name], "the page has no such block, or there is no command in it"
    if name in NOT_RUN:
        pytest.skip(f"not run: {NOT_RUN[name]}")
    engine, prepare = ENGINES[name]
    usable(engine)
    scene: Scene = request.getfixturevalue("scene")
    with prepare(scene) as replaced:
        for step in page[name]:
            scene.run(step, replaced)


def test_every_block_of_the_page_is_run_or_it_is_said_why_not() -> None:
    assert set(blocks(PAGE.read_text(encoding="utf-8"))) == {*ENGINES, *NOT_RUN, *IN_A_GUEST}


def test_every_engine_of_the_page_shows_what_free_prints() -> None:
    page = blocks(PAGE.read_text(encoding="utf-8"))
    for name in ENGINES:
        assert page[name][-1].prints[-1].split() == ["Mem:", "512", "…"], name


def test_what_a_command_prints_is_compared_by_words() -> None:
    output = "next\nMem:      512    1  511\nSwap:  0\n"
    assert prints(["Mem: 512 …", "Swap: 0"], output)
    assert prints([], output)
    assert not prints(["Mem: 24105 …"], output)
    assert not prints(["Mem: 512"], output)
    assert not prints(["Swap: 0", "Mem: 512 …"], output)


def test_a_block_is_taken_apart_into_commands_and_what_they_print() -> None:
    page = "<!-- run: one -->\n```console\n$ a \\\n>   b\nx  y\n$ c\n```\n"
    assert blocks(page) == {"one": [Step("a \\\n  b", ("x  y",)), Step("c", ())]}
    with pytest.raises(AssertionError, match="without"):
        blocks("```console\n$ a\n```\n")
