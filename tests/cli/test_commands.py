"""The commands as people run them: output, errors, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import procview
from procview._fast.engine import PROC_VIEWS
from tests.hosts.trees import TreeText


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "procview", *arguments], capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.mark.parametrize("name", ["meminfo", "proc/meminfo", "/proc/meminfo"])
def test_render(name: str) -> None:
    done = run("render", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("MemTotal:")


def test_render_a_cpu_file_and_for_another_process() -> None:
    done = run("render", "sys/devices/system/cpu/online", "--pid", str(os.getpid()))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0")


@pytest.mark.parametrize("view", [view for view in PROC_VIEWS if Path(f"/proc/{view}").exists()])
def test_render_every_view(view: str) -> None:
    done = run("render", view)
    if done.returncode == 1 and view.startswith("pressure/"):
        assert f"has no {view}" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_render_of_a_recorded_host(tmp_path: Path) -> None:
    tree = TreeText.load("v2-6.12")
    tree.write(tmp_path)
    roots = ["--proc-root", str(tmp_path / "proc"), "--sys-root", str(tmp_path / "sys"),
             "--cgroup-root", str(tmp_path / "cgroup")]  # fmt: skip
    done = run("render", "meminfo", "--pid", str(tree.pid), *roots)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (Path(__file__).parents[1] / "golden/v2-6.12/meminfo.txt").read_text()
    done = run("render", "meminfo", "--pid", "123456", *roots)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no process 123456 in {tmp_path}/proc" in done.stderr


def test_unknown_view_lists_the_views() -> None:
    done = run("render", "version")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no view 'version'; there are: " in done.stderr
    assert all(view in done.stderr for view in (*PROC_VIEWS, "sys/devices/system/cpu/online"))
    for name in ("", "../etc/passwd", "proc/../../etc/passwd", "proc/self/status", "etc/passwd"):
        assert run("render", name).returncode == 1, name


def test_a_directory_is_no_view() -> None:
    done = run("render", "sys/devices/system/cpu/cpu0")
    assert done.returncode == 1
    assert "is a directory; in it are: " in done.stderr


def test_no_such_process_is_an_error_and_not_the_hosts_file() -> None:
    pid = next(number for number in range(99999, 1, -1) if not psutil.pid_exists(number))
    done = run("render", "meminfo", "--pid", str(pid))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no process {pid}" in done.stderr


def test_bad_command_lines_are_usage_errors() -> None:
    for arguments in (["render"], ["render", "meminfo", "--pid", "0"], ["nonsense"], ["serve", "--nonsense"],
                      ["render", "meminfo", "--proc-root", "/nonexistent"], ["serve", "--mount", "/"]):  # fmt: skip
        assert run(*arguments).returncode == 2, arguments


def test_a_bad_configuration_is_an_error(tmp_path: Path) -> None:
    config = tmp_path / "procview.toml"
    config.write_text("\nswap = 1\n")
    for arguments in (["render", "meminfo"], ["serve", "--mount", str(tmp_path / "fs")]):
        done = run(*arguments, "--config", str(config))
        assert done.returncode == 1
        assert f"{config}:2: swap = 1 is not allowed" in done.stderr
        done = run(*arguments, "--config", str(tmp_path / "none"))
        assert done.returncode == 1
        assert "no such file" in done.stderr


def test_a_closed_pipe_ends_render_silently() -> None:
    command = f"{sys.executable} -m procview render cpuinfo | true"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True)
    assert done.stderr == b""


def test_version() -> None:
    done = run("version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"procview:  {procview.__version__}\n")
    for fact in ("compiled:", "python:", "pyfuse3:", "libfuse:", f"Linux {os.uname().release}", "cgroup:"):
        assert fact in done.stdout


def test_help_names_every_command_and_the_exit_codes() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("serve", "render", "version", "Exit codes: 0"))


@pytest.mark.parametrize("command", ["['version']", "['render', 'uptime']", "['serve', '--help']", "['--help']"])
def test_fuse_is_loaded_for_serving_only(command: str) -> None:
    code = f"""
import sys
from procview.cli import main
try: main({command})
except SystemExit as end: assert not end.code
sys.stderr.write(str([name for name in ("pyfuse3", "trio") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


def test_no_start_waits_for_what_only_version_needs() -> None:
    code = "import sys, procview.cli; print([name for name in ('importlib.metadata', 'email') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
