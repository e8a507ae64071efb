from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, final

PROC_VIEWS: tuple[str, ...]
"""Files below ``proc/`` of the mount, in listing order; ``pressure/cpu`` and its like have a folder in their name."""

class Known(TypedDict):
    """A container that has read a view, or a caller that is one by its own cgroup."""

    pid_namespace: int
    init_pid: int
    init_start_ticks: int
    """Since the host's boot."""
    is_own_scope: bool
    """A caller in somebody else's pid namespace, the host's mostly, known by its cgroup."""
    cgroup: str
    """Of the memory controller, or of another one where there is none; below the mount, with a slash in front."""
    reads: int
    """Renders of its views since it is known."""

class Numbers(TypedDict):
    """What a container may use of processors, and has used. None: cannot be known here."""

    cpu_quota: float | None
    """In CPUs, the smallest one from its cgroup up."""
    cpu_usage_usec: int | None
    cpu_periods: int | None
    """In which it ran under its quota; and of these, those in which it was used up."""
    cpu_throttled_periods: int | None
    cpu_throttled_usec: int | None

@final
class Engine:
    """All that answers a read, short of FUSE: hand in a caller's pid and a path, get the bytes.

    Thread-safe. The trees it reads (``proc``, ``sys``, ``cgroup``) are values, so that a test points it at a
    recorded host. ``mounts_of`` is the pid of a process whose mount table is the host's. ``boottime_ns`` freezes
    CLOCK_BOOTTIME for such a tree; None (the default) is the real clock. ``max_descriptors`` bounds the descriptors
    kept open; None takes three quarters of RLIMIT_NOFILE. Raises OSError when a tree is not there or has no usable
    proc.
    """

    def __init__(
        self,
        *,
        proc: str = "/proc",
        sys: str = "/sys",
        cgroup: str = "/sys/fs/cgroup",
        mounts_of: str = "self",
        boottime_ns: int | None = None,
        max_descriptors: int | None = None,
    ) -> None: ...
    def configure(
        self,
        *,
        cpus: Literal["quota", "cpuset"] = "quota",
        topology: Literal["container", "host"] = "container",
        swap: bool = True,
        devices: Literal["container", "host"] = "container",
        uptime: Literal["container", "host"] = "container",
        loadavg: bool = True,
        ask: Callable[[int, int, bytes], Mapping[str, Any]] | None = None,
    ) -> None:
        """Replace all settings at once; the next render sees them. Raises ValueError for a word it does not know.

        ``ask`` tells the settings of one container, a value for each of the others' names: by its pid namespace's inode
        number, when its init started (ticks since the host's boot) and the lines of /proc/<pid>/cgroup that it is
        known by, its init's or, for who is a container by its own cgroup, its own. It is asked at once for every
        container that is known, which takes a while where there are many, and for others when they read; again when
        their init's cgroup changes. It may be called in any thread. What it raises, who reads gets.
        """

    def watch_changes(self) -> None:
        """Have the kernel tell of everything that is written to cgroups, so that what does not change need not be read
        anew: where a caller is that comes again. What callers see is the same with it and without. To be called once,
        before anybody reads.

        Raises OSError where that cannot be: ENODEV on kernels that have no such marks for cgroups (6.1; 6.12 has) and
        for recorded trees, EPERM without CAP_SYS_ADMIN, ENOENT where something else is mounted over a hierarchy.
        """

    def settle_known(self) -> None:
        """Have ``ask`` tell the settings of every container that is known, again."""

    def open(self, pid: int, path: str, *, search: bool = True) -> View:
        """The file ``path`` (``proc/meminfo``, ``sys/devices/system/cpu/cpu0/topology/core_id``) as ``pid`` sees
        it.

        The caller's identity is settled here and stays with the result. A caller that cannot be placed (pid 0,
        gone, unreadable) gets the host's file: ``fallback`` of the result says why. Raises FileNotFoundError where
        this caller has no such file, IsADirectoryError for a directory, OSError ELOOP for a link. May scan /proc once
        for a container never seen before, if the kernel cannot translate pids (before Linux 6.11); without ``search``
        that is a BlockingIOError instead.
        """

    def open_blocks(self, pid: int) -> bool:
        """Whether :meth:`open` for this pid would have to search /proc (so: call it off the event loop)."""

    def kind(self, pid: int, path: str) -> Literal["file", "dir", "link"]:
        """What ``path`` is for this caller; links are those between CPUs and nodes. Raises FileNotFoundError."""

    def listdir(self, pid: int, path: str) -> list[str]:
        """Names in a directory of the mount as this caller sees it, sorted (cpu2 before cpu10). Raises
        FileNotFoundError, NotADirectoryError.
        """

    def cpus(self, pid: int) -> list[int]:
        """Host numbers of the CPUs this caller sees, in the order of their visible numbers 0..N-1."""

    def sample(self) -> int:
        """One round of the load sampler (call every 5 s, off the event loop). Returns how many containers are still
        being watched.
        """

    def callers_were_kept(self) -> bool:
        """Whether descriptors of callers were kept since this was last asked: a while later call the next one."""

    def forget_gone_callers(self) -> bool:
        """Close what is kept of callers that have ended meanwhile. Takes up to a millisecond. Whether some were there
        since the last call: if so, call again later."""

    def counters(self) -> dict[str, int]:
        """Counts since start: ``reads``, ``fallback_<reason>`` ..., ``unchanged_callers`` (opens for which nothing was
        read to know whose they are: :meth:`watch_changes`); and gauges ``containers``, ``cgroups``, ``descriptors``.
        """

    def containers(self) -> list[Known]:
        """All that are known, in no order. One that has ended may still be there until the next sweep."""

    def numbers(self, pid: int) -> Numbers | None:
        """Those of the container of ``pid``, read now; None where that is the host, or cannot be told. May search
        /proc, as :meth:`open`.
        """

    def text(self, pid: int, path: str) -> bytes | None:
        """A view as the container of ``pid`` would read it now, counted as nobody's read; None where that would not be
        its own text. May wait for what a container controls, and may search /proc, as :meth:`open`.
        """

    def latencies(self) -> dict[str, tuple[int, list[tuple[int, int]]]]:
        """For each view how long its renders took since the start: all together in nanoseconds, and how many took up
        to each bound (in nanoseconds; 0: the rest) but longer than the one before.
        """

    def fallbacks(self) -> dict[tuple[str, str], int]:
        """How often a container was given the host's file, by file (``proc``, ``sys``: those without a view of their
        own) and reason.
        """

    def absent_controllers(self) -> list[str]:
        """Controllers that some container lacked so far, so that the host's numbers stood in for its usage."""

    @property
    def absent_bits(self) -> int:
        """Changes whenever :meth:`absent_controllers` does, and is cheap to look at."""

    def close(self) -> None:
        """Close every descriptor. Using the engine afterwards raises ValueError."""

@final
class View:
    """One open file of one caller. Thread-safe."""

    @property
    def path(self) -> str: ...
    @property
    def owner(self) -> int:
        """The opener's pid namespace (its inode number); 0 for a caller that could not be placed."""

    @property
    def fallback(self) -> str | None:
        """Why the host's file is served (``"unknown-caller"``, ``"unscopable"`` ...), or None."""

    @property
    def blocking(self) -> bool:
        """Whether the next render may wait for what a container controls (its /dev): call it off the event loop."""

    def render(self) -> bytes:
        """The whole text as of now. Raises OSError when not even the host's file can be read."""
