"""SIGHUP: a good configuration counts from the next read on, a bad one changes nothing."""

import os
import signal
from pathlib import Path

from tests.daemon.process import Place, eventually, needs_mount

pytestmark = needs_mount


def test_a_good_configuration_counts_at_once(place: Place) -> None:
    place.config.write_text("loadavg = true\n")
    daemon = place.start()
    place.config.write_text('log_level = "warning"\nuptime = "host"\n')
    daemon.process.send_signal(signal.SIGHUP)
    # "configuration reloaded" is information, which the new level leaves out; the next line shows what counts.
    place.config.write_text("nonsense\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says("configuration not reloaded")
    assert (place.mount / "proc/uptime").read_bytes()
    daemon.stop()


def test_a_bad_configuration_changes_nothing(place: Place) -> None:
    daemon = place.start()
    place.config.write_text('# comment\n\ncpus = "all"\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says(f'{place.config}:3: cpus = "all" is not allowed; it must be one of "quota", "cpuset"')
    assert (place.mount / "proc/uptime").read_bytes()
    place.config.unlink()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says(f"{place.config}: no such file")
    place.config.write_text("")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says("configuration reloaded")
    daemon.stop()


def test_another_mount_needs_a_restart(place: Place) -> None:
    daemon = place.start()
    place.config.write_text('mount = "/run/elsewhere"\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says("configuration reloaded")
    daemon.says("needs a restart")
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: daemon.said.count("needs a restart") == 2, "the same line again")
    assert (place.mount / "proc/uptime").read_bytes()
    assert not os.path.exists("/run/elsewhere")
    daemon.stop()


def test_a_bad_configuration_at_start_is_an_error(place: Place) -> None:
    place.config.write_text("loadavgs = true\n")
    daemon = place.start(ready=False)
    assert daemon.ends() == 1
    assert f"{place.config}:1: unknown key 'loadavgs'" in daemon.said
    assert not Path(place.mount.parent).exists()
