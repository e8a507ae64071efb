"""How far the unit shuts the daemon in, as systemd counts it, and that docs/security.md says the same as the unit."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from procview.shipped import packaging_file
from tests import shipped_unit

PAGE = Path(__file__).parents[2] / "docs/security.md"
EXPOSURE_TENTHS = 18
"""What docs/security.md says, and why it is not less."""
NEVER = """
    bpf chown chroot delete_module init_module io_uring_setup kexec_load keyctl open_by_handle_at perf_event_open
    personality pidfd_getfd pivot_root process_vm_readv process_vm_writev ptrace reboot sched_setaffinity setuid swapon
    userfaultfd
"""
"""Calls that would help somebody who has taken the daemon over, and that it has no use for."""
needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


def _analyze(*words: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _offline(threshold: int) -> subprocess.CompletedProcess[str]:
    words = ["security", "--no-pager", "--offline=yes", f"--threshold={threshold}", _path()]
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False)


def _path() -> str:
    return str(packaging_file(shipped_unit.TEMPLATE))


def _can_weigh_files() -> None:
    if "--offline" not in _analyze("--help"):
        pytest.skip("this systemd-analyze weighs no files (systemd 250 and later do)")


@needs_analyze
def test_the_exposure_is_what_the_documentation_says() -> None:
    _can_weigh_files()
    said = _offline(EXPOSURE_TENTHS)
    assert said.returncode == 0, said.stdout
    assert _offline(EXPOSURE_TENTHS - 1).returncode != 0, "it is better than that: write down how much"
    assert f"**{EXPOSURE_TENTHS / 10}**" in PAGE.read_text(encoding="utf-8")


@needs_analyze
def test_every_directive_that_is_missing_is_in_the_documentation() -> None:
    _can_weigh_files()
    page = PAGE.read_text(encoding="utf-8")
    missing = [line.split()[1] for line in _offline(100).stdout.splitlines() if line.startswith("✗")]
    assert missing
    for directive in missing:
        names = re.findall(r"CAP_\w+|AF_\w+|@[\w-]+|\w+(?==)", directive)
        assert any(f"`{name}" in page for name in names[-1:] + names[:1]), directive


def _calls(words: list[str]) -> set[str]:
    calls: set[str] = set()
    for word in words:
        calls |= {word} if word[0] != "@" else _calls(_members(word))
    return calls


def _members(group: str) -> list[str]:
    return [line.strip() for line in _analyze("syscall-filter", group).splitlines()[1:] if line.strip()[:1] != "#"]


@needs_analyze
def test_system_calls_are_allowed_by_name_and_dangerous_ones_are_not_among_them() -> None:
    allowed = _calls(["@default"])
    for key, value in shipped_unit.lines():
        if key == "SystemCallFilter" and value[0] == "~":
            allowed -= _calls(value[1:].split())
        elif key == "SystemCallFilter":
            allowed |= _calls(value.split())
    assert not allowed & set(NEVER.split())
    # Of what the descriptor store takes, and of what mounting does.
    assert {"memfd_create", "fcntl", "ftruncate", "mmap", "sendmsg", "recvmsg", "ioctl"} <= allowed
    assert {"mount", "umount2", "open_tree", "move_mount", "mount_setattr", "fsopen", "fsconfig", "fsmount"} <= allowed


def test_the_first_filter_allows_so_that_what_nobody_thought_of_is_not_allowed() -> None:
    filters = [value for key, value in shipped_unit.lines() if key == "SystemCallFilter"]
    assert filters[0][0] != "~"


def test_of_all_namespaces_it_may_go_to_those_of_mounts_only() -> None:
    assert ("RestrictNamespaces", "mnt") in shipped_unit.lines()


def test_the_documentation_says_what_each_capability_is_for_and_of_no_other() -> None:
    rows = re.findall(r"^\| `(CAP_\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == shipped_unit.capabilities()
    assert set(rows) == set(shipped_unit.NUMBERS)


def test_the_documentation_has_every_line_that_shuts_the_daemon_in() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for line in shipped_unit.hardening():
        name = line.partition("=")[0]
        assert f"`{name}=" in page or f"`{name}`" in page, name
