"""The hook program and the files that call it, below a prefix of the test's own."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from procview.check import hook
from procview.check.commands import Commands
from procview.check.findings import Finding, Severity, worst
from procview.engines import ENGINES, Site, find
from procview.installation import RECORD, Installation

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a hook program that is in order belongs to root")
ENGINES_WITH_FILES = [engine.name for engine in ENGINES if engine.hook and engine.files]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(str(tmp_path))


def install(site: Site, *engines: str) -> None:
    Installation(site, lambda _line: None).install([find(engine) for engine in engines])


def bad(site: Site) -> list[Finding]:
    return [finding for finding in hook.findings(Commands(prefix=site.prefix)) if finding.severity is not Severity.OK]


@needs_root
@pytest.mark.parametrize("engine", ENGINES_WITH_FILES)
def test_what_was_installed_for_an_engine_is_in_order(site: Site, engine: str) -> None:
    install(site, engine)
    (finding,) = hook.findings(Commands(prefix=site.prefix))
    assert finding.severity is Severity.OK, finding
    assert finding.text.startswith(f"{site.hook} is in place, called by {site.prefix}/")


@pytest.mark.parametrize("engine", ENGINES_WITH_FILES)
def test_a_missing_program_is_critical_for_every_engine(site: Site, engine: str) -> None:
    install(site, engine)
    os.unlink(site.hook)
    found = bad(site)
    assert worst(found) is Severity.CRITICAL
    assert any(f"{site.hook} is missing" in finding.text for finding in found)


def test_a_missing_program_is_found_without_a_record_of_the_installation(site: Site) -> None:
    install(site, "cdi")
    os.unlink(site.hook)
    os.unlink(site.path(RECORD))
    (finding,) = bad(site)
    assert finding.severity is Severity.CRITICAL
    assert finding.text.startswith(f"{site.hook} is missing: new containers come up without views (called by")


def test_an_engines_file_that_was_installed_and_has_gone_is_critical(site: Site) -> None:
    install(site, "podman", "crio", "cdi")
    (gone,) = (site.path(file.path) for file in find("podman").files)
    os.unlink(gone)
    (finding,) = bad(site)
    assert finding.severity is Severity.CRITICAL
    assert finding.text.startswith(f"{gone} is missing, which was installed for crio, podman")
    assert finding.advice.startswith(f"procview install crio podman --prefix {site.prefix}; if it went on purpose: ")


@needs_root
def test_what_was_uninstalled_is_not_missed(site: Site) -> None:
    install(site, "podman", "cdi")
    Installation(site, lambda _line: None).uninstall([find("cdi")])
    assert bad(site) == []


def not_executable(program: Path) -> None:
    program.chmod(0o644)


def writable_by_all(program: Path) -> None:
    program.chmod(0o757)


def writable_by_the_group(program: Path) -> None:
    program.chmod(0o775)


def of_another_user(program: Path) -> None:
    os.chown(program, 12345, 0)


def without_its_interpreter(program: Path) -> None:
    program.write_text("#!/no/such/python3 -IS\n")


def without_a_first_line(program: Path) -> None:
    program.write_bytes(b"\x00\xff")


def a_folder(program: Path) -> None:
    program.unlink()
    program.mkdir()


def a_dangling_link(program: Path) -> None:
    program.unlink()
    program.symlink_to("/no/such/hook")


@needs_root
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (not_executable, "is not executable"),
        (writable_by_all, "can be written by others than root"),
        (writable_by_the_group, "can be written by others than root"),
        (of_another_user, "can be written by others than root"),
        (without_its_interpreter, "needs /no/such/python3, which is not there"),
        (without_a_first_line, "does not begin with #!"),
        (a_folder, "is no file"),
        (a_dangling_link, "is missing"),
    ],
)
def test_a_program_that_engines_cannot_run_or_should_not_is_critical(
    site: Site, harm: Callable[[Path], None], words: str
) -> None:
    install(site, "lxc")
    os.unlink(site.path(RECORD))
    harm(Path(site.hook))
    (finding,) = bad(site)
    assert finding.severity is Severity.CRITICAL
    assert words in finding.text
    assert "50-procview.conf" in finding.text
    assert finding.advice


@pytest.mark.parametrize("content", ["{", "[]", '{"hook": {"path": 7}}', "\udcff", '{"hook": ' * 5000])
def test_a_file_that_an_engine_cannot_understand_is_told(site: Site, content: str) -> None:
    install(site, "podman")
    (path,) = (Path(site.path(file.path)) for file in find("podman").files)
    path.write_text(content, errors="surrogateescape")
    found = bad(site)
    assert found
    assert str(path) in found[0].text


def test_without_any_engines_file_the_program_is_looked_at_and_it_is_no_trouble(site: Site) -> None:
    found = hook.findings(Commands(prefix=site.prefix))
    assert len(found) == 1
    assert "no engine's file calls it" in found[0].text or found[0].severity is Severity.CRITICAL


def test_a_record_that_cannot_be_read_is_unknown(site: Site) -> None:
    install(site, "podman")
    Path(site.path(RECORD)).write_text("{")
    assert worst(bad(site)) is Severity.UNKNOWN


def test_nothing_is_changed(site: Site, tmp_path: Path) -> None:
    install(site, "podman", "lxc")
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))
    hook.findings(Commands(prefix=site.prefix))
    assert before == sorted((str(path), path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))
    shutil.rmtree(tmp_path / "usr")
    hook.findings(Commands(prefix=site.prefix))
    assert not (tmp_path / "usr").exists()
