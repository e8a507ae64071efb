"""Finding containers and telling what is mounted over their files, with real namespaces and real mounts."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from procview.mounts import parse_mountinfo
from procview.printable import printable
from procview.slots import containers
from procview.slots.containers import Container, State, name_in, running, stack, trusted_name
from procview.slots.skeleton import Skeleton
from tests.containers.cgroups import Cgroup
from tests.daemon.process import Place, eventually, needs_mount, place
from tests.session import new_name
from tests.slots.looks import states
from tests.timing import patient

__all__ = ["place"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="pid namespaces can be made by root only")


# --- Names -----------------------------------------------------------------------------------------------------------

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"/system.slice/docker-{ID}.scope", ID),
        (f"/system.slice/docker-{ID}.scope/init.scope", ID),
        (f"/docker/{ID}", ID),
        (f"/docker/{ID}/docker/{ID[::-1]}", ID[::-1]),
        (f"/machine.slice/libpod-{ID}.scope/container", ID),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ID),
        (f"/libpod_parent/libpod-{ID}", ID),
        (f"/kubepods.slice/kubepods-pod1_2.slice/crio-{ID}.scope", ID),
        (f"/kubepods.slice/kubepods-besteffort.slice/cri-containerd-{ID}.scope", ID),
        (f"/kubepods/burstable/pod1-2/{ID}", ID),
        (f"/isulad/{ID}", ID),
        ("/lxc.payload.web", "web"),
        ("/lxc.payload/web", "web"),
        ("/lxc/web/system.slice/cron.service", "web"),
        (r"/machine.slice/machine-my\x2dweb.scope/payload", "my-web"),
        (r"/machine.slice/systemd-nspawn@my\x2dweb.service/payload", "my-web"),
        ("/system.slice/runc-web.scope", "web"),
        ("/user.slice/user-0.slice/web", "web"),
        ("/web/init.scope", "web"),
        ("/web (deleted)", "web"),
        ("/", ""),
        ("", ""),
    ],
)
def test_a_container_is_called_as_its_cgroup_tells(path: str, name: str) -> None:
    assert name_in([f"0::{path}", ""]) == name
    assert name_in(["9:name=systemd:/", "4:memory:/", f"3:cpu,cpuacct:{path}", "0::/", ""]) == name


def test_an_engines_name_counts_more_than_a_deeper_cgroup() -> None:
    assert name_in(["2:name=systemd:/user.slice/user-0.slice/session-1.scope", f"1:memory:/docker/{ID}"]) == ID


@pytest.mark.parametrize("line", ["", "nonsense", "1:memory", "::"])
def test_a_broken_cgroup_file_gives_no_name(line: str) -> None:
    assert name_in([line]) == ""


def test_what_a_terminal_obeys_is_not_printed() -> None:
    assert printable("web-1 \N{SNOWMAN}") == "web-1 \N{SNOWMAN}"
    assert printable("a\x1b[2Jb\nc\x00\x7f\u202e") == r"a\x1b[2Jb\nc\x00\x7f\u202e"
    assert printable(b"a\xff".decode(errors="surrogateescape")) == r"a\udcff"


# --- Mounts ----------------------------------------------------------------------------------------------------------


def paths(text: str, path: str) -> list[int]:
    return [entry.mount_id for entry in stack(list(parse_mountinfo(text)), path)]


TABLE = """\
20 1 8:1 / / rw - ext4 /dev/sda rw
22 21 0:7 /meminfo /proc/meminfo ro master:5 - proc proc rw
23 22 0:50 /proc/meminfo /proc/meminfo ro - fuse.procview procview ro
21 20 0:9 / /proc rw - proc proc rw
"""


def test_a_stack_is_told_by_parents_and_not_by_the_order_of_lines() -> None:
    assert paths(TABLE, "/proc/meminfo") == [22, 23]
    assert paths(TABLE, "/proc") == [21]
    assert paths(TABLE, "/") == [20]
    assert paths(TABLE, "/proc/uptime") == []
    assert paths(TABLE, "/proc/meminfo/deeper") == []


def test_what_is_below_a_covered_folder_is_not_seen() -> None:
    covered = TABLE + "24 21 0:60 / /proc rw - tmpfs tmpfs rw\n"
    assert paths(covered, "/proc") == [21, 24]
    assert paths(covered, "/proc/meminfo") == []
    assert paths(covered + "25 24 0:61 / /proc/meminfo rw - tmpfs tmpfs rw\n", "/proc/meminfo") == [25]


def test_a_process_in_another_root_sees_mounts_below_a_root_that_is_none() -> None:
    assert paths(TABLE.split("\n", 1)[1], "/proc/meminfo") == [22, 23]
    assert paths(TABLE.split("\n", 1)[1], "/") == []


def test_the_first_root_of_all_is_its_own_parent() -> None:
    assert paths("1 1 0:2 / / rw - rootfs rootfs rw\n2 1 0:3 / /proc rw - proc proc rw\n", "/proc") == [2]


SLOT = "22 21 0:7 /meminfo /proc/meminfo ro master:5 - proc proc rw"
VIEW = "23 22 0:50 /proc/meminfo /proc/meminfo ro master:6 - fuse.procview procview ro"


def moved(line: str, number: int, parent: int) -> str:
    return " ".join([str(number), str(parent), *line.split(" ")[2:]])


@pytest.mark.parametrize(
    ("mounted", "state"),
    [
        ([], State.MISSING),
        ([SLOT], State.HOST),
        ([SLOT, VIEW], State.ATTACHED),
        ([moved(VIEW, 22, 21)], State.BOUND),
        ([SLOT.replace("master:5", "shared:9 master:5")], State.HOST),
        # The slot of a skeleton that has been removed, or another container's slot.
        ([SLOT.replace(" master:5", "")], State.STALE),
        ([SLOT.replace("master:5", "master:55")], State.STALE),
        ([SLOT.replace("master:5", "master:55"), VIEW], State.BOUND),
        # The view of a daemon that has gone.
        ([moved(VIEW.replace("0:50", "0:49"), 22, 21)], State.STALE),
        ([SLOT, VIEW.replace("0:50", "0:49")], State.STALE),
        ([SLOT, VIEW.replace("0:50", "0:49"), moved(VIEW, 24, 23)], State.STALE),
        # One view too many: the kernel would withdraw one of them.
        ([SLOT, VIEW, moved(VIEW, 24, 23)], State.STALE),
        # A second slot over a view is as good as the first one.
        ([SLOT, VIEW, moved(SLOT, 24, 23)], State.HOST),
        ([SLOT, VIEW, moved(SLOT, 24, 23), moved(VIEW, 25, 24)], State.ATTACHED),
        ([SLOT.replace("/meminfo /proc", "/stat /proc")], State.FOREIGN),
        # Of a skeleton that was made anew: each has a procfs of its own.
        ([SLOT.replace("0:7", "0:8").replace("master:5", "master:55")], State.STALE),
        ([VIEW.replace("fuse.procview procview", "fuse.lxcfs lxcfs").replace("23 22", "22 21")], State.FOREIGN),
        ([VIEW.replace("fuse.procview procview", "fuse.procview other").replace("23 22", "22 21")], State.FOREIGN),
        ([SLOT, VIEW, "24 23 0:60 / /proc/meminfo rw - fuse.lxcfs lxcfs rw"], State.FOREIGN),
    ],
)
def test_the_state_of_a_slot_is_told_by_what_is_mounted(mounted: list[str], state: State, tmp_path: Path) -> None:
    lines = ["20 1 8:1 / / rw - ext4 /dev/sda rw", "21 20 0:9 / /proc rw - proc proc rw", *mounted]
    (tmp_path / "7/ns").mkdir(parents=True)
    (tmp_path / "7/ns/pid").symlink_to("pid:[77]")
    (tmp_path / "7/ns/mnt").symlink_to("mnt:[78]")
    (tmp_path / "7/mountinfo").write_text("\n".join(lines) + "\n")
    current = {"proc/meminfo": containers.Slot("proc", "/meminfo", 5, "0:50")}
    container = Container(7, 77, "web", "sleep")
    assert states(container, Skeleton("/nowhere"), current, str(tmp_path)) == {"proc/meminfo": state}


def test_without_slots_on_the_host_nothing_is_current(tmp_path: Path) -> None:
    (tmp_path / "7/ns").mkdir(parents=True)
    (tmp_path / "7/ns/pid").symlink_to("pid:[77]")
    (tmp_path / "7/ns/mnt").symlink_to("mnt:[78]")
    (tmp_path / "7/mountinfo").write_text(TABLE)
    container = Container(7, 77, "web", "sleep")
    current = {"proc/meminfo": None, "proc/stat": None}
    found = states(container, Skeleton("/nowhere"), current, str(tmp_path))
    assert found == {"proc/meminfo": State.STALE, "proc/stat": State.MISSING}


def test_another_process_with_the_number_of_a_dead_container_is_not_taken_for_it() -> None:
    me = next(iter(running()), None) or Container(os.getpid(), 0, "", "")
    with pytest.raises(ProcessLookupError):
        states(replace(me, pid=os.getpid(), pid_namespace=1), Skeleton("/nowhere"))


# --- Real ones -------------------------------------------------------------------------------------------------------

READY = "echo ready; exec sleep 1000"


@dataclass
class Namespaces:
    """A process in namespaces of its own, by unshare(1) with ``options``, in the cgroup ``name``."""

    process: "subprocess.Popen[bytes]"
    cgroup: Cgroup
    name: str

    @property
    def pid(self) -> int:
        """Of the outermost init."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def found(self) -> list[Container]:
        return [container for container in running() if container.name == self.name]

    def mount(self, *arguments: str) -> None:
        subprocess.run(["nsenter", "-t", str(self.pid), "-m", "mount", *arguments], check=True, timeout=patient(10))

    def end(self) -> None:
        self.process.kill()  # and by --kill-child its init
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.cgroup.remove()


