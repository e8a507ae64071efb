"""Runs inside a container: reads every file at each line on stdin, answers with all it saw (test_concurrency.py)."""

import os
import pickle
import struct
import sys

CPU_TREE = "/sys/devices/system/cpu"


def _files(top: str) -> list[str]:
    return [os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names]


def _read(path: str) -> bytes | str:
    """What the file holds, or the name of what went wrong."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        return repr(error)


def main(proc: str) -> None:
    """``proc`` is where the mount is: its files are read as the mounts over /proc, whose list they are."""
    names = [os.path.relpath(path, proc) for path in _files(proc)]
    for command in sys.stdin:
        paths = [f"/proc/{name}" for name in names]
        paths += _files(CPU_TREE) if command == "all\n" else [f"{CPU_TREE}/online", f"{CPU_TREE}/cpu0/topology/core_id"]
        seen = {path: _read(path) for path in paths}
        seen[CPU_TREE] = " ".join(os.listdir(CPU_TREE)).encode()
        answer = pickle.dumps(seen)
        sys.stdout.buffer.write(struct.pack("<Q", len(answer)) + answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
