# cython: language_level=3
"""The directories cpu0..cpuN-1 of /sys/devices/system/cpu, and ``kernel_max`` and ``uevent``, which are the host's.

What the host has below a chosen CPU passes through: plain, world-readable files and directories. Links are two: that to
the CPU's memory node, which nodedirs knows, and ``cpufreq`` to the frequency policy of the CPU, which is a directory
here. Rewritten is what holds CPU numbers: ``topology/*``, ``cache/*/shared_cpu_*`` and ``cpufreq/*_cpus``
(Documentation/ABI/stable/sysfs-devices-system-cpu). This is Python: lscpu and its like read it once, nothing reads
it in a loop.
"""

import errno
import os
import re
import stat


CPU_DIRECTORY = "sys/devices/system/cpu"
_NAMED = ("offline", "online", "possible", "present")
# By ``uevent`` lxcfs' hook tells a whole tree, which it binds as one folder, from single files.
_OF_HOST = ("kernel_max", "uevent")
_OF_HOST_PATHS = tuple(f"{CPU_DIRECTORY}/{name}" for name in _OF_HOST)
_SHARED = re.compile(r"cache/[^/]+/(shared_cpu_(?:map|list))")
_POLICY = re.compile(r"\.\./cpufreq/policy(?:0|[1-9][0-9]*)", re.ASCII)
_RUN = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_MOST = 8192   # CPUs, and nodes, that Linux can be built for
_OF_POLICY = re.compile(r"cpufreq/(?:affected|related|freqdomain)_cpus")


def _missing(path):
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def parse_list(text):
    """``0-2,7`` as [0, 1, 2, 7]. ValueError where it is no list, or one of more than there can be."""
    cpus = []
    for part in text.strip().split(","):
        if part:
            run = _RUN.fullmatch(part)
            if run is None:
                raise ValueError(f"not a list of CPUs: {part[:100]!r}")
            first = int(run[1])
            last = int(run[2] or run[1])
            if last >= _MOST or len(cpus) + last - first >= _MOST:
                raise ValueError(f"more CPUs than there can be: {part!r}")
            cpus.extend(range(first, last + 1))
    return cpus


def format_list(cpus):
    """[0, 1, 2, 7] as ``0-2,7``."""
    runs = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def parse_mask(text):
    """``ff,00000001`` as the CPUs in it. ValueError as with parse_list."""
    digits = text.strip().replace(",", "") or "0"
    if len(digits) > _MOST // 4:
        raise ValueError("more CPUs than there can be")
    bits = int(digits, 16)
    return [cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1]


def format_mask(cpus, like):
    """The kernel's %*pb: groups of 32 bits, as wide as the host's own text ``like``."""
    digits = len(like.strip().replace(",", ""))
    text = format(sum(1 << cpu for cpu in set(cpus)), "x").zfill(digits)[-digits:]
    head = len(text) % 8
    groups = [text[:head]] if head else []
    groups += [text[at : at + 8] for at in range(head, len(text), 8)]
    return ",".join(groups)