Unshare = Callable[..., Namespaces]


@pytest.fixture
def unshare() -> Iterator[Unshare]:
    started: list[Namespaces] = []

    def start(*options: str, name: str = "", run: str = READY) -> Namespaces:
        name = name or new_name()
        cgroup = Cgroup.create(name)
        script = f"""
            for file; do echo $$ > "$file" || exit; done
            exec unshare --kill-child {" ".join(options)} sh -c '{run}'
        """
        argv = ["sh", "-c", script, "sh", *map(str, cgroup.entry_files())]
        started.append(Namespaces(subprocess.Popen(argv, stdout=subprocess.PIPE), cgroup, name))
        assert started[-1].process.stdout is not None
        assert started[-1].process.stdout.readline() == b"ready\n"
        if run is READY:  # said by the shell, right before it becomes the program
            eventually(lambda: "sleep" in [container.command for container in started[-1].found()], "the program")
        return started[-1]

    yield start
    for namespaces in reversed(started):
        namespaces.end()


@needs_root
def test_a_container_is_found_with_its_init(unshare: Unshare) -> None:
    web = unshare("-m", "-p", "-f", "--mount-proc")
    eventually(lambda: web.found()[0].command == "sleep", "its last exec")
    (container,) = web.found()
    assert container.pid == web.pid
    assert container.pid_namespace == os.stat(f"/proc/{web.pid}/ns/pid").st_ino
    assert (container.command, container.shares_host_mounts) == ("sleep", False)
    assert container.parent == os.stat("/proc/self/ns/pid").st_ino
    assert container.label == f"{web.name} (pid {web.pid})"
    assert containers.containing(web.pid, running()) == container
    web.process.kill()
    eventually(lambda: not web.found(), "its end")


