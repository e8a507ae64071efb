"""A host to look at: a daemon and an installation of a test's own, containers of unshare(1), and the command."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from procview.engines import Site, find
from procview.installation import Installation
from procview.slots.attach import attach, detach
from procview.slots.containers import Container, running
from procview.slots.skeleton import Skeleton
from tests.containers.cgroups import Cgroup
from tests.daemon.process import Daemon, Place, eventually
from tests.session import new_name
from tests.timing import patient

LIMIT_SECONDS = patient(3)
"""The command ends within this time, whatever is wrong."""


@dataclass(frozen=True)
class Done:
    """What the command said."""

    status: int
    output: str
    seconds: float

    @property
    def first(self) -> str:
        return self.output.splitlines()[0]

    def may_be_of_a_busy_machine(self) -> bool:
        """A stopped daemon stays stopped; all else that takes too long may not the next time."""
        slow = ("was not answered within", "no time was left", "does not answer who reads")
        return "no time left" in self.output or (
            "(stopped by a signal)" not in self.output and any(words in self.output for words in slow)
        )

    def lines(self, *words: str) -> list[str]:
        """The lines with all of ``words`` in them."""
        return [line for line in self.output.splitlines() if all(word in line for word in words)]


@dataclass
class Host:
    place: Place
    cgroup: Cgroup
    name: str
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def skeleton(self) -> Skeleton:
        return Skeleton(str(self.place.run_directory))

    @property
    def prefix(self) -> Path:
        return self.place.directory / "prefix"

    def install(self, *engines: str) -> Site:
        """As ``procview install --prefix`` does."""
        site = Site(str(self.prefix), str(self.place.run_directory))
        Installation(site, lambda _line: None).install([find(engine) for engine in engines])
        return site

    def start(self) -> Daemon:
        return self.place.start()

    def hang(self, daemon: Daemon) -> None:
        """Stop the daemon and kill its guard, so that nobody takes the views away."""
        daemon.process.send_signal(signal.SIGSTOP)
        for child in psutil.Process(daemon.process.pid).children():
            if "procview.guard" in child.cmdline():
                child.kill()

    def containers(self, count: int = 1) -> list[Container]:
        """New ones in the cgroup of this host, without views; all of them have its name."""
        before = {container.pid for container in running()}
        enter = "".join(f"echo $$ > {file}; " for file in self.cgroup.entry_files())
        for _ in range(count):
            argv = ["unshare", "--kill-child", "-m", "-p", "-f", "--mount-proc", "--propagation", "slave",
                    "sh", "-c", "echo ready; exec sleep 1000"]  # fmt: skip
            process = subprocess.Popen(["sh", "-c", f'{enter} exec "$@"', "sh", *argv], stdout=subprocess.PIPE)
            self.started.append(process)
        for process in self.started[-count:]:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        found = [container for container in running() if container.name == self.name and container.pid not in before]
        assert len(found) == count
        return found

    def attached(self, count: int = 1) -> list[Container]:
        containers = self.containers(count)
        self.attach(containers)
        return containers

    def attach(self, containers: list[Container]) -> None:
        results = attach(self.skeleton, containers)
        assert not [result for result in results if result.failed], results

    def detach(self, containers: list[Container]) -> None:
        results = detach(self.skeleton, containers)
        assert not [result for result in results if result.failed], results

    def check(self, *arguments: str) -> Done:
        """Run the command on this host's containers only; there may be others on the machine. Asserts the time.

        It mends nothing, so it may look again, where the machine itself can have kept it or the daemon from running.
        """
        ignored = [argument for pattern in names_other_than(self.name) for argument in ("--ignore", pattern)]
        words = ["--run-directory", str(self.place.run_directory), "--config", str(self.place.config),
                 "--prefix", str(self.prefix), *ignored, *arguments]  # fmt: skip
        done = check(*words)
        return check(*words) if done.may_be_of_a_busy_machine() else done

    def clean_up(self) -> None:
        for process in self.started:
            process.kill()  # and by --kill-child its init
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self.cgroup.remove()


def new_host(place: Place) -> Host:
    name = new_name()
    place.config.write_text("", encoding="utf-8")
    return Host(place, Cgroup.create(name), name)


def names_other_than(name: str) -> Iterator[str]:
    """Patterns that match every other name and not this one."""
    for at, char in enumerate(name):
        yield f"{name[:at]}[!{char}]*"
        yield name[:at]
    yield f"{name}?*"


def check(*arguments: str, **options: Any) -> Done:
    """``procview check`` as a process of its own, which must end in time: what is always too slow is so twice."""
    done = _checked(*arguments, **options)
    if done.seconds >= LIMIT_SECONDS:
        done = _checked(*arguments, **options)
    assert done.seconds < LIMIT_SECONDS, done.output
    return done


def _checked(*arguments: str, **options: Any) -> Done:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "procview", "check", *arguments],
        capture_output=True, text=True, check=False, timeout=patient(60), **options,
    )  # fmt: skip
    seconds = time.monotonic() - start
    assert done.stderr == ""
    return Done(done.returncode, done.stdout, seconds)


def wait_for_withdrawal(host: Host) -> None:
    """Until the guard has taken the views away."""
    eventually(lambda: not host.place.ours(), "the withdrawal")
