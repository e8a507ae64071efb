"""``procview attach`` and ``procview detach``: running containers, real daemons, and all ways to name a container."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from procview.cli.attach import described
from procview.mounts import MountEntry, parse_mountinfo
from procview.slots import attach as attaching
from procview.slots import containers
from procview.slots.containers import State, containing, running
from procview.slots.skeleton import Skeleton
from tests import session
from tests.containers.cgroups import Cgroup
from tests.containers.conftest import MEMORY_BYTES, default_limits, usable
from tests.containers.engines import CRUN, LXC, RUNC, UNSHARE, Container, Engine
from tests.containers.rootfs import Rootfs
from tests.daemon.process import Place, eventually, needs_mount, place
from tests.slots.looks import states

__all__ = ["place"]
pytestmark = needs_mount

COMMAND = [sys.executable, "-m", "procview"]
CHECKOUT = str(Path(__file__).parents[2])
KINDS = [(RUNC, False), (RUNC, True), (CRUN, False), (CRUN, True), (LXC, False), (UNSHARE, False)]
"""crun's are private; those with users of their own have the mounts of another user namespace."""


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, errors="replace"
    )


def mountinfo(pid: int) -> str:
    return Path(f"/proc/{pid}/mountinfo").read_text()


def mounts(pid: int) -> list[MountEntry]:
    """Without propagation: the hook program makes a shared /proc a slave, so that nothing gets out that way."""
    return [replace(entry, shared=0, master=0) for entry in parse_mountinfo(mountinfo(pid))]


@dataclass
class Running:
    """A container that started without views, beside a daemon."""

    container: Container
    place: Place

    @property
    def run_directory(self) -> str:
        return str(self.place.run_directory)

    def attach(self, *more: str) -> str:
        return self._done("attach", *more)

    def detach(self, *more: str) -> str:
        return self._done("detach", *more)

    def _done(self, what: str, *more: str) -> str:
        """What the command said of the container, all going well."""
        done = command(what, "--pid", self.container.pid, "--run-directory", self.run_directory, *more)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return done.stdout

    def states(self) -> set[State]:
        found = containing(self.container.pid, running())
        assert found is not None
        return set(states(found, Skeleton(self.run_directory)).values())

    def shows_its_own(self) -> bool:
        return f"MemTotal: {MEMORY_BYTES // 1024:>14} kB\n" in self.container.read("/proc/meminfo")

    def memory(self) -> str:
        return self.container.read("/proc/meminfo").splitlines()[0]


def hosts_memory() -> str:
    return Path("/proc/meminfo").read_text().splitlines()[0]


@pytest.fixture(scope="module")
def rootfs() -> Iterator[Rootfs]:
    with session.temporary_directory() as directory:
        yield Rootfs.create(directory / "rootfs")


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0].name}{'-userns' if kind[1] else ''}")
def web(request: pytest.FixtureRequest, rootfs: Rootfs, place: Place) -> Iterator[Running]:
    engine, map_users = request.param
    yield from started(engine, rootfs, place, map_users)


@pytest.fixture
def plain(rootfs: Rootfs, place: Place) -> Iterator[Running]:
    """Where the kind of container does not matter."""
    yield from started(RUNC, rootfs, place, False)


def started(engine: Engine, rootfs: Rootfs, place: Place, map_users: bool) -> Iterator[Running]:
    place.start()
    with usable(engine).start(rootfs, default_limits(), views=None, map_users=map_users) as container:
        yield Running(container, place)


def test_a_running_container_is_attached_and_shows_its_own_numbers(web: Running) -> None:
    assert web.memory() == hosts_memory()
    count = len(Skeleton(web.run_directory).names())
    assert web.attach() == f"{web.container.name} (pid {web.container.pid}): attached {count} files\n"
    assert web.states() == {State.ATTACHED}
    assert web.shows_its_own()
    assert web.container.output(["nproc"]) == "1\n"
    assert web.container.read("/sys/devices/system/cpu/online") == "0\n"
    assert float(web.container.read("/proc/uptime").split()[0]) < 60
    assert web.container.read("/proc/partitions").startswith("major minor")