@needs_root
def test_the_host_is_no_container() -> None:
    assert os.getpid() not in {container.pid for container in running()}
    assert containers.containing(os.getpid(), running()) is None
    with pytest.raises(ProcessLookupError):
        containers.containing(1 << 30, running())


@needs_root
def test_a_sandbox_that_shares_the_hosts_mounts_is_told(unshare: Unshare) -> None:
    (sandbox,) = unshare("-p", "-f").found()
    assert sandbox.shares_host_mounts


@needs_root
def test_containers_in_containers_are_found_with_what_they_are_in(unshare: Unshare) -> None:
    inner = 'sleep 1000 & exec unshare --kill-child -m -p -f --mount-proc sh -c "echo ready; exec sleep 1000"'
    web = unshare("-m", "-p", "-f", "--mount-proc", run=inner)
    eventually(lambda: web.found()[-1].command == "sleep", "its last exec")
    outside, inside = web.found()
    assert inside.parent == outside.pid_namespace
    assert (outside.command, inside.command) == ("unshare", "sleep")
    assert containers.containing(inside.pid, running()) == inside


@needs_root
def test_a_hostile_name_is_found_and_printed_on_one_line(unshare: Unshare) -> None:
    web = unshare("-m", "-p", "-f", "--mount-proc", name=f"{new_name()}\x1b[2J\r0::\u2028")
    (container,) = web.found()
    assert container.label.isprintable()
    assert container.label.startswith(rf"{web.name.partition(chr(27))[0]}\x1b[2J\r0::\u2028 (pid ")


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["/docker/" + "a" * 64], "a" * 64),
        (["/system.slice/docker-web.scope"], "web"),
        (["/web"], "web"),
        (["/", "/web"], "web"),
        (["/machine-web.scope/docker-other.scope/init.scope"], "web"),
        (["/web/machine-other.scope"], None),
        (["/web", "/web/machine-other.scope"], None),
        (["/kubepods/burstable/pod1f-2/" + "a" * 64], "a" * 64),
        (["/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + "a" * 64 + ".scope"], "a" * 64),
        (["/lxc.payload.web/init.scope"], "web"),
        (["/lxc/web/ns"], "web"),
        (["/a/b"], None),
        (["/machine-one.scope", "/machine-other.scope"], None),
        (["/one", "/other"], None),
        (["/user.slice/user-1000.slice/user@1000.service/machine-web.scope"], None),
        (["/"], None),
        ([], None),
    ],
)
def test_a_name_that_a_container_made_itself_is_not_trusted(paths: list[str], name: str | None) -> None:
    assert trusted_name([f"{number}:name:{path}" for number, path in enumerate(paths)]) == name


