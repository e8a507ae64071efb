"""Who is at the other end: the kernel's word, and none about who has ended."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procview.control.peers import _descriptor, identify

_CONNECTS = """
import os, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(sys.argv[1])
if sys.argv[2] == "hand on":
    if os.fork():
        os._exit(0)   # the child holds the connection, and who has connected is gone
sys.stdin.read()
"""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()
        listening.settimeout(20)
        yield listening, path


def test_a_process_of_the_host(listener: tuple[socket.socket, str]) -> None:
    listening, path = listener
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(path)
        with listening.accept()[0] as connection:
            peer = identify(connection)
    assert (peer.pid, peer.uid, peer.is_of_host) == (os.getpid(), os.geteuid(), True)
    assert f"pid:[{peer.pid_namespace}]" == os.readlink("/proc/self/ns/pid")
    assert str(peer) == f"uid {peer.uid}, pid {peer.pid} of the host"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a pid namespace")
def test_a_process_of_a_container(listener: tuple[socket.socket, str]) -> None:
    listening, path = listener
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", _CONNECTS, path, "stay"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        with listening.accept()[0] as connection:
            peer = identify(connection)
            inside = os.readlink(f"/proc/{peer.pid}/ns/pid")
        process.communicate()
    assert (peer.uid, peer.is_of_host) == (0, False)
    assert inside == f"pid:[{peer.pid_namespace}]" != os.readlink("/proc/self/ns/pid")


def test_who_has_ended_is_of_nowhere(listener: tuple[socket.socket, str]) -> None:
    """Else its number, given to a process of another container, would tell about that one."""
    listening, path = listener
    with (
        subprocess.Popen([sys.executable, "-c", _CONNECTS, path, "hand on"], stdin=subprocess.PIPE) as process,
        listening.accept()[0] as connection,
    ):
        process.wait()
        try:
            if _descriptor(connection) is None:
                pytest.skip("this kernel has no SO_PEERPIDFD (Linux 6.5): the number is all there is")
        except OSError:  # before Linux 6.16 there is no descriptor of who has ended
            with pytest.raises(OSError, match=os.strerror(errno.ESRCH)):
                identify(connection)
            return
        peer = identify(connection)
    assert (peer.pid_namespace, peer.is_of_host) == (0, False)
