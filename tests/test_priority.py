"""How urgent a process is while it starts, and then."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os, threading
from procview.priority import hurry, settle

def nice():
    return sorted(os.getpriority(os.PRIO_PROCESS, int(tid)) for tid in os.listdir("/proc/self/task"))

end = threading.Event()
os.setpriority(os.PRIO_PROCESS, 0, {nice})
os.setuid({uid})
hurry()
thread = threading.Thread(target=end.wait)
thread.start()
print(*nice())
settle()
print(*nice())
end.set()
"""


def _nice_values(before: int, uid: int = 0) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(nice=before, uid=uid)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may hurry")
@pytest.mark.parametrize(("before", "hurrying"), [(0, "-10 -10"), (5, "-10 -10"), (-15, "-15 -15")])
def test_all_threads_hurry_and_settle(before: int, hurrying: str) -> None:
    assert _nice_values(before) == [hurrying, "0 0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_without_the_right_to_it_nothing_happens() -> None:
    assert _nice_values(5, uid=65534) == ["5 5", "5 5"]
