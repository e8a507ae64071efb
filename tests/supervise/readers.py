"""Readers of all kinds of files, who must notice nothing of what happens to the daemon."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.daemon.process import Place, eventually
from tests.timing import patient

# Files of which the lane answers all, folders and statfs(2), which pyfuse3 answers; each checked as far as it can be.
_READS = """
import os, sys
mount, stop, ready = sys.argv[1:]
reads, failed, odd, ready_said = 0, [], 0, False
while not os.path.exists(stop):
    try:
        for name in ("meminfo", "stat", "cpuinfo", "uptime", "vmstat", "diskstats"):
            fd = os.open(f"{mount}/proc/{name}", os.O_RDONLY)
            try:
                text = b""
                while part := os.read(fd, 611):
                    text += part
            finally:
                os.close(fd)
            odd += not text.endswith(b"\\n")
            reads += 1
        odd += "online" not in os.listdir(f"{mount}/sys/devices/system/cpu")
        os.statvfs(mount)
    except OSError as error:
        failed.append(str(error))
    if not ready_said:
        ready_said = open(ready, "w").close() or True
print(reads, odd, failed[:3], sep="|")
"""


@contextmanager
def three_readers_notice_nothing(place: Place, directory: Path, *, least_reads: int = 1) -> Iterator[None]:
    """``directory`` is for files of theirs; ``least_reads`` is how many each has to do meanwhile."""
    stop = directory / "stop"
    ready = [directory / f"ready{number}" for number in range(3)]
    argv = [sys.executable, "-I", "-S", "-c", _READS, str(place.mount), str(stop)]
    readers = [subprocess.Popen([*argv, str(file)], stdout=subprocess.PIPE, text=True) for file in ready]
    try:
        eventually(lambda: all(file.exists() for file in ready), "the first round of each")
        yield
    finally:
        stop.touch()
        said = [reader.communicate(timeout=patient(30))[0].strip().split("|") for reader in readers]
    assert [(odd, failed) for _, odd, failed in said] == [("0", "[]")] * 3
    assert all(int(reads) >= least_reads for reads, _, _ in said)
