# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The views: which file shows what, what it needs to know, and who writes it. An explicit table; nothing registers
itself.
"""

from procview._fast.cpuinfo cimport render_cpuinfo
from procview._fast.cputree cimport render_offline, render_online
from procview._fast.diskstats cimport render_diskstats
from procview._fast.loadavg cimport render_loadavg
from procview._fast.meminfo cimport render_meminfo
from procview._fast.partitions cimport render_partitions
from procview._fast.pressure cimport render_pressure
from procview._fast.stat cimport render_stat
from procview._fast.swaps cimport render_swaps
from procview._fast.uptime cimport render_uptime
from procview._fast.vmstat cimport render_vmstat
from procview._fast.snapshot cimport (
    NEED_CPUINFO,
    NEED_CPUS,
    NEED_CPUTIME,
    NEED_DISKS,
    NEED_DISK_COUNTS,
    NEED_EVENTS,
    NEED_HUGE_PAGES,
    NEED_LOAD,
    NEED_MEMORY,
    NEED_PRESSURE,
    NEED_SWAP,
    NEED_TASKS,
    NEED_UPTIME,
)

from procview._fast.cpudirs import CPU_DIRECTORY


cdef ViewSpec specs[VIEWS]
cdef int spec_count = 0
INDEX = {}


cdef const ViewSpec *view_spec(int index) noexcept nogil:
    return &specs[index]


cdef void register(str path, int needs, int which, Render render):
    """One more view; the order is that of listings."""
    global spec_count
    root, _, rest = path.partition("/")
    encoded = rest.encode()
    _keep_alive.append(encoded)
    specs[spec_count].number = spec_count
    specs[spec_count].host_path = encoded
    specs[spec_count].of_sys = root == "sys"
    specs[spec_count].needs = needs
    specs[spec_count].which = which
    specs[spec_count].render = render
    INDEX[path] = spec_count
    spec_count += 1


_keep_alive = []
register("proc/cpuinfo", NEED_CPUS | NEED_CPUINFO, 0, render_cpuinfo)
register("proc/diskstats", NEED_DISKS | NEED_DISK_COUNTS, 0, render_diskstats)
register("proc/loadavg", NEED_LOAD, 0, render_loadavg)
register("proc/meminfo", NEED_MEMORY | NEED_SWAP | NEED_HUGE_PAGES, 0, render_meminfo)
register("proc/partitions", NEED_DISKS, 0, render_partitions)
register("proc/pressure/cpu", NEED_PRESSURE, 0, render_pressure)
register("proc/pressure/io", NEED_PRESSURE, 2, render_pressure)
register("proc/pressure/memory", NEED_PRESSURE, 1, render_pressure)
register("proc/stat", NEED_CPUS | NEED_CPUTIME | NEED_TASKS, 0, render_stat)
register("proc/swaps", NEED_SWAP, 0, render_swaps)
register("proc/uptime", NEED_UPTIME | NEED_CPUS | NEED_CPUTIME, 0, render_uptime)
register("proc/vmstat", NEED_MEMORY | NEED_EVENTS, 0, render_vmstat)
register(f"{CPU_DIRECTORY}/offline", 0, 0, render_offline)
register(f"{CPU_DIRECTORY}/online", NEED_CPUS, 0, render_online)
register(f"{CPU_DIRECTORY}/possible", NEED_CPUS, 0, render_online)
register(f"{CPU_DIRECTORY}/present", NEED_CPUS, 0, render_online)

PATHS = tuple(INDEX)
PROC_VIEWS = tuple(path.removeprefix("proc/") for path in INDEX if path.startswith("proc/"))


def _directories():
    """Each directory that is the same for every caller, with its names; the CPU tree lists its own."""
    found = {"": ["proc", "sys"], "proc": [], CPU_DIRECTORY: []}
    for path in INDEX:
        parent, _, name = path.rpartition("/")
        while parent:
            names = found.setdefault(parent, [])
            if name not in names:
                names.append(name)
            parent, _, name = parent.rpartition("/")
    return found


DIRECTORIES = _directories()