@needs_root
@pytest.mark.parametrize("command", ["a\x1b[2J", "a\n\n\r\x85", "a\rNSpid:\t9 2", "NSpid:\t9 2", "\udcff"])
def test_a_hostile_command_hides_no_container(unshare: Unshare, command: str, tmp_path: Path) -> None:
    (tmp_path / command).symlink_to("/bin/sleep")
    web = unshare("-m", "-p", "-f", "--mount-proc", run=f'echo ready; exec "{tmp_path}"/* 1000')
    eventually(lambda: [container for container in web.found() if container.command != "sh"], "the program")
    (container,) = web.found()
    assert container.pid == web.pid
    assert printable(container.command).isprintable()


@needs_root
def test_a_hostile_mount_is_one_mount(unshare: Unshare) -> None:
    web = unshare("-m", "-p", "-f", "--mount-proc")
    web.mount("-t", "tmpfs", "tmpfs", "/mnt")
    place = "/mnt/a\r1 2 0:3 - x\u2028y"
    subprocess.run(["nsenter", "-t", str(web.pid), "-m", "mkdir", place], check=True)
    (container,) = web.found()
    before = containers.mounts_of(container)
    web.mount("-t", "tmpfs", "tmpfs", place)
    assert [entry.path for entry in containers.mounts_of(container)[len(before) :]] == [place]


@needs_root
def test_processes_that_come_and_go_do_not_matter(unshare: Unshare) -> None:
    web = unshare("-m", "-p", "-f", "--mount-proc", run="echo ready; while :; do /bin/true; done")
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            subprocess.run(["unshare", "-p", "-f", "/bin/true"], check=True)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert web.pid in {container.pid for container in running()}
            for container in running():
                try:
                    containers.mounts_of(container)
                except ProcessLookupError:
                    assert container.pid != web.pid
    finally:
        stop.set()
        thread.join()


@needs_root
def test_an_init_that_is_dead_and_not_yet_reaped_is_no_container(unshare: Unshare) -> None:
    web = unshare("-m", "-p", "-f", "--mount-proc")
    pid = web.pid
    web.process.send_signal(signal.SIGSTOP)  # so that nobody reaps
    eventually(lambda: "\nState:\tT" in Path(f"/proc/{web.process.pid}/status").read_text(), "its parent's halt")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(), "its death")
    assert web.found() == []


@needs_mount[0]
@needs_mount[1]
def test_states_follow_what_is_mounted(place: Place, unshare: Unshare) -> None:
    place.start()
    skeleton = Skeleton(str(place.run_directory))
    web = unshare("-m", "-p", "-f", "--mount-proc", "--propagation", "slave")
    (container,) = web.found()
    now = states(container, skeleton)
    assert list(now) == skeleton.names()
    assert set(now.values()) == {State.MISSING}
    for name in ("proc/uptime", "proc/stat", "sys/devices/system/cpu"):
        web.mount("--bind", skeleton.src(name), f"/{name}")
        assert states(container, skeleton)[name] is State.HOST
    for name in ("proc/uptime", "sys/devices/system/cpu"):
        web.mount("--bind", skeleton.ctl(name), f"/{name}")
        assert states(container, skeleton)[name] is State.ATTACHED
    web.mount("--bind", f"{place.mount}/proc/meminfo", "/proc/meminfo")
    web.mount("--bind", "/etc/hostname", "/proc/loadavg")
    expected = {"proc/uptime": State.ATTACHED, "sys/devices/system/cpu": State.ATTACHED, "proc/stat": State.HOST,
                "proc/meminfo": State.BOUND, "proc/loadavg": State.FOREIGN}  # fmt: skip
    assert {name: state for name, state in states(container, skeleton).items() if name in expected} == expected
    place.started[0].process.kill()
    # One view after the other is withdrawn.
    eventually(lambda: states(container, skeleton)["proc/uptime"] is State.HOST, "the withdrawal")
    eventually(lambda: states(container, skeleton)["proc/meminfo"] is State.STALE, "its end for meminfo")
    place.start()
    expected["proc/meminfo"] = State.STALE
    expected["proc/stat"] = State.ATTACHED
    assert {name: state for name, state in states(container, skeleton).items() if name in expected} == expected
    web.mount("-t", "tmpfs", "tmpfs", "/proc")
    assert states(container, skeleton)["proc/uptime"] is State.MISSING
