"""The Debian package and the RPM: what is in them, that it works at its place, and that two builds have the same bytes.

They are built of the modules that are compiled in this checkout, and of the bundle's wheels, which ./dev test fetches.
To be at its place, a package's /usr lies over the machine's, for one process and its children.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import procview
from procview.engines import ENGINES
from tests.containers.cgroups import Cgroup, remove_trees
from tests.containers.engines.base import in_cgroup
from tests.packaging.builds import CHECKOUT, TOOLS, WHEELS, build, files_for_engines, one_file, wheel_of_this_checkout
from tests.session import SESSION, VARIABLE, new_directory, new_name, remove_directory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SITE = re.compile(r"usr/lib/procview/lib/python3\.\d+/site-packages/")
COMMON = {
    "usr/bin/procview",
    "usr/lib/procview/bin/procview",
    "usr/lib/procview/bin/python3",
    "usr/lib/procview/libexec",
    "usr/lib/procview/pyvenv.cfg",
    "usr/lib/procview/share",
    "usr/libexec/procview/procview-hook",
    "usr/share/bash-completion/completions/procview",
    "usr/share/fish/vendor_completions.d/procview.fish",
    *(f"usr/share/man/man1/{page.name}.gz" for page in (CHECKOUT / "docs/man").glob("*.1")),
    *(f"usr/share/procview/{name}" for name in files_for_engines()),
    *(file.path.lstrip("/") for engine in ENGINES for file in engine.files if engine.name != "systemd"),
}  # fmt: skip
"""What both have, but for modules, documentation, and what distributions have in places of their own."""


@dataclass(frozen=True)
class Built:
    """One package, and its files."""

    file: Path
    root: Path

    def paths(self) -> set[str]:
        """Its files and links, without the folders that they are in."""
        found = (path for path in self.root.rglob("*") if path.is_symlink() or not path.is_dir())
        return {str(path.relative_to(self.root)) for path in found}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the packages are built, with the wheels that they are built of."""
    # ./dev test has installed and fetched it all.
    missing = pytest.fail if os.environ.get("PROCVIEW_REQUIRE_ENGINES") else pytest.skip
    for program in ("dpkg-buildpackage", "dh", "rpmbuild", "git"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    if not TOOLS.exists() or not WHEELS.is_dir():
        missing("what packages are built with and of is not here: ./dev test and ./dev package fetch it")
    path = new_directory()
    try:
        shutil.copytree(WHEELS, path / "wheels")
        wheel_of_this_checkout(path / "wheels")
        yield path
    finally:
        remove_directory(path)


@pytest.fixture(scope="module")
def deb(folder: Path) -> Built:
    build("deb", TOOLS, folder / "wheels", folder / "deb")
    built = Built(one_file(folder / "deb", "*.deb"), folder / "deb/root")
    subprocess.run(["dpkg-deb", "-x", str(built.file), str(built.root)], check=True)
    return built


@pytest.fixture(scope="module")
def rpm(folder: Path) -> Built:
    build("rpm", TOOLS, folder / "wheels", folder / "rpm")
    built = Built(one_file(folder / "rpm", "*.rpm"), folder / "rpm/root")
    built.root.mkdir()
    with built.file.open("rb") as file:
        archive = subprocess.run(["rpm2archive", "-n", "-"], stdin=file, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(built.root)], input=archive.stdout, check=True)
    return built


@pytest.fixture(params=["deb", "rpm"])
def package(request: pytest.FixtureRequest) -> Built:
    built: Built = request.getfixturevalue(request.param)
    return built


def at_its_place(package: Built, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where /usr has the package's files, in a mount namespace of its own; nothing is left of it."""
    if os.geteuid() != 0:
        pytest.skip("only root can lay a package's files over /usr")
    script = 'mount -t overlay overlay -o "lowerdir=$1:/usr" /usr && shift && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(package.root / "usr"), *command],
        capture_output=True, text=True, timeout=120, check=False, cwd="/",
    )  # fmt: skip


