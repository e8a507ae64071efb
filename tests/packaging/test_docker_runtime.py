"""``procview-runc``, the runtime for Docker without CDI: what it does to a bundle, and that it never stands in the way.

As the runtime stands in /bin/echo, which shows what the runtime was called with, and the real runc.
"""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from procview.shipped import hook_program, packaging_file
from tests.session import temporary_directory

CONFIG: dict[str, Any] = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ["sh"], "cwd": "/"}}
OTHER = {"path": "/usr/bin/other-hook"}


@dataclass
class Place:
    """The wrapper with the hook beside it, as installed, and a bundle."""

    directory: Path

    @property
    def program(self) -> Path:
        return self.directory / "procview-runc"

    @property
    def hook(self) -> Path:
        return self.directory / "procview-hook"

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle"

    @property
    def config(self) -> Path:
        return self.bundle / "config.json"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run it with echo as the runtime; it must call that with the arguments as they are."""
        argv = [str(self.program), "--procview-runtime=/bin/echo", f"--procview-log={self.log}", *arguments]
        result = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)
        assert (result.returncode, result.stdout, result.stderr) == (0, " ".join(arguments) + "\n", "")
        return result

    def ours(self, *options: str) -> dict[str, Any]:
        """The hook as it is written into a bundle."""
        args = ["procview-hook", *options, "--log", str(self.log)]
        return {"path": str(self.hook), "args": args, "timeout": 30}

    def hooks(self) -> Any:
        return json.loads(self.config.read_text(encoding="utf-8")).get("hooks")


@pytest.fixture
def place() -> Iterator[Place]:
    with temporary_directory() as directory:
        here = Place(directory)
        shutil.copy(packaging_file("docker/procview-runc"), here.program)
        shutil.copy(hook_program(), here.hook)
        here.hook.chmod(0o755)
        here.bundle.mkdir()
        here.config.write_text(json.dumps(CONFIG), encoding="utf-8")
        yield here


CREATING = [
    ["create", "--bundle", "BUNDLE", "--pid-file", "p", "id"],
    ["run", "-d", "-b", "BUNDLE", "id"],
    ["--root", "/r", "--log", "l", "--log-format", "json", "create", "--bundle=BUNDLE", "id"],
    ["--systemd-cgroup", "--rootless", "auto", "--debug", "run", "-b=BUNDLE", "id"],
    ["--root=/r", "create", "--console-socket", "c", "--bundle", "BUNDLE", "id"],
    ["--log", "run", "create", "--bundle", "BUNDLE", "id"],
]


@pytest.mark.parametrize("arguments", CREATING, ids=" ".join)
def test_a_new_container_gets_the_hook_and_everything_else_stays(place: Place, arguments: list[str]) -> None:
    place.run(*(word.replace("BUNDLE", str(place.bundle)) for word in arguments))
    assert json.loads(place.config.read_text(encoding="utf-8")) == {**CONFIG, "hooks": {"prestart": [place.ours()]}}
    assert list(place.bundle.iterdir()) == [place.config]
    assert not place.log.exists()


@pytest.mark.parametrize("arguments", [["create", "id"], ["--debug", "run", "--detach", "id"]], ids=" ".join)
def test_without_an_option_the_bundle_is_the_current_folder(place: Place, arguments: list[str]) -> None:
    place.run(*arguments, cwd=place.bundle)
    assert place.hooks() == {"prestart": [place.ours()]}


OTHERS = [
    [],
    ["--debug"],
    ["start", "id"],
    ["--root", "create", "state", "id"],
    ["--log", "run", "delete", "--force", "id"],
    ["exec", "--process", "p", "id", "run"],
    ["kill", "create"],
]


@pytest.mark.parametrize("arguments", OTHERS, ids=" ".join)
def test_any_other_command_is_the_runtimes_alone(place: Place, arguments: list[str]) -> None:
    place.run(*arguments, cwd=place.bundle)
    assert place.hooks() is None
    assert not place.log.exists()


def test_the_run_directory_goes_on_to_the_hook(place: Place) -> None:
    argv = [str(place.program), "--procview-run-directory=/run/x y", "--procview-runtime=/bin/true", "create"]
    subprocess.run(argv, cwd=place.bundle, timeout=30, check=True)
    assert place.hooks()["prestart"][0]["args"] == ["procview-hook", "--run-directory", "/run/x y"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"prestart": [OTHER]}, ["prestart"]),
        ({"prestart": None, "poststop": [OTHER]}, ["prestart", "poststop"]),
        ({"createRuntime": [OTHER]}, ["createRuntime", "prestart"]),
    ],
    ids=["same stage", "null", "another stage"],
)
def test_the_hooks_of_others_stay_and_come_first(place: Place, before: dict[str, Any], after: list[str]) -> None:
    place.config.write_text(json.dumps({**CONFIG, "hooks": before}), encoding="utf-8")
    place.run("create", "--bundle", str(place.bundle), "id")
    hooks = place.hooks()
    assert hooks.keys() == set(after)
    assert hooks.pop("prestart") == [*(before.get("prestart") or []), place.ours()]
    assert all(hooks[stage] == [OTHER] for stage in hooks)


def test_the_hook_is_added_once(place: Place) -> None:
    place.run("create", "--bundle", str(place.bundle), "id")
    once = place.config.stat().st_ino, place.config.stat().st_mtime_ns
    place.run("create", "--bundle", str(place.bundle), "id")
    assert (place.config.stat().st_ino, place.config.stat().st_mtime_ns) == once


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")
def test_the_bundle_keeps_its_owner_and_mode(place: Place) -> None:
    os.chown(place.config, 1234, 4321)
    place.config.chmod(0o640)
    place.run("create", "--bundle", str(place.bundle), "id")
    status = place.config.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 4321, 0o640)
    assert place.hooks() is not None


BROKEN = ["", "{", "[]", "null", '"x"', '{"hooks": [1]}', '{"hooks": {"prestart": 1}}', '{"hooks": {"x": [1]}}', "\0"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_bundle_that_cannot_be_understood_goes_to_the_runtime_as_it_is(place: Place, text: str) -> None:
    place.config.write_text(text, encoding="utf-8")
    place.run("create", "--bundle", str(place.bundle), "id")
    assert place.config.read_text(encoding="utf-8") == text
    assert list(place.bundle.iterdir()) == [place.config]
    (line,) = place.log.read_text(encoding="utf-8").splitlines()
    assert line.startswith("procview-runc: container without views: ")
    assert stat.S_IMODE(place.log.stat().st_mode) == 0o600


def without_hook(place: Place) -> None:
    place.hook.unlink()


def not_executable(place: Place) -> None:
    place.hook.chmod(0o644)


def a_folder(place: Place) -> None:
    place.hook.unlink()
    place.hook.mkdir()


def no_bundle(place: Place) -> None:
    place.config.unlink()


def unwritable(place: Place) -> None:
    (place.bundle / "config.json").unlink()
    (place.bundle / "config.json").symlink_to("/proc/version")


@pytest.mark.parametrize("trouble", [without_hook, not_executable, a_folder, no_bundle, unwritable])
def test_whatever_is_wrong_the_runtime_is_run_and_one_line_says_why(place: Place, trouble: Any) -> None:
    trouble(place)
    before = sorted(place.bundle.iterdir())
    place.run("create", "--bundle", str(place.bundle), "id")
    assert sorted(place.bundle.iterdir()) == before
    if place.config.is_file() and not place.config.is_symlink():
        assert place.hooks() is None
    assert len(place.log.read_text(encoding="utf-8").splitlines()) == 1


def test_arguments_that_are_cut_off_are_the_runtimes_to_refuse(place: Place) -> None:
    place.run("create", "--bundle")
    place.run("--log")
    place.run("create", "--bundle=")


def test_a_log_that_cannot_be_written_is_no_reason_either(place: Place) -> None:
    place.log.symlink_to("/var/tmp/procview-test-never-made")
    place.config.write_text("{", encoding="utf-8")
    place.run("create", "--bundle", str(place.bundle), "id")
    assert not os.path.lexists("/var/tmp/procview-test-never-made")


def test_a_runtime_that_is_not_there_is_an_error_that_names_it(place: Place) -> None:
    argv = [str(place.program), "--procview-runtime=/nowhere/runc", f"--procview-log={place.log}", "state", "id"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 127
    assert result.stderr == "procview-runc: cannot run /nowhere/runc: No such file or directory\n"


def test_an_option_that_it_does_not_know_is_left_out_and_logged(place: Place) -> None:
    argv = [
        str(place.program),
        f"--procview-log={place.log}",
        "--procview-colour=red",
        "--procview-runtime=/bin/echo",
        "x",
    ]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout == "x\n"
    assert place.log.read_text(encoding="utf-8") == "procview-runc: unknown option --procview-colour\n"