def test_attaching_twice_changes_nothing(web: Running) -> None:
    web.attach()
    before = mountinfo(web.container.pid)
    assert web.attach() == f"{web.container.name} (pid {web.container.pid}): already attached\n"
    assert mountinfo(web.container.pid) == before


def test_an_attached_container_loses_and_gets_back_its_views_with_the_daemon(web: Running) -> None:
    web.attach()
    before = mountinfo(web.container.pid)
    web.place.started[0].process.kill()
    eventually(lambda: web.states() == {State.HOST}, "the withdrawal")
    assert web.memory() == hosts_memory()
    web.place.start()
    assert web.states() == {State.ATTACHED}
    assert web.shows_its_own()
    assert len(mountinfo(web.container.pid).splitlines()) == len(before.splitlines())
    web.place.started[1].stop()
    assert web.states() == {State.HOST}
    assert web.memory() == hosts_memory()


def test_detaching_leaves_nothing(web: Running) -> None:
    before = mounts(web.container.pid)
    count = len(Skeleton(web.run_directory).names())
    web.attach()
    assert web.detach() == f"{web.container.name} (pid {web.container.pid}): detached {count} files\n"
    assert mounts(web.container.pid) == before
    assert web.memory() == hosts_memory()
    assert web.detach() == f"{web.container.name} (pid {web.container.pid}): not attached\n"
    assert mounts(web.container.pid) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_detaching_needs_no_daemon(plain: Running, number: signal.Signals) -> None:
    """At once, while the views of the dead or hanging daemon are still there, and again after they have gone."""
    before = mounts(plain.container.pid)
    plain.attach()
    daemon = plain.place.started[0].process
    daemon.send_signal(number)
    start = time.monotonic()
    assert "detached" in plain.detach()
    assert time.monotonic() - start < 5
    assert mounts(plain.container.pid) == before
    assert plain.memory() == hosts_memory()
    assert "not attached" in plain.detach()


def test_attaching_while_the_daemon_is_away_brings_the_views_when_it_comes(plain: Running) -> None:
    plain.place.started[0].stop()
    assert "attached" in plain.attach()
    assert plain.states() == {State.HOST}
    assert plain.memory() == hosts_memory()
    plain.place.start()
    assert plain.states() == {State.ATTACHED}
    assert plain.shows_its_own()


def test_what_is_missing_is_attached_and_the_rest_stays(plain: Running) -> None:
    plain.attach()
    for _ in range(2):  # the view, and the slot below it
        enter = ["nsenter", "-t", str(plain.container.pid), "-m", "-p", "umount", "-l", "/proc/uptime"]
        subprocess.run(enter, check=True, timeout=10)
    others = len(Skeleton(plain.run_directory).names()) - 1
    said = plain.attach()
    assert said.endswith(f": attached 1 file, {others} already attached\n")
    assert plain.states() == {State.ATTACHED}


def test_a_process_inside_names_its_container(plain: Running) -> None:
    with plain.container.popen(["sleep", "1000"]) as inside:
        try:
            eventually(lambda: "sleep 1000" in plain.container.output(["ps", "-e", "-o", "args"]), "the process")
            numbers = plain.container.output(["pgrep", "-f", "sleep 1000"]).split()
            done = command("attach", "--pid", plain.container.host_pid(int(numbers[0])),
                           "--run-directory", plain.run_directory, "--json")  # fmt: skip
        finally:
            plain.container.run(["pkill", "-f", "sleep 1000"])
            inside.wait(20)
    assert (done.returncode, done.stderr) == (0, "")
    (said,) = json.loads(done.stdout)
    names = Skeleton(plain.run_directory).names()
    assert said == {"name": plain.container.name, "pid": plain.container.pid, "failed": False, "skipped": None,
                    "pid_namespace": os.stat(f"/proc/{plain.container.pid}/ns/pid").st_ino,
                    "error": None, "files": dict.fromkeys(names, "attached")}  # fmt: skip


