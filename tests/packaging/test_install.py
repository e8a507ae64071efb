"""``procview install`` and ``procview uninstall``: into a prefix of the test's own."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from procview import engines
from procview.cli.install import install, uninstall
from procview.engines import DOCKER_RUNTIME, ENGINES, HOOK, Site
from procview.installation import RECORD
from procview.shipped import hook_program, packaging_file
from tests.session import temporary_directory

NAMES = [engine.name for engine in ENGINES]
HOOKS_D = "/usr/share/containers/oci/hooks.d/procview.json"
HOOKSPEC = "/var/lib/isulad/hooks/hookspec.json"


@pytest.fixture
def prefix() -> Iterator[Path]:
    with temporary_directory() as directory:
        yield directory / "root"


def run(command: click.Command, *arguments: str | Path) -> tuple[int, str]:
    """Run it; its exit status and everything it said."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def done(command: click.Command, *arguments: str | Path) -> str:
    status, said = run(command, *arguments)
    assert status == 0, said
    return said


def below(prefix: Path) -> dict[str, bytes]:
    """Every file below the prefix, except the record."""
    found = {f"/{path.relative_to(prefix)}": path.read_bytes() for path in prefix.rglob("*") if path.is_file()}
    found.pop(RECORD, None)
    return found


def paths_of(name: str) -> set[str]:
    engine = engines.find(name)
    return {file.path for file in engine.files} | ({HOOK} if engine.hook else set())


def rendered(name: str, site: Site) -> dict[str, str]:
    files = engines.find(name).files
    return {
        file.path: file.render(Path(packaging_file(file.template)).read_text(encoding="utf-8"), site) for file in files
    }


each_engine = pytest.mark.parametrize("name", NAMES)


@each_engine
def test_an_engine_gets_its_files_and_the_hook_and_each_is_named(name: str, prefix: Path) -> None:
    said = done(install, name, "--prefix", prefix)
    assert below(prefix).keys() == paths_of(name)
    for path in paths_of(name):
        assert f"wrote {prefix}{path}\n" in said
    assert f"\nnext, for {name}: " in said


@each_engine
def test_files_are_for_everybody_to_read_and_programs_to_run_and_only_their_owner_writes(
    name: str, prefix: Path
) -> None:
    before = os.umask(0o077)
    try:
        done(install, name, "--prefix", prefix)
    finally:
        os.umask(before)
    for path in prefix.rglob("*"):
        programs = {f"{prefix}{HOOK}", f"{prefix}{DOCKER_RUNTIME}"}
        expected = 0o755 if path.is_dir() or str(path) in programs else 0o644
        assert stat.S_IMODE(path.lstat().st_mode) == expected, path
        assert path.lstat().st_uid == os.geteuid()


def test_the_files_refer_to_each_other_below_the_prefix(prefix: Path) -> None:
    done(install, *NAMES, "--prefix", prefix)
    for engine in ENGINES:
        for file in engine.files:
            where = f"{prefix}{file.path}"
            named = file.hooks(where, Path(where).read_text(encoding="utf-8"))
            assert named == ([f"{prefix}{HOOK}"] if engine.hook else [])
    assert (prefix / HOOK[1:]).read_bytes() == Path(hook_program()).read_bytes()


