"""The containers on this host, and what is mounted over their files: from the outside, without touching them.

Reads of each process of interest, below /proc/<pid>: ns/pid and ns/mnt (links), status, cgroup and mountinfo. Nothing
here reads what comes out of a container's memory (cmdline, environ): a container can make that hang. Processes end at
any time; whoever is gone is left out.

Links and status are read here and not through psutil, which knows neither of namespaces nor of NSpid; a readlink for
each process of the host (2 µs) is what a walk costs.
"""

import enum
import fcntl
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from procview.mount_namespace import where_views_are
from procview.mounts import MountEntry, mount_table, parse_mountinfo
from procview.printable import printable
from procview.slots import bound
from procview.slots.skeleton import Skeleton, trees_of

_NS_GET_PARENT = 0xB702
"""ioctl_nsfs(2): a descriptor of the namespace's parent."""


@dataclass(frozen=True, slots=True)
class Container:
    """A pid namespace other than the host's. ``name`` and ``command`` are as hostile as the container: see label."""

    pid: int
    """Of its init, as the host numbers it."""
    pid_namespace: int
    name: str
    """Its id where its cgroup tells one, else the last part of its cgroup's path, else its init's command."""
    command: str
    """The name of the program that its init runs, 15 bytes at most."""
    parent: int = 0
    """The pid namespace around it; 0: not known."""
    shares_host_mounts: bool = False
    """Whether it lives in the host's mount namespace (as sandboxes of browsers do): its /proc is the host's own."""

    @property
    def label(self) -> str:
        """The name for people."""
        return f"{printable(self.name)} (pid {self.pid})"


def running(proc: str = "/proc") -> list[Container]:
    """All containers, nested ones too, by the pid of their inits.

    One whose init is not to be seen is left out: it is dying, or was made in the last instant. So is one whose
    namespaces we may not look at.
    """
    host = namespace_of(proc, "self", "pid")
    host_mounts = {namespace_of(proc, "self", "mnt"), namespace_of(proc, "1", "mnt")} - {0}
    found = [
        container
        for pid in sorted(int(entry) for entry in os.listdir(proc) if entry.isdecimal())
        if (namespace := namespace_of(proc, str(pid), "pid")) not in {0, host}
        and (container := _container(proc, pid, namespace, host_mounts)) is not None
    ]
    # A process that has entered a dying namespace can be numbered 1 there after its init: the first one counts.
    return list({container.pid_namespace: container for container in reversed(found)}.values())[::-1]


def containing(pid: int, among: Iterable[Container], proc: str = "/proc") -> Container | None:
    """The container that process ``pid`` is in; None if it is the host's own. Raises ProcessLookupError."""
    namespace = namespace_of(proc, str(pid), "pid")
    if not namespace:
        raise ProcessLookupError(f"no process {pid}, or its namespaces may not be read")
    if namespace == namespace_of(proc, "self", "pid"):
        return None
    for container in among:
        if container.pid_namespace == namespace:
            return container
    raise ProcessLookupError(f"the container of process {pid} has no init: it is ending")


def is_running(container: Container, proc: str = "/proc") -> bool:
    """Whether its init is still there, and not another process with the same number."""
    pid = str(container.pid)
    # A dead process that nobody has reaped still has its pid namespace, but no other.
    return namespace_of(proc, pid, "pid") == container.pid_namespace and namespace_of(proc, pid, "mnt") != 0


def _container(proc: str, pid: int, namespace: int, host_mounts: set[int]) -> Container | None:
    """The container whose init ``pid`` is; None if it is no init, or gone."""
    try:
        status = dict(line.split(":\t", 1) for line in _lines(f"{proc}/{pid}/status") if ":\t" in line)
        if status["NSpid"].split()[-1] != "1" or status["State"].startswith(("Z", "X")):
            return None
        name = name_in(_lines(f"{proc}/{pid}/cgroup")) or status["Name"]
        mounts = namespace_of(proc, str(pid), "mnt")
        parent = _parent(proc, pid)
        # All of it was about one process, if its number still means the same namespace.
        if not mounts or namespace_of(proc, str(pid), "pid") != namespace:
            return None
    except (OSError, KeyError, IndexError):
        return None
    return Container(pid, namespace, name, status["Name"], parent, shares_host_mounts=mounts in host_mounts)


