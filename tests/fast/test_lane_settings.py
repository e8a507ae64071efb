"""The lane where settings differ between containers: it serves those whose settings are known, and never asks."""

import os
import time
from pathlib import Path
from typing import Any

from procview._fast.engine import Engine
from tests.fast import kernel as protocol
from tests.fast.kernel import LOADAVG, MEMINFO, READ, READ_IN, Kernel
from tests.fast.test_lane import goes_to_pyfuse3

CPUINFO = protocol.FIRST_VIEW + protocol.VIEWS.index("proc/cpuinfo")


class Rules:
    """The same for everybody, and how often it was asked for."""

    def __init__(self, **different: object) -> None:
        self.asked = 0
        self._settings: dict[str, Any] = {
            "cpus": "quota",
            "topology": "container",
            "swap": True,
            "devices": "container",
            "uptime": "container",
            "loadavg": True,
        } | different

    def __call__(self, *_: object) -> dict[str, Any]:
        self.asked += 1
        return self._settings


def hands_on(kernel: Kernel, handle: int) -> None:
    goes_to_pyfuse3(kernel, READ, READ_IN.pack(handle, 0, 1 << 16, 0, 0, 0, 0), node=MEMINFO)


def render(kernel: Kernel, handle: int) -> bytes:
    """As pyfuse3's side does with a READ that was handed on."""
    view = kernel.files.view(handle)
    assert view is not None
    text: bytes = view.render()
    return text


def test_whose_settings_are_not_known_is_handed_on_until_they_are() -> None:
    engine, rules = Engine(), Rules()
    engine.configure(ask=rules)
    with protocol.kernel(engine=engine) as kernel:
        handle = kernel.open(MEMINFO)
        hands_on(kernel, handle)
        assert rules.asked == 0
        assert render(kernel, handle).startswith(b"MemTotal:")
        assert rules.asked == 1
        assert kernel.read(handle).body.startswith(b"MemTotal:")
        other = kernel.open(CPUINFO)
        assert kernel.read(other).body
        assert kernel.lane.counters()["relayed"] == 1
        assert rules.asked == 1


def test_new_rules_count_at_the_next_read_and_hand_nothing_on() -> None:
    engine = Engine()
    with protocol.kernel(engine=engine) as kernel:
        handle = kernel.open(LOADAVG)
        engine.configure(ask=(rules := Rules(loadavg=False)))
        assert rules.asked == 1, "who is known is asked for at once"
        assert is_the_hosts(kernel, handle)
        engine.configure(ask=Rules())
        assert kernel.lane.counters()["relayed"] == 0
        engine.configure(loadavg=False)
        assert kernel.read(handle).error == 0
        assert kernel.lane.counters()["relayed"] == 0


def is_the_hosts(kernel: Kernel, handle: int) -> bool:
    """Whether the lane's text is the host's; it is looked at again while that changes."""

    def host() -> bytes:
        return Path("/proc/loadavg").read_bytes()

    for _ in range(1000):
        before, seen, after = host(), kernel.read(handle).body, host()
        if before == seen == after:
            return True
        time.sleep(0.01)
    return False


def test_without_rules_nobody_is_asked_for() -> None:
    engine, rules = Engine(), Rules()
    engine.configure(ask=rules)
    engine.configure()
    with protocol.kernel(engine=engine) as kernel:
        handle = kernel.open(MEMINFO)
        assert kernel.read(handle).error == 0
        assert engine.open(os.getpid(), "proc/meminfo").render()
        assert rules.asked == 0
