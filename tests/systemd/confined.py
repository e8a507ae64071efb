"""Runs as a service that is shut in as the daemon is (test_confinement.py): tries what somebody would who has taken the
daemon over, and what the daemon itself does. One line for each: its name, and "good" or the errno's. Standard library.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import sys
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
# linux/fanotify.h, linux/fcntl.h
_FAN_CLOEXEC_NONBLOCK_REPORT_FID = 0x1 | 0x2 | 0x200
_FAN_MARK_ADD_FILESYSTEM = 0x1 | 0x100
_FAN_MODIFY = 0x2
_AT_FDCWD = -100
# linux/sched.h
_CLONE_NEWNS = 0x20000
_CLONE_NEWUTS = 0x4000000


def _libc_call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def _sealed_memory() -> None:
    """What is left in the descriptor store: memory that is sealed, sent, and mapped by the next daemon."""
    fd = os.memfd_create("tried", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, mmap.PAGESIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(ours, [b"x"], [fd])
    _, (received,), _, _ = socket.recv_fds(theirs, 1, 1)
    mmap.mmap(received, mmap.PAGESIZE)[0] = 1


def _changes_of_files() -> None:
    """What the daemon watches cgroups with: a mark for a whole file system."""
    _libc.fanotify_init.argtypes = [ctypes.c_uint, ctypes.c_uint]
    _libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
    group = _libc.fanotify_init(_FAN_CLOEXEC_NONBLOCK_REPORT_FID, os.O_RDONLY)
    if group < 0:
        raise OSError(ctypes.get_errno(), "fanotify_init")
    _libc_call("fanotify_mark", group, _FAN_MARK_ADD_FILESYSTEM, _FAN_MODIFY, _AT_FDCWD, b"/run")


def _written_and_executed() -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


_TRIED: dict[str, Callable[[], object]] = {
    "sealed memory": _sealed_memory,
    "changes of files": _changes_of_files,
    "a disk": lambda: os.close(os.open(sys.argv[1], os.O_RDONLY)),
    "a file of the system's": lambda: os.close(os.open("/etc/tried", os.O_WRONLY | os.O_CREAT)),
    "a setting of the kernel's": lambda: os.close(os.open("/proc/sys/kernel/hostname", os.O_WRONLY)),
    "a cgroup": lambda: os.mkdir("/sys/fs/cgroup/tried"),
    "homes": lambda: os.listdir("/root"),
    "a file of another user's": lambda: os.close(os.open(sys.argv[2], os.O_RDONLY)),
    "a namespace": lambda: _libc_call("unshare", _CLONE_NEWUTS),
    "another one's namespace": lambda: _libc_call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0),
    "an owner": lambda: os.chown(sys.argv[2], 1, 1),
    "another user": lambda: os.setuid(1),
    "another root": lambda: os.chroot("/"),
    "ptrace": lambda: _libc_call("ptrace", 16, os.getppid(), None, None),
    "a network": lambda: socket.socket(socket.AF_INET),
    "the host's name": lambda: socket.sethostname("tried"),
    "written memory that is executed": _written_and_executed,
    # From here on as the daemon is while it mounts.
    "the host's mounts": lambda: _libc_call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), _CLONE_NEWNS),
    "/dev/fuse": lambda: os.close(os.open("/dev/fuse", os.O_RDWR)),
    "a disk of the host's": lambda: os.close(os.open(sys.argv[1], os.O_RDONLY)),
}


def main() -> None:
    for name, call in _TRIED.items():
        try:
            call()
        except OSError as error:
            print(f"{name}: {errno.errorcode[error.errno or 0]}")
        else:
            print(f"{name}: good")


if __name__ == "__main__":
    main()