def _lines(path: str) -> list[str]:
    """Only the kernel's own newlines count: in a name, a carriage return and its like are characters as any other."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read().split("\n")


def namespace_of(proc: str, pid: str, kind: str) -> int:
    """The inode number of a namespace of process ``pid``; 0 if it is gone, or may not be read."""
    try:
        return int(os.readlink(f"{proc}/{pid}/ns/{kind}").partition("[")[2].rstrip("]"))
    except (OSError, ValueError):
        return 0


def _parent(proc: str, pid: int) -> int:
    try:
        inner = os.open(f"{proc}/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            outer = fcntl.ioctl(inner, _NS_GET_PARENT)
        finally:
            os.close(inner)
        try:
            return os.fstat(outer).st_ino
        finally:
            os.close(outer)
    except OSError:
        return 0


# How engines name the cgroups of their containers. The last match in a path counts: containers can be nested.
_ENGINES = [
    re.compile(pattern)
    for pattern in (
        r"(?:docker|libpod|crio|cri-containerd|containerd|nerdctl|isulad|runc|crun)-(?!conmon-)(?P<id>.+)\.scope",
        r"(?:libpod|crio|cri-containerd)-(?!conmon-)(?P<id>.+)",
        r"lxc\.payload\.(?P<id>.+)",
        r"machine-(?P<systemd>.+)\.scope",
        r"systemd-nspawn@(?P<systemd>.+)\.service",
        r"(?P<id>[0-9a-f]{64})",  # docker, containerd and iSulad without systemd, below a folder of theirs
    )
]
_LXC_FOLDERS = {"lxc", "lxc.payload"}
"""LXC's folders on v1, with a container's name right below."""
_INNER = {"init.scope", "container", "payload", "supervisor", "ns"}
"""What engines, and systemd in a container, put below a container's own cgroup."""


def name_in(cgroups: Iterable[str]) -> str:
    """What the lines of a /proc/<pid>/cgroup call the container; empty if it is in root cgroups only."""
    paths = [fields[2].removesuffix(" (deleted)").strip("/").split("/")
             for line in cgroups if len(fields := line.split(":", 2)) == 3]  # fmt: skip
    deepest = max(paths, key=lambda path: len(path) if path != [""] else 0, default=[""])
    for path in (deepest, *paths):
        for at in range(len(path) - 1, -1, -1):
            if name := _engine_name(path, at):
                return name
    while len(deepest) > 1 and deepest[-1] in _INNER:
        deepest = deepest[:-1]
    return deepest[-1]


_HOSTS = re.compile(
    r"(?!user(-.*)?\.slice).+\.slice|docker|lxc|lxc\.payload|libpod_parent|isulad|default|k8s\.io"
    r"|kubepods|burstable|besteffort|guaranteed|pod[0-9a-f-]+"
)
"""What only the host's own engines and managers call cgroups that others are below."""


def trusted_name(cgroups: Iterable[str]) -> str | None:
    """What the host's engine calls the container, from the lines of a /proc/<pid>/cgroup; None if that is not certain.

    Inside of its own cgroup a container may make others, with names like those of engines, and any user below
    ``user.slice``. So the name of the outermost cgroup counts that is not one of the host's folders, if an engine can
    have called it so or if it is right below the root (plain runc and crun); and all hierarchies have to agree.
    """
    found = set()
    for line in cgroups:
        path = line.split(":", 2)[-1].removesuffix(" (deleted)").strip("/").split("/")
        at = next((at for at, part in enumerate(path) if not _HOSTS.fullmatch(part)), None)
        if path != [""] and at is not None:
            found.add(_engine_name(path, at) or (path[0] if at == 0 and len(path) == 1 else ""))
    name = found.pop() if len(found) == 1 else ""
    return name or None


def _engine_name(path: list[str], at: int) -> str:
    for pattern in _ENGINES:
        match = pattern.fullmatch(path[at])
        if match is not None:
            groups = match.groupdict()
            return groups["id"] if groups.get("id") else _systemd_unescape(groups["systemd"])
    return path[at] if at and path[at - 1] in _LXC_FOLDERS else ""


def _systemd_unescape(text: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text)


class State(enum.Enum):
    """What a container reads in the place of a slot."""

    ATTACHED = "attached"
    """The slot, and over it the view that is served now; or that view alone, bound so that it gets a slot when it goes
    (bound.py).
    """
    HOST = "host"
    """The slot, and no view over it: the host's values."""
    STALE = "stale"
    """A view or a slot of ours that is no longer the current one, or one too many: detach and attach again."""
    BOUND = "bound"
    """The view that is served now, but without a slot: right, until the daemon goes."""
    MISSING = "missing"
    """Nothing of ours."""
    FOREIGN = "foreign"
    """Somebody else's mount covers the place."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What a mount in a container must look like to be the current slot of one name, or the current view over it."""

    fs_type: str
    root: str
    group: int
    """The peer group of ``ctl``, which the mount in a container receives from."""
    view: str | None
    """The device of the view that is published; None: there is none."""
    view_group: int = 0
    """The peer group of the view in ``ctl``, where views that were bound from it get a slot when they go; else 0."""

    @classmethod
    def of(cls, skeleton: Skeleton, name: str, table: Sequence[MountEntry]) -> Self | None:
        """From ``table``, the host's mounts; None where ``ctl`` is not mounted."""
        (tree,) = trees_of([name])
        base = next(iter(stack(table, skeleton.ctl(tree))), None)
        if base is None or base.ours or not base.shared:
            return None
        top = (stack(table, skeleton.ctl(name)) or [base])[-1]
        root = base.root.rstrip("/") + name.removeprefix(tree)
        view_group = top.shared if top.ours and bound.are_kept(skeleton) else 0
        return cls(base.fs_type, root, base.shared, top.device if top.ours else None, view_group)

    def is_slot(self, entry: MountEntry) -> bool:
        return self.was_slot(entry) and entry.master == self.group

    def was_slot(self, entry: MountEntry) -> bool:
        """Whether it is the kernel's own file, bound from whatever skeleton: each has a procfs of its own."""
        return (entry.fs_type, entry.root) == (self.fs_type, self.root)

    def is_view(self, entry: MountEntry) -> bool:
        return entry.ours and entry.device == self.view

    def gets_a_slot(self, entry: MountEntry) -> bool:
        """Whether it is the current view, which was bound without a slot and will have one when it goes."""
        return self.is_view(entry) and entry.master == self.view_group != 0