# --- Many containers, below a host of their own: no other container on this machine is any business of these tests ---


@dataclass
class Host:
    """Namespaces that look like a host of their own: ``--all`` finds nothing outside of them."""

    directory: Path
    init: "subprocess.Popen[bytes]"
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    cgroups: list[Cgroup] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return int(Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()[0])

    @property
    def inside(self) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "--wd=" + CHECKOUT]

    def container(self, name: str, *options: str, run: str = "") -> None:
        """One by unshare(1) with ``options``, in a cgroup called ``name``."""
        cgroup = Cgroup.create(name)
        self.cgroups.append(cgroup)
        script = f"""
            for file; do echo $$ > "$file" || exit; done
            exec unshare {" ".join(options)} sh -c {shlex.quote(run + "echo ready; exec sleep 1000")}
        """
        argv = [*self.inside, "sh", "-c", script, "sh", *map(str, cgroup.entry_files())]
        self.started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        assert self.started[-1].stdout is not None
        assert self.started[-1].stdout.readline() == b"ready\n"

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        words = [str(word) for word in (*COMMAND, *arguments, "--run-directory", self.directory / "run")]
        return subprocess.run([*self.inside, *words], capture_output=True, text=True, check=False, timeout=60)

    def attached(self) -> set[str]:
        """The names of containers that have a slot."""
        slot = "/uptime /proc/uptime "
        return {one.name for one in running() if one.parent == self.namespace and slot in mountinfo(one.pid)}

    @property
    def namespace(self) -> int:
        return os.stat(f"/proc/{self.pid}/ns/pid").st_ino

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        for process in (self.init, *self.started):
            process.wait(20)
            if process.stdout is not None:
                process.stdout.close()
        for cgroup in self.cgroups:
            cgroup.remove()


SKELETON = """
import sys
from procview.slots.skeleton import Skeleton
Skeleton(sys.argv[1]).make(["proc/uptime", "proc/meminfo", "sys/devices/system/cpu"])
"""
APART = ("-m", "-p", "-f", "--mount-proc")