class CpuTree:
    """The tree below one ``sys``, for any caller: ``cpus`` are the host numbers of the visible CPUs, in order."""

    def __init__(self, sys):
        self._sys = sys
        self._base = os.path.join(sys, "devices/system/cpu")

    def online(self):
        """The host's online CPUs; [0] where it does not say."""
        try:
            with open(os.path.join(self._base, "online")) as file:
                return parse_list(file.read()) or [0]
        except (OSError, ValueError):
            return [0]

    def host_text(self, path):
        with open(os.path.join(self._sys, path.removeprefix("sys/")), "rb") as file:
            return file.read()

    def _locate(self, cpus, path):
        """(visible number, host number, what follows) of a path at or below cpuN. FileNotFoundError where this
        caller has none.
        """
        name, _, rest = path.removeprefix(CPU_DIRECTORY + "/").partition("/")
        digits = name.removeprefix("cpu")
        if name == digits or not digits.isascii() or not digits.isdigit() or str(int(digits)) != digits:
            raise _missing(path)
        visible = int(digits)
        if visible >= len(cpus):
            raise _missing(path)
        return visible, cpus[visible], rest

    def _host_path(self, host_cpu, rest, path):
        """The host's own path, and its kind. Each part is looked at by itself: a link anywhere is nobody's business."""
        place = os.path.join(self._base, f"cpu{host_cpu}")
        kind = "dir"
        for part in [""] + (rest.split("/") if rest else []):
            if kind != "dir" or part in (".", ".."):
                raise _missing(path)
            place = os.path.join(place, part) if part else place
            try:
                if part == rest == "cpufreq" or (part == "cpufreq" and rest.startswith("cpufreq/")):
                    place = self._policy_of(place)
                mode = os.lstat(place).st_mode
            except OSError:
                raise _missing(path) from None
            if stat.S_ISDIR(mode) and mode & stat.S_IROTH and mode & stat.S_IXOTH:
                kind = "dir"
            elif stat.S_ISREG(mode) and mode & stat.S_IROTH:
                kind = "file"
            else:
                raise _missing(path)
        return place, kind

    def _policy_of(self, place):
        """Where ``cpuN/cpufreq`` leads, if that is to a policy; itself otherwise, as on old kernels."""
        try:
            target = os.readlink(place)
        except OSError:
            return place
        return os.path.join(self._base, target.removeprefix("../")) if _POLICY.fullmatch(target) else place

    def kind(self, cpus, path):
        if path in _OF_HOST_PATHS:
            if self._host_has(path.rpartition("/")[2]):
                return "file"
            raise _missing(path)
        _, host_cpu, rest = self._locate(cpus, path)
        return self._host_path(host_cpu, rest, path)[1]

    def listdir(self, cpus, path):
        if path == CPU_DIRECTORY:
            of_host = [name for name in _OF_HOST if self._host_has(name)]
            return [f"cpu{number}" for number in range(len(cpus))] + sorted([*_NAMED, *of_host])
        _, host_cpu, rest = self._locate(cpus, path)
        place, kind = self._host_path(host_cpu, rest, path)
        if kind != "dir":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        below = f"{rest}/" if rest else ""
        return [name for name in sorted(os.listdir(place)) if self._is_shown(host_cpu, below + name)]

    def _host_has(self, name):
        return os.path.exists(os.path.join(self._base, name))

    def _is_shown(self, host_cpu, rest):
        try:
            self._host_path(host_cpu, rest, rest)
        except FileNotFoundError:
            return False
        return True

    def render(self, cpus, path, *, topology_of_host):
        """The file's bytes. FileNotFoundError where the caller does not have this CPU (any more)."""
        if path in _OF_HOST_PATHS:
            return self.host_text(path)
        visible, host_cpu, rest = self._locate(cpus, path)
        place, kind = self._host_path(host_cpu, rest, path)
        if kind != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        with open(place, "rb") as file:
            text = file.read()
        if _OF_POLICY.fullmatch(rest):
            theirs = set(text.split())
            mine = [number for number, cpu in enumerate(cpus) if str(cpu).encode() in theirs]
            return (" ".join(map(str, mine if topology_of_host else [visible])) + "\n").encode()
        directory, _, name = rest.partition("/")
        shared = _SHARED.fullmatch(rest)
        if directory != "topology" and not shared:
            return text
        name = shared.group(1) if shared else name
        return rewrite(name, text.decode("ascii", "replace"), visible, cpus, topology_of_host).encode()


def rewrite(name, text, visible, cpus, topology_of_host):
    """A file of ``topology``, or one that says who shares a cache, in visible numbers.

    Each visible CPU is a package of its own with one core, unless the topology is to be the host's: then ids stay,
    and of the siblings those are left that the container has.
    """
    if name.endswith("_id"):
        if topology_of_host or text.strip() == "-1":
            return text
        return f"{visible if name == 'physical_package_id' else 0}\n"
    if not name.endswith(("_list", "_map", "_cpus", "_siblings")):
        return text
    is_list = name.endswith("_list")
    members = [visible]
    if topology_of_host:
        try:
            theirs = set(parse_list(text) if is_list else parse_mask(text))
        except ValueError:
            theirs = {cpus[visible]}   # nobody knows of others
        members = [number for number, cpu in enumerate(cpus) if cpu in theirs]
    return (format_list(members) if is_list else format_mask(members, text)) + "\n"