@where_views_are()
def slots(skeleton: Skeleton) -> dict[str, Slot | None]:
    """All slots by name, as they are now; None for one that is broken on the host. Raises OSError."""
    table = mount_table()
    return {name: Slot.of(skeleton, name, table) for name in skeleton.names()}


def states(table: Sequence[MountEntry], current: Mapping[str, Slot | None]) -> dict[str, State]:
    """The state of each slot, by its name, in a container with these mounts; ``current`` are the slots of the host."""
    return {name: _state(stack(table, f"/{name}"), slot) for name, slot in current.items()}


def by_state(
    table: Sequence[MountEntry], current: Mapping[str, Slot | None], optional: Collection[str] = ()
) -> dict[State, list[str]]:
    """The names of slots by their states in a container with these mounts.

    Those that are missing count only where it has a place for them, and not if they are ``optional``.
    """
    found: dict[State, list[str]] = {}
    for name, state in states(table, current).items():
        if state is not State.MISSING or (name not in optional and has_place(table, name)):
            found.setdefault(state, []).append(name)
    return found


def mounts_of(container: Container, proc: str = "/proc") -> list[MountEntry]:
    """What is mounted in a container. Raises ProcessLookupError when it has ended, and PermissionError."""
    try:
        with open(
            f"{proc}/{container.pid}/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n"
        ) as file:
            table = list(parse_mountinfo(file.read()))
    except PermissionError:
        raise
    except OSError:  # ENOENT, ESRCH, or EINVAL of a process that is exiting
        table = []
    if not table or not is_running(container, proc):
        raise ProcessLookupError(f"{container.label} has ended")
    return table


_OUTSIDE = -1
"""The parent of mounts whose parent a process cannot see; no mount's number."""


def stack(table: Sequence[MountEntry], path: str) -> list[MountEntry]:
    """The mounts at exactly ``path`` (which has no links in it), each over the one before; the last is visible.

    Found as the kernel does, from the root down: a mount below a folder that something else covers is not among them.
    """
    ids = {entry.mount_id for entry in table}
    over = {}
    for entry in table:
        # The root's parent is itself or not in the table. Nor is that of any mount on the file system of the root if
        # the process has changed its root to a folder which is no mount: then there is no entry for the root.
        seen = entry.parent_id in ids and entry.parent_id != entry.mount_id
        over[entry.parent_id if seen else _OUTSIDE, entry.path] = entry
    here, found = _OUTSIDE, list[MountEntry]()
    parts = [part for part in path.split("/") if part]
    for end in range(len(parts) + 1):
        place = "/" + "/".join(parts[:end])
        found = []
        while (here, place) in over:
            found.append(over[here, place])
            here = found[-1].mount_id
    return found


def has_place(table: Sequence[MountEntry], name: str) -> bool:
    """Whether a container with these mounts has the file of the slot ``name``: it need not have a sysfs, say."""
    wanted = "proc" if name.startswith("proc/") else "sysfs"
    path = f"/{name}"
    while path != "/":
        path = os.path.dirname(path)
        if mounted := stack(table, path):
            return mounted[-1].fs_type == wanted
    return False


def _state(mounted: list[MountEntry], slot: Slot | None) -> State:
    if not mounted:
        return State.MISSING
    top = mounted[-1]
    if slot is None:  # broken on the host: no slot is current, nor any view
        return State.STALE if top.ours else State.FOREIGN
    if not top.ours and not slot.was_slot(top):
        return State.FOREIGN
    last = max((at for at, entry in enumerate(mounted) if slot.is_slot(entry)), default=None)
    if last is None:
        if slot.gets_a_slot(top):
            return State.ATTACHED
        return State.BOUND if slot.is_view(top) else State.STALE
    above = mounted[last + 1 :]
    if not above:
        return State.HOST
    return State.ATTACHED if len(above) == 1 and slot.is_view(above[0]) else State.STALE