def test_the_installed_hook_runs(prefix: Path) -> None:
    done(install, "oci", "--prefix", prefix)
    said = subprocess.run([f"{prefix}{HOOK}", "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert "procview-hook" in said


def written(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced, and not when it is read."""
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@each_engine
def test_a_second_install_changes_nothing_and_says_so(name: str, prefix: Path) -> None:
    done(install, name, "--prefix", prefix)
    files = [path for path in prefix.rglob("*") if path.is_file() and path != Path(f"{prefix}{RECORD}")]
    before = [written(path) for path in files]
    said = done(install, name, "--prefix", prefix)
    assert "Everything is installed already." in said
    assert "wrote" not in said
    assert [written(path) for path in files] == before


@each_engine
def test_uninstall_leaves_nothing(name: str, prefix: Path) -> None:
    done(install, name, "--prefix", prefix)
    said = done(uninstall, name, "--prefix", prefix)
    for path in paths_of(name):
        assert f"removed {prefix}{path}\n" in said
    assert list(prefix.rglob("*")) == []


def test_folders_that_were_there_before_stay(prefix: Path) -> None:
    (prefix / "usr/share").mkdir(parents=True)
    done(install, "podman", "--prefix", prefix)
    done(uninstall, "podman", "--prefix", prefix)
    assert [path.relative_to(prefix) for path in prefix.rglob("*")] == [Path("usr"), Path("usr/share")]


@each_engine
def test_a_dry_run_says_what_it_would_do_and_writes_nothing(name: str, prefix: Path) -> None:
    said = done(install, name, "--prefix", prefix, "--dry-run")
    assert not prefix.exists()
    for path in paths_of(name):
        assert f"would write {prefix}{path}\n" in said
    done(install, name, "--prefix", prefix)
    before = below(prefix)
    said = done(uninstall, name, "--prefix", prefix, "--dry-run")
    assert below(prefix) == before
    for path in paths_of(name):
        assert f"would remove {prefix}{path}\n" in said
    done(uninstall, name, "--prefix", prefix)  # the record has not changed either
    assert list(prefix.rglob("*")) == []


def test_several_engines_share_the_hook_and_the_last_one_takes_it_away(prefix: Path) -> None:
    done(install, "isulad", "cdi", "docker", "systemd", "--prefix", prefix)
    assert f"kept {prefix}{HOOK}: " in done(uninstall, "isulad", "systemd", "--prefix", prefix)
    assert f"kept {prefix}{HOOK}: " in done(uninstall, "cdi", "--prefix", prefix)
    assert below(prefix).keys() == {HOOK, DOCKER_RUNTIME}
    done(uninstall, "docker", "--prefix", prefix)
    assert list(prefix.rglob("*")) == []


def test_podman_and_crio_share_a_file(prefix: Path) -> None:
    done(install, "podman", "--prefix", prefix)
    done(install, "crio", "--prefix", prefix)
    assert f"kept {prefix}{HOOKS_D}: installed for crio too" in done(uninstall, "podman", "--prefix", prefix)
    assert below(prefix).keys() == {HOOK, HOOKS_D}
    done(uninstall, "crio", "--prefix", prefix)
    assert list(prefix.rglob("*")) == []


# --- what is not ours ---


def occupied(prefix: Path, path: str, text: str = "somebody's\n") -> Path:
    file = Path(f"{prefix}{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_of_somebody_else_is_refused_by_name_and_nothing_is_written(prefix: Path) -> None:
    file = occupied(prefix, HOOKSPEC)
    status, said = run(install, "isulad", "podman", "--prefix", prefix)
    assert status == 1
    assert f"Error: {file} was not written by procview install" in said
    assert f"--force replaces it, and keeps it as {file}.orig" in said
    assert [path for path in prefix.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "somebody's\n"


def test_a_file_that_was_changed_by_hand_is_refused_too(prefix: Path) -> None:
    done(install, "isulad", "--prefix", prefix)
    file = occupied(prefix, HOOKSPEC, "changed\n")
    status, said = run(install, "isulad", "--prefix", prefix)
    assert (status, file.read_text()) == (1, "changed\n")
    assert str(file) in said


def test_force_replaces_a_file_and_keeps_the_old_one_each_time(prefix: Path) -> None:
    file = occupied(prefix, HOOKSPEC, "first\n")
    said = done(install, "isulad", "--prefix", prefix, "--force")
    assert f"kept the old {file} as {file}.orig\n" in said
    ours = file.read_bytes()
    file.write_text("second\n", encoding="utf-8")
    done(install, "isulad", "--prefix", prefix, "--force")
    assert file.read_bytes() == ours
    assert Path(f"{file}.orig").read_text() == "first\n"
    assert Path(f"{file}.orig2").read_text() == "second\n"
    done(uninstall, "isulad", "--prefix", prefix)
    assert below(prefix).keys() == {f"{HOOKSPEC}.orig", f"{HOOKSPEC}.orig2"}


def test_force_that_only_says_so_changes_nothing(prefix: Path) -> None:
    file = occupied(prefix, HOOKSPEC)
    said = done(install, "isulad", "--prefix", prefix, "--force", "--dry-run")
    assert f"would keep the old {file} as {file}.orig\nwould write {file}\n" in said
    assert [path for path in prefix.rglob("*") if path.is_file()] == [file]


def test_a_link_is_not_followed(prefix: Path) -> None:
    target = occupied(prefix, "/elsewhere")
    link = Path(f"{prefix}{HOOKSPEC}")
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    assert run(install, "isulad", "--prefix", prefix)[0] == 1
    done(install, "isulad", "--prefix", prefix, "--force")
    assert target.read_text() == "somebody's\n"
    assert not link.is_symlink()
    assert Path(f"{link}.orig").is_symlink()


def test_uninstall_keeps_a_file_that_was_changed_and_the_hook_that_it_runs(prefix: Path) -> None:
    done(install, "isulad", "podman", "--prefix", prefix)
    file = Path(f"{prefix}{HOOKSPEC}")
    content = json.loads(file.read_text(encoding="utf-8"))
    content["prestart"][0]["timeout"] = 5
    file.write_text(json.dumps(content), encoding="utf-8")
    said = done(uninstall, "isulad", "podman", "--prefix", prefix)
    assert f"kept {file}: it was changed since it was installed; remove it by hand\n" in said
    assert f"kept {prefix}{HOOK}: {file} runs it\n" in said
    assert below(prefix).keys() == {HOOKSPEC, HOOK}
    file.unlink()
    assert f"removed {prefix}{HOOK}\n" in done(uninstall, "isulad", "--prefix", prefix)
    assert below(prefix) == {}


def test_a_file_that_cannot_be_understood_keeps_the_hook(prefix: Path) -> None:
    done(install, "isulad", "--prefix", prefix)
    occupied(prefix, HOOKSPEC, '{"prestart": [')
    done(uninstall, "isulad", "--prefix", prefix)
    assert below(prefix).keys() == {HOOKSPEC, HOOK}


def test_uninstall_leaves_what_a_package_brought(prefix: Path) -> None:
    site = Site(str(prefix))
    brought = occupied(prefix, HOOKS_D, rendered("podman", site)[HOOKS_D])
    said = done(install, "podman", "--prefix", prefix)
    assert f"unchanged {brought}\n" in said
    assert f"kept {brought}: it was not installed for podman\n" in done(uninstall, "podman", "--prefix", prefix)
    assert brought.exists()


def test_uninstall_of_what_is_not_there_says_so(prefix: Path) -> None:
    assert done(uninstall, "cdi", "--prefix", prefix) == f"Nothing of cdi is installed below {prefix}.\n"


def test_a_file_that_was_removed_by_hand_is_no_error(prefix: Path) -> None:
    done(install, "cdi", "--prefix", prefix)
    (prefix / "etc/cdi/procview.json").unlink()
    assert f"already gone {prefix}/etc/cdi/procview.json\n" in done(uninstall, "cdi", "--prefix", prefix)
    assert list(prefix.rglob("*")) == []


# --- updates, and what can go wrong ---


def test_a_newer_version_replaces_what_an_older_one_wrote(prefix: Path) -> None:
    done(install, "isulad", "--prefix", prefix, "--run-directory", "/run/older")
    said = done(install, "isulad", "--prefix", prefix)  # another text, as a newer version would have
    assert f"wrote {prefix}{HOOKSPEC}\n" in said
    assert f"unchanged {prefix}{HOOK}\n" in said
    assert "/run/older" not in Path(f"{prefix}{HOOKSPEC}").read_text()
    done(uninstall, "isulad", "--prefix", prefix)
    assert list(prefix.rglob("*")) == []


def test_a_hook_that_nobody_may_run_is_made_runnable_again(prefix: Path) -> None:
    done(install, "oci", "--prefix", prefix)
    hook = Path(f"{prefix}{HOOK}")
    hook.chmod(0o600)
    done(install, "oci", "--prefix", prefix)
    assert stat.S_IMODE(hook.stat().st_mode) == 0o755


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": {"/x": 1}, "directories": []}', '{"files": {}}'])
@pytest.mark.parametrize("command", [install, uninstall], ids=["install", "uninstall"])
def test_a_broken_record_is_an_error_that_says_what_to_do(command: click.Command, text: str, prefix: Path) -> None:
    record = occupied(prefix, RECORD, text)
    status, said = run(command, "cdi", "--prefix", prefix)
    assert status == 1
    assert f"Error: {record} cannot be understood" in said
    assert "move it away" in said
    assert [path for path in prefix.rglob("*") if path.is_file()] == [record]


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(prefix: Path) -> None:
    occupied(prefix, "/usr")  # where a folder has to be
    status, said = run(install, "podman", "--prefix", prefix)
    assert status == 1
    assert f"Error: cannot write below {prefix}" in said or f"Error: cannot write {prefix}/usr" in said


def test_who_may_not_write_there_is_told_what_to_do(prefix: Path) -> None:
    prefix.mkdir(mode=0o555)
    # Root may write anywhere, unless it gives that up.
    as_a_user = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override"]
    program = "from procview.cli.install import install; install()"
    argv = [*as_a_user, sys.executable, "-c", program, "isulad", "--prefix", str(prefix)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: cannot write below {prefix}/usr: Permission denied; run this as root, or give another --prefix\n"
    )
    assert list(prefix.iterdir()) == []
