"""Runs inside a container: reads a few files again and again, and tells at the end what it saw, when, and for how long.

Standard library only, and no import of ours: it is handed to the interpreter inside as text. Its one argument is JSON:

    files    for each path, what the text begins with: {"/proc/meminfo": {"container": "MemTotal: 5", "host": …}}
    stop     a file whose appearance ends it
    output   where to write the report; null: standard output
    pause    seconds between two rounds

The report is JSON: for each path a list of stretches of reads that all had the same outcome: its name (of those above;
"odd"; or the name of an errno), the start of the first and the last of the reads (CLOCK_MONOTONIC, which is the
host's), how many, and the seconds that the longest took.
"""

import errno
import json
import os
import sys
import time
from typing import Any


def outcome_of(path: str, known: dict[str, str]) -> str:
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            text = os.read(fd, 65536).decode()
        finally:
            os.close(fd)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return next((name for name, start in known.items() if text.startswith(start)), "odd")


def main() -> None:
    task = json.loads(sys.argv[1])
    seen: dict[str, list[Any]] = {path: [] for path in task["files"]}
    if task["output"] is None:
        print("ready", flush=True)
    while not os.path.exists(task["stop"]):
        for path, known in task["files"].items():
            start = time.monotonic()
            outcome = outcome_of(path, known)
            seconds = time.monotonic() - start
            stretches = seen[path]
            if stretches and stretches[-1][0] == outcome:
                last = stretches[-1]
                last[2:] = start, last[3] + 1, max(last[4], seconds)
            else:
                stretches.append([outcome, start, start, 1, seconds])
        time.sleep(task["pause"])
    report = json.dumps(seen)
    if task["output"] is None:
        print(report)
    else:
        with open(task["output"] + ".new", "w", encoding="ascii") as file:
            file.write(report)
        os.rename(task["output"] + ".new", task["output"])
        time.sleep(1000)  # as an init it has to stay


if __name__ == "__main__":
    main()
