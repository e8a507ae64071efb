"""``procview config explain``: what it says, and what it says when it cannot. On real containers: tests/containers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may see whose namespaces are whose")


def explain(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "procview", "config", "explain", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("words", [[], ["a", "--pid", "1"], ["a", "b"], ["--pid", "0"], ["--nothing"]])
def test_wrong_use_is_told(words: list[str]) -> None:
    done = explain(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr


def test_a_mistake_in_the_file_is_told_as_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "procview.toml"
    file.write_text("swap = true\n[[container]]\nid = 'x'\nswap = 1\n", encoding="utf-8")
    done = explain("--pid", "1", "--config", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: {file}:4: swap = 1 is not allowed; it must be true or false\n" in done.stderr


@ROOT
def test_whom_it_cannot_find_it_names(tmp_path: Path) -> None:
    file = tmp_path / "procview.toml"
    file.touch()
    done = explain("no such\ncontainer", "--config", str(file))
    assert done.returncode == 1
    assert "Error: no container 'no such\\ncontainer'; there " in done.stderr
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = explain("--pid", str(gone.pid), "--config", str(file))
    assert done.returncode == 1
    assert f"Error: no process {gone.pid} in /proc\n" in done.stderr


@ROOT
def test_a_process_of_the_hosts_own_is_a_container_by_its_cgroup(tmp_path: Path) -> None:
    file = tmp_path / "procview.toml"
    file.write_text("# all\ncpus = 'cpuset'\n\n[[container]]\ncgroup = '/'\nloadavg = false\n", encoding="utf-8")
    done = explain("--pid", str(os.getpid()), "--config", str(file), "--run-directory", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("container ")
    assert lines[1].startswith("  cgroup /")
    assert lines[-7:] == [
        f'{file}:4: [[container]] with cgroup = "/" is for it',
        f'  cpus = "cpuset"         {file}:2',
        '  topology = "container"  default',
        "  swap = true             default",
        '  devices = "container"   default',
        '  uptime = "container"    default',
        f"  loadavg = false         {file}:6",
    ]
    file.write_text("", encoding="utf-8")
    done = explain("--pid", str(os.getpid()), "--config", str(file), "--run-directory", str(tmp_path))
    assert "there is no table [[container]]" in done.stdout.splitlines()