@pytest.fixture
def host() -> Iterator[Host]:
    """With slots, and without a daemon."""
    with session.temporary_directory() as directory:
        argv = ["unshare", "-m", "-p", "-f", "--mount-proc", "sh", "-c", "echo ready; exec sleep 1000"]
        made = Host(directory, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        try:
            assert made.init.stdout is not None
            assert made.init.stdout.readline() == b"ready\n"
            make = [*made.inside, sys.executable, "-c", SKELETON, str(directory / "run")]
            subprocess.run(make, check=True, timeout=20)
            yield made
        finally:
            made.end()


@pytest.fixture
def name() -> str:
    return session.new_name()


def test_all_attaches_every_container_and_detaches_it(host: Host, name: str) -> None:
    for number in range(3):
        host.container(f"{name}-{number}", *APART)
    done = host.run("attach", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.partition(" (pid ")[0] for line in lines] == [f"{name}-{number}" for number in range(3)]
    assert all(line.endswith("): attached 3 files") for line in lines)
    assert len(host.attached()) == 3
    done = host.run("detach", "--all", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [set(one["files"].values()) for one in json.loads(done.stdout)] == [{"detached"}] * 3
    assert not host.attached()


def test_all_of_none_is_said_and_no_failure(host: Host) -> None:
    done = host.run("attach", "--all")
    assert (done.returncode, done.stdout, done.stderr) == (0, "no containers on this host\n", "")
    assert host.run("detach", "--all", "--json").stdout == "[]\n"


def test_one_that_cannot_be_attached_does_not_stop_the_others(host: Host, name: str) -> None:
    host.container(f"{name}-a", *APART)
    host.container(f"{name}-bad", *APART, run="mount -t tmpfs tmpfs /proc; ")
    host.container(f"{name}-z", *APART)
    done = host.run("attach", "--all")
    assert (done.returncode, done.stderr) == (1, "")
    good, bad, also_good = done.stdout.splitlines()
    assert good.endswith("): attached 3 files")
    assert also_good.endswith("): attached 3 files")
    assert "): failed: " in bad
    assert host.attached() == {f"{name}-a", f"{name}-z"}


def test_a_sandbox_with_the_hosts_mounts_is_skipped_by_all_and_refused_by_name(host: Host, name: str) -> None:
    host.container(f"{name}-a", *APART)
    host.container(f"{name}-sandbox", "-p", "-f")
    done = host.run("attach", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].endswith("): skipped: " + attaching.SHARES)
    assert host.attached() == {f"{name}-a"}
    assert "/proc/uptime" not in [entry.path for entry in mounts(host.pid)]
    done = host.run("attach", f"{name}-sandbox")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("): failed: " + attaching.SHARES + "\n")
    assert "/proc/uptime" not in [entry.path for entry in mounts(host.pid)]


def test_a_name_is_exact_or_the_beginning_of_one(host: Host, name: str) -> None:
    for last in ("web-1", "web-12", "api-0"):
        host.container(f"{name}-{last}", *APART)
    assert host.run("attach", f"{name}-web-1").returncode == 0
    assert host.attached() == {f"{name}-web-1"}
    assert host.run("attach", f"{name}-a").returncode == 0
    assert host.attached() == {f"{name}-web-1", f"{name}-api-0"}
    done = host.run("attach", f"{name}-web-12", f"{name}-web-1", f"{name}-web-12")
    assert done.returncode == 0
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()] == ["attached 3 files", "already attached"]


def test_an_ambiguous_name_changes_nothing_and_names_the_candidates(host: Host, name: str) -> None:
    for last in ("web-1", "web-2", "api"):
        host.container(f"{name}-{last}", *APART)
    done = host.run("attach", f"{name}-web")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"'{name}-web' can be any of {name}-web-1 (pid " in done.stderr
    assert f", {name}-web-2 (pid " in done.stderr
    assert "api" not in done.stderr
    assert not host.attached()


def test_an_unknown_name_lists_what_there_is_and_does_not_stop_the_others(host: Host, name: str) -> None:
    assert "there is none on this host" in host.run("attach", "nonsense").stderr
    host.container(f"{name}-web", *APART)
    done = host.run("attach", f"{name}-web", "nonsense\x1b[2J", "ebbe")
    assert done.returncode == 1
    assert done.stdout.endswith("): attached 3 files\n")
    assert rf"no container 'nonsense\x1b[2J'; there are: {name}-web (pid " in done.stderr
    assert "no container 'ebbe'" in done.stderr
    assert host.attached() == {f"{name}-web"}


def test_a_container_is_meant_and_not_the_ones_in_it_that_have_its_name(host: Host, name: str) -> None:
    """Those have the same cgroup, as the sandbox of a browser in a container."""
    inner = f"sleep 1000 & unshare {' '.join(APART)} sleep 1000 & sleep 0.3; "
    host.container(f"{name}-web", *APART, run=inner)
    eventually(lambda: len([one for one in running() if one.name == f"{name}-web"]) == 2, "the inner one")
    done = host.run("attach", f"{name}-web")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    outer = next(one for one in running() if one.name == f"{name}-web" and one.parent == host.namespace)
    assert "/proc/uptime" in mountinfo(outer.pid)
    done = host.run("attach", "--all")
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()] == ["already attached", "attached 3 files"]


def test_hostile_names_are_printed_harmlessly(host: Host, name: str) -> None:
    host.container(f"{name}\x1b[2J\rx", *APART)
    done = host.run("attach", "--all")
    assert done.stdout.startswith(rf"{name}\x1b[2J\rx (pid ")
    done = host.run("attach", f"{name}\x1b[2J\rx", "--json")
    assert json.loads(done.stdout)[0]["name"] == f"{name}\x1b[2J\rx"
    assert "\x1b" not in done.stdout


