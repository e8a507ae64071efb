"""What a process can do that is shut in by the unit's own lines, whoever has taken it over."""

import subprocess
import sys
from pathlib import Path

from tests import session, shipped_unit
from tests.systemd import confined
from tests.timing import patient


def test_who_takes_the_daemon_over_gets_what_the_daemon_needs_and_no_more() -> None:
    with session.temporary_directory() as directory:
        private = directory / "private"
        private.touch(0o600)
        (directory / "folder").mkdir()
        private = private.rename(directory / "folder/private")
        subprocess.run(["chown", "-R", "1:1", str(directory / "folder")], check=True)
        (directory / "folder").chmod(0o700)
        disk = next(str(path) for path in sorted(Path("/dev").glob("vd?")))
        # The folder that the daemon keeps its own things in is not for this program to have.
        hardening = [line for line in shipped_unit.hardening() if not line.startswith("RuntimeDirectory")]
        properties = [f"--property={line}" for line in hardening]
        done = subprocess.run(
            ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={session.new_name()}.service",
             *properties, sys.executable, "-I", "-c", Path(confined.__file__).read_text(encoding="utf-8"), disk,
             str(private)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patient(30), check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert dict(line.split(": ") for line in done.stdout.splitlines()) == {
        "sealed memory": "good",
        "changes of files": "good",
        "a disk": "ENOENT",
        "a file of the system's": "EROFS",
        "a setting of the kernel's": "EROFS",
        "a cgroup": "EROFS",
        "homes": "EACCES",
        "a file of another user's": "ENOENT",
        "a namespace": "EPERM",
        "another one's namespace": "EPERM",
        "an owner": "EPERM",
        "another user": "EPERM",
        "another root": "EPERM",
        "ptrace": "EPERM",
        "a network": "EAFNOSUPPORT",
        "the host's name": "EPERM",
        "written memory that is executed": "EPERM",
        "the host's mounts": "good",
        "/dev/fuse": "good",
        "a disk of the host's": "EPERM",
    }


def test_a_drop_in_gives_the_daemon_the_hosts_mounts_back() -> None:
    """That of docs/security.md, for hosts with so many mounts that a start takes long."""
    page = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
    lines = page.split("```\n[Service]\n")[1].split("```")[0].splitlines()
    hardening = [line for line in shipped_unit.hardening() if not line.startswith("RuntimeDirectory")]

    def mounts_of(*dropped_in: str) -> str:
        done = subprocess.run(
            ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={session.new_name()}.service",
             *(f"--property={line}" for line in (*hardening, *dropped_in)), "readlink", "/proc/self/ns/mnt"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patient(30), check=True,
        )  # fmt: skip
        return done.stdout.strip()

    host = str(Path("/proc/1/ns/mnt").readlink())
    assert mounts_of() != host
    assert mounts_of(*lines) == host