def succeeds(package: Built, *command: str) -> str:
    done = at_its_place(package, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_builds_have_the_same_bytes(deb: Built, folder: Path) -> None:
    # Of the two the one that takes less; ./dev package --again does it with both.
    again = folder / "again/in-a-folder-with-another-name"
    build("deb", TOOLS, folder / "wheels", again, elsewhere=True)
    assert deb.file.read_bytes() == (again / deb.file.name).read_bytes()


def test_it_has_what_is_listed_and_nothing_else(package: Built) -> None:
    own = {path for path in package.paths() if not SITE.match(path)}
    documentation = {
        path for path in own if path.startswith(("usr/share/doc/procview/", "usr/share/licenses/procview/"))
    }
    is_deb = package.file.suffix == ".deb"
    places = (
        {"lib/systemd/system/lxcfs.service",
         "lib/systemd/system/procview-metrics.service", "lib/systemd/system/procview.service",
         "usr/share/zsh/vendor-completions/_procview",
         "usr/share/lintian/overrides/procview"}
        if is_deb
        else {"usr/lib/systemd/system/lxcfs.service",
              "usr/lib/systemd/system/procview-metrics.service", "usr/lib/systemd/system/procview.service",
              "usr/share/zsh/site-functions/_procview"}
    )  # fmt: skip
    if is_deb and "usr/lib/systemd/system/procview.service" in own:  # where a newer debhelper puts units
        places = {path.removeprefix("usr/") if path.startswith("usr/lib/systemd") else f"usr/{path}"
                  if path.startswith("lib/") else path for path in places}  # fmt: skip
    assert own - documentation == COMMON | places
    assert any(path.endswith(("/copyright", "/LICENSE")) for path in documentation)
    assert any(path.endswith(("/changelog.gz", "/CHANGELOG.md")) for path in documentation)
    assert any(path.endswith("/procview.toml") for path in documentation)
    packages = {path.split("/")[6] for path in package.paths() if SITE.match(path)}
    assert {"procview", "pyfuse3", "trio", "psutil", "click"} <= packages
    assert not {"pip", "setuptools", "Cython"} & packages


def test_nothing_in_it_knows_where_it_was_built(package: Built, folder: Path) -> None:
    words = [str(folder).encode(), str(CHECKOUT).encode()]
    for name in package.paths():
        path = package.root / name
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        assert not [word for word in words if word in content], name


def test_both_have_the_same_modules(deb: Built, rpm: Built) -> None:
    modules = {path for path in deb.paths() if SITE.match(path)}
    assert modules == {path for path in rpm.paths() if SITE.match(path)}
    for name in modules:
        assert (deb.root / name).read_bytes() == (rpm.root / name).read_bytes(), name


def test_files_for_engines_are_what_procview_install_writes(package: Built) -> None:
    for engine in ENGINES:
        if engine.name in ("oci", "systemd"):
            continue
        for line in succeeds(package, "procview", "install", "--dry-run", engine.name).splitlines():
            if re.search(r" /usr/", line) and not line.startswith("next"):
                assert line.startswith("unchanged "), line


def test_every_command_runs_from_its_place(package: Built) -> None:
    said = succeeds(package, "/usr/bin/procview", "version")
    assert said.startswith(f"procview:  {procview.__version__}\n")
    assert "not installed" not in said
    assert "not found" not in said
    assert "not built" not in said
    assert succeeds(package, "procview", "serve", "--help").startswith("Usage: procview serve ")
    assert succeeds(package, "procview", "render", "meminfo").startswith("MemTotal:")
    assert "procview-hook [OPTIONS]" in succeeds(package, "/usr/libexec/procview/procview-hook", "--help")


def test_its_environment_is_its_own(package: Built) -> None:
    ask = "import sys, procview.guard, trio; print(sys.executable, procview.__file__, trio.__file__, sys.path)"
    # As the daemon starts its guard.
    said = succeeds(package, "/usr/lib/procview/bin/python3", "-P", "-c", ask)
    assert said.startswith("/usr/lib/procview/bin/python3 /usr/lib/procview/lib/python3")
    assert "dist-packages" not in said
    assert ".pyenv" not in said
    # No start compiles anything, and none wants to write.
    cached = [path for path in package.paths() if path.endswith(".pyc")]
    assert len(cached) > 200
    for path in cached[:20]:
        assert (package.root / path).read_bytes()[4:8] == b"\x01\x00\x00\x00", path  # PEP 552: hash-based, not checked


def test_the_daemon_serves_from_its_place(package: Built, folder: Path) -> None:
    script = """
        cd "$1"
        procview serve --run-directory "$1/run" 2>"$1/log" & daemon=$!
        for _ in $(seq 300); do [ ! -e "$1/run/fs/proc/meminfo" ] || break; sleep 0.1; done
        head -n 1 "$1/run/fs/proc/meminfo"
        for guard in $(cat /proc/$daemon/task/*/children); do tr '\\0' ' ' </proc/$guard/cmdline; echo; done
        kill $daemon; wait $daemon; echo "ended $?"
        procview withdraw --remove --run-directory "$1/run"
    """
    place = folder / package.file.suffix.lstrip(".") / "serving"
    place.mkdir()
    done = at_its_place(package, "sh", "-c", script, "sh", str(place))
    log = (place / "log").read_text(encoding="utf-8")
    assert done.stdout.startswith("MemTotal:"), done.stdout + done.stderr + log
    assert "/usr/lib/procview/bin/python3 -P -m procview.guard" in done.stdout
    assert "ended 0" in done.stdout
    assert "the slots are removed" in done.stdout
    assert not (place / "run").exists()


def test_systemd_finds_nothing_wrong_with_the_unit(package: Built) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = next(path for path in package.paths() if path.endswith("/procview.service") and "share" not in path)
    done = at_its_place(package, "systemd-analyze", "verify", "--man=no", str(package.root / unit))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "procview" not in done.stderr, done.stderr


def control(deb: Built, name: str) -> str:
    """One of the package's control files."""
    return subprocess.run(
        ["dpkg-deb", "--info", str(deb.file), name], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


def test_an_upgrade_restarts_and_a_removal_stops_first_and_withdraws_then(deb: Built) -> None:
    before, after = control(deb, "prerm"), control(deb, "postinst")
    stop = re.search(r'"\$1" = remove \].*\n\s*deb-systemd-invoke stop', before)
    withdraw = before.index("procview withdraw --remove")
    assert stop is not None
    assert stop.start() < withdraw
    assert '"$1" = remove' in before[before.rindex("\nif ", 0, withdraw) : withdraw]
    stops = re.findall(r"^if (.*)\n(?:\s*#.*\n)?\s*deb-systemd-invoke stop '([\w.-]+)'", before, re.MULTILINE)
    assert sorted(unit for _, unit in stops) == ["procview-metrics.service", "procview.service"]
    assert all('"$1" = remove' in condition for condition, _ in stops), "an upgrade stops nothing"
    assert before.count("deb-systemd-invoke") == len(stops)
    assert "_dh_action=restart" in after
    assert "_dh_action=start" in after
    assert "deb-systemd-helper enable 'procview.service'" in after
    assert "was-enabled 'procview-metrics.service'" in after, "who has enabled it keeps it"
    assert "deb-systemd-invoke try-restart 'procview-metrics.service'" in after, "and only where it runs"
    assert "$_dh_action 'procview-metrics.service'" not in after
    assert "rm -rf /etc/procview" in control(deb, "postrm")


BOOT = r"""
set -eu
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t tmpfs tmpfs "$2"
mkdir "$2/changed" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/changed,workdir=$2/work" "$2/root"
cd "$2/root"
cp "$1" var/tmp/package.deb
# What starts is the trial alone; and no policy of this machine keeps packages from starting what they have.
rm -rf etc/systemd/system/*.wants/* usr/sbin/policy-rc.d etc/procview
mkdir -p etc/procview etc/systemd/system/multi-user.target.wants
# However slow the machine is, nobody is to give up waiting for the next daemon, or for an answer of this one.
printf 'takeover_seconds = 100\nhang_seconds = 20\n' >etc/procview/procview.toml
printf '%s\n' "$3" >trial.sh
printf '[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nExecStart=/bin/sh /trial.sh\nTimeoutStartSec=infinity\n' \
    >etc/systemd/system/trial.service
ln -s ../trial.service etc/systemd/system/multi-user.target.wants/
timeout --kill-after=10 400 systemd-nspawn --quiet --register=no --keep-unit --private-network \
    --machine="$4" --capability=all --bind=/dev/fuse \
    --link-journal=no --directory="$2/root" --boot --console=pipe </dev/null >"$2/console" 2>&1 || cat "$2/console"
cat trial.log
"""
"""A copy of this machine's root, which is a mount namespace's own and gone with it, with systemd as its PID 1."""
TRIAL = r"""
exec >/trial.log 2>&1
export DEBIAN_FRONTEND=noninteractive
dpkg --force-depends -i /var/tmp/package.deb || echo "dpkg -i failed"
echo "installed: $(systemctl is-active procview) $(systemctl is-enabled procview)"
before=$(systemctl show -p MainPID --value procview)
(
    reads=0 failed=0
    while [ ! -e /enough ]; do
        reads=$((reads + 1))
        head -c 9 /run/procview/ctl/proc/meminfo 2>&1 | grep -q '^MemTotal:' || failed=$((failed + 1))
    done
    echo "readers: $failed failed" >/readers
    [ $reads -gt 10 ] || echo "hardly any: $reads" >>/readers
) &
dpkg --force-depends -i /var/tmp/package.deb || echo "dpkg -i failed"
touch /enough
wait
cat /readers
[ "$before" = "$(systemctl show -p MainPID --value procview)" ] || echo "upgraded: another daemon"
echo "upgraded: $(systemctl is-active procview)"
dpkg -r procview || echo "dpkg -r failed"
echo "removed: $(systemctl is-active procview)"
[ -e /etc/procview/procview.toml ] && echo "removed: the configuration is kept"
dpkg -P procview || echo "dpkg -P failed"
journalctl -u procview --no-pager
echo "left behind:"
find /run/procview /etc/procview /etc/cdi /etc/systemd /usr/bin /usr/lib/procview /usr/libexec /usr/share/procview \
    /usr/share/doc/procview /var/lib/isulad -name '*procview*' 2>/dev/null
grep fuse.procview /proc/self/mounts
echo "that is all"
systemctl poweroff
"""


def test_dpkg_and_systemd_install_upgrade_and_remove_it(deb: Built, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can boot a copy of this machine's root")
    if shutil.which("systemd-nspawn") is None or not Path("/lib/systemd/systemd").exists():
        pytest.skip("systemd-nspawn or systemd is not installed")
    place = folder / "booted"
    place.mkdir()
    name = new_name()
    cgroup = Cgroup.create(name)
    try:
        done = subprocess.run(
            in_cgroup(cgroup, ["unshare", "--mount", "sh", "-c", BOOT, "sh", str(deb.file), str(place), TRIAL, name]),
            capture_output=True, text=True, timeout=500, check=False, env=os.environ | {VARIABLE: SESSION},
        )  # fmt: skip
    finally:
        remove_trees(name)  # in the hierarchies where nspawn has made some itself
        cgroup.remove()
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert "\ninstalled: active enabled\n" in said, said
    assert "failed\n" not in said.replace("readers: 0 failed\n", ""), said
    if tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2]) >= (6, 9):
        assert "\nreaders: 0 failed\n" in said, said
    assert "\nupgraded: another daemon\nupgraded: active\n" in said, said
    assert "/run/procview: the slots are removed\n" in said, said
    assert "\nremoved: inactive\nremoved: the configuration is kept\n" in said, said
    assert said.endswith("left behind:\nthat is all\n"), said


def test_the_package_says_what_it_needs_and_what_it_takes_the_place_of(deb: Built, rpm: Built) -> None:
    text = control(deb, "control")
    for line in ("Conflicts: lxcfs", "Provides: lxcfs", "Replaces: lxcfs", f"Version: {procview.__version__}-1"):
        assert f"\n{line}\n" in text
    depends = text.partition("\nDepends: ")[2].partition("\n")[0]
    assert "libfuse3-3" in depends
    assert re.search(r"\bpython3\.\d+", depends)
    assert "/etc/cdi/procview.json" in control(deb, "conffiles")
    asked = subprocess.run(
        ["rpm", "-qp", "--requires", "--provides", "--conflicts", str(rpm.file)],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert any(line.startswith("libfuse3.so.3") for line in asked)
    assert any(line.startswith("/usr/bin/python3.") for line in asked)
    assert asked.count("lxcfs") == 2
    assert not [line for line in asked if "cpython" in line or line.startswith("python3dist")]


def test_scripts_of_the_rpm_stop_and_withdraw_on_removal_alone(rpm: Built) -> None:
    scripts = subprocess.run(
        ["rpm", "-qp", "--scripts", str(rpm.file)], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    removal = scripts.partition('if [ "$1" = 0 ]')[2].partition("\nfi")[0]
    assert removal.index("disable --now procview.service") < removal.index("procview withdraw --remove")
    assert scripts.count("withdraw") == 1
    assert "try-restart procview.service" in scripts


def test_lintian_has_nothing_to_say_that_is_not_answered(deb: Built) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", str(deb.file)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