# --- What cannot be done ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["attach", "detach"])
def test_bad_command_lines_are_usage_errors(what: str) -> None:
    for arguments in ([], ["--all", "web"], ["--pid", "1", "--all"], ["--pid", "1", "web"], ["--pid", "0"], [""],
                      ["--pid", "x"], ["--nonsense"]):  # fmt: skip
        done = command(what, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments


@pytest.mark.parametrize("what", ["attach", "detach"])
def test_without_slots_it_is_said_what_makes_them(what: str, tmp_path: Path) -> None:
    done = command(what, "--all", "--run-directory", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no slots in {tmp_path}: `procview serve` makes them" in done.stderr


@pytest.mark.parametrize("what", ["attach", "detach"])
def test_another_user_than_root_is_told(what: str) -> None:
    done = subprocess.run(["unshare", "-U", *COMMAND, what, "--all"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "only root can mount into other containers" in done.stderr


def test_a_process_of_the_host_and_one_that_is_not_there_are_errors(host: Host) -> None:
    done = host.run("attach", "--pid", 1)
    assert (done.returncode, done.stdout) == (1, "")
    assert "process 1 is in no container" in done.stderr
    done = host.run("attach", "--pid", 999999)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no process 999999" in done.stderr


# --- The hook program as it must not be ------------------------------------------------------------------------------

Program = Callable[[str], None]
ANSWERING = """
import json, sys
words = sys.argv[1:]
assert words[0] == "--attach" and words[-2:] == ["--run-directory", "/run/nowhere"], words
pids = [int(word) for word in words[1:-2]]
def answer(pid, **more):
    print(json.dumps({"pid": pid, "error": None, "files": {"proc/stat": "attached"}} | more), flush=True)
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """Use another hook program: ANSWERING and what is given."""
    path = tmp_path / "hook"
    monkeypatch.setattr(attaching, "hook_program", lambda: str(path))
    monkeypatch.setattr(attaching, "SILENCE_SECONDS", 30.0)
    return lambda text: void(path.write_text(ANSWERING + text))


def void(_: object) -> None: ...


@pytest.fixture
def living() -> Iterator[Callable[[int], list[containers.Container]]]:
    """Any processes: programs that are made for a test do not touch them."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(count: int) -> list[containers.Container]:
        namespace = os.stat("/proc/self/ns/pid").st_ino
        processes.extend(subprocess.Popen(["sleep", "1000"]) for _ in range(count))
        return [containers.Container(process.pid, namespace, "web", "sleep") for process in processes]

    yield start
    for process in processes:
        process.kill()
        process.wait()


Living = Callable[[int], list[containers.Container]]
NOWHERE = Skeleton("/run/nowhere")


def errors(results: list[attaching.Result]) -> list[str | None]:
    return [result.error for result in results]


def test_many_containers_go_in_batches_and_keep_their_order(
    program: Program, living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("for pid in pids: answer(pid, files={'proc/stat': 'failed: ' + ' '.join(map(str, pids))})")
    monkeypatch.setattr(attaching, "BATCH", 2)
    several = living(5)
    results = attaching.attach(NOWHERE, several)
    assert [result.container for result in results] == several
    pids = [str(one.pid) for one in several]
    batches = [pids[:2], pids[:2], pids[2:4], pids[2:4], pids[4:]]
    assert [result.files["proc/stat"] for result in results] == [f"failed: {' '.join(batch)}" for batch in batches]


def test_one_at_which_it_falls_silent_is_to_blame_and_the_others_are_done(
    program: Program, living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "SILENCE_SECONDS", 3.0)
    several = living(3)
    program(f"""
import time
for pid in pids:
    if pid == {several[1].pid}: time.sleep(1000)
    answer(pid)
""")
    results = attaching.attach(NOWHERE, several)
    assert errors(results) == [None, "the hook program said nothing for 3 s", None]
    assert [result.failed for result in results] == [False, True, False]


def test_one_at_which_it_crashes_is_to_blame_and_the_others_are_done(program: Program, living: Living) -> None:
    several = living(3)
    program(f"""
for pid in pids:
    if pid == {several[1].pid}: sys.exit("no such luck")
    answer(pid)
""")
    cause = "the hook program ended with status 1: no such luck"
    assert errors(attaching.attach(NOWHERE, several)) == [None, cause, None]


@pytest.mark.parametrize(
    "said",
    [
        "print('nonsense')",
        "print('[' * 100000)",
        "print('[]')",
        "print()",
        "answer(pid + 1)",
        "answer(str(pid))",
        "answer(pid, more=1)",
        "answer(pid, error=1)",
        "answer(pid, files=[])",
        "answer(pid, files={'proc/stat': 1})",
        "answer(pid, files={'proc/stat': 'detached'})",
        "sys.stdout.buffer.write(b'\\xff\\n')",
        "sys.stdout.write('x' * (2 << 20))",
    ],
)
def test_an_answer_that_is_none_is_an_error_of_that_container(program: Program, living: Living, said: str) -> None:
    several = living(2)
    program(f"""
for pid in pids:
    if pid == {several[0].pid}:
        {said}
    else:
        answer(pid)
""")
    (bad, good) = attaching.attach(NOWHERE, several)
    assert (bad.error or "").startswith("the hook program is not understood: ")
    assert len(bad.error or "") < 400
    assert not good.failed


def test_half_an_answer_is_none(program: Program, living: Living) -> None:
    program("sys.stdout.write(json.dumps({'pid': pids[0], 'error': None, 'files': {}}))")
    assert errors(attaching.attach(NOWHERE, living(1))) == ["the hook program ended with status 0"]


def test_one_that_has_ended_is_skipped(program: Program, living: Living) -> None:
    program("for pid in pids: answer(pid)")
    several = living(3)
    os.kill(several[1].pid, signal.SIGKILL)
    os.waitpid(several[1].pid, 0)
    first, dead, last = attaching.attach(NOWHERE, several)
    assert (dead.error, dead.skipped, dead.failed) == (None, "it has ended", False)
    assert first.files == last.files == {"proc/stat": "attached"}


def test_one_that_ends_meanwhile_is_skipped(program: Program, living: Living) -> None:
    program("""
import os, signal
for pid in pids:
    os.kill(pid, signal.SIGKILL)
    while open(f'/proc/{pid}/stat').read().split()[2] != 'Z': pass
    answer(pid, error='no such process')
""")
    (result,) = attaching.attach(NOWHERE, living(1))
    assert (result.error, result.skipped) == (None, "it has ended")


def test_a_program_that_does_not_end_is_ended(program: Program, living: Living, tmp_path: Path) -> None:
    program(f"""
import os, time
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
for pid in pids: answer(pid)
time.sleep(1000)
""")
    (result,) = attaching.attach(NOWHERE, living(1))
    assert not result.failed
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_an_outcome_is_one_line() -> None:
    container = containers.Container(1, 2, "web", "sleep")
    files = {"proc/stat": "attached", "proc/swaps": "failed: a\x1bb", "proc/uptime": "failed: a\x1bb",
             "proc/meminfo": "failed: c", "sys/x": "not attached"}  # fmt: skip
    said = described(attaching.Result(container, files=files))
    assert (
        said == r"attached 1 file, 1 not attached; failed: /proc/swaps, /proc/uptime: a\x1bb; failed: /proc/meminfo: c"
    )


def test_it_tells_how_far_it_is_from_one_process_of_the_hook_to_the_next(
    plain: Running, rootfs: Rootfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "BATCH", 1)
    with usable(RUNC).start(rootfs, default_limits(), views=None) as other:
        pids = {plain.container.pid, other.pid}
        both = [container for container in running() if container.pid in pids]
        for change in (attaching.attach, attaching.detach):
            told: list[int] = []
            assert len(change(Skeleton(plain.run_directory), both, told.append)) == 2
            assert told == [1, 2]
