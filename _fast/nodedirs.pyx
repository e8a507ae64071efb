# cython: language_level=3
"""/sys/devices/system/node: the container's memory nodes, with its CPUs (Documentation/ABI/stable/sysfs-devices-node).

A container's nodes are those that hold its visible CPUs and those that it may have memory of (cpuset.mems), numbered
from 0 in the host's order; CPUs have the numbers that they have everywhere. What a node shows:

- ``cpulist``, ``cpumap``, ``cpuN`` (links), ``distance``: the host's, in these numbers.
- ``meminfo``: MemTotal is the node's part of the container's, by the nodes' sizes, but no less than what the container
  has of the node, and no more than the node has: so the sum is /proc/meminfo's MemTotal, unless the nodes are
  smaller than the limit. MemFree is what of that is left, and its sum is /proc/meminfo's. Where memory.numa_stat
  counts by node (v2), lines are that; else /proc/meminfo's, by the node's part of what is counted (v1) or by its
  size. A line that /proc/meminfo knows nothing of is 0. With one node all lines are /proc/meminfo's.
- ``numastat``: 0, as no cgroup counts it and the host's numbers are not the container's business.

What else the host has there (``vmstat``, blocks of memory, huge pages by node, ``compact``) is not shown. This is
Python: numactl, lscpu and their like read it once, nothing reads it in a loop.
"""

import errno
import os
import re

from procview._fast.cpudirs import format_list, format_mask, parse_list


NODE_DIRECTORY = "sys/devices/system/node"
_TOP_FILES = ("has_cpu", "has_generic_initiator", "has_memory", "has_normal_memory", "online", "possible")
_NODE_FILES = ("cpulist", "cpumap", "distance", "meminfo", "numastat")
_NUMBERED = re.compile(r"(node|cpu)(0|[1-9][0-9]{0,7})", re.ASCII)
# Numbers of more digits than 64 bits have are none of the kernel's.
_LINE = re.compile(r"Node \d+ ([^:\n]+):( *)(\d{1,20})((?: kB)?)(?!\d)", re.ASCII)
_OF_NODE = re.compile(r"N(\d{1,9})=(\d{1,20})", re.ASCII)

# Line -> line of /proc/meminfo, keys of v2's memory.numa_stat that it is the sum of, kind of v1's
_LINES = {
    "SwapCached": ("SwapCached", ("swapcached",), "anon"),
    "Active(anon)": ("Active(anon)", ("active_anon",), "anon"),
    "Inactive(anon)": ("Inactive(anon)", ("inactive_anon",), "anon"),
    "Active(file)": ("Active(file)", ("active_file",), "file"),
    "Inactive(file)": ("Inactive(file)", ("inactive_file",), "file"),
    "Unevictable": ("Unevictable", ("unevictable",), "unevictable"),
    "Dirty": ("Dirty", ("file_dirty",), "file"),
    "Writeback": ("Writeback", ("file_writeback",), "file"),
    "FilePages": ("Cached", ("file",), "file"),
    "Mapped": ("Mapped", ("file_mapped",), "file"),
    "AnonPages": ("AnonPages", ("anon",), "anon"),
    "Shmem": ("Shmem", ("shmem",), "anon"),
    "KernelStack": ("KernelStack", ("kernel_stack",), "total"),
    "PageTables": ("PageTables", ("pagetables",), "total"),
    "SecPageTables": ("SecPageTables", ("sec_pagetables",), "total"),
    "KReclaimable": ("KReclaimable", ("slab_reclaimable",), "total"),
    "Slab": ("Slab", ("slab_reclaimable", "slab_unreclaimable"), "total"),
    "SReclaimable": ("SReclaimable", ("slab_reclaimable",), "total"),
    "SUnreclaim": ("SUnreclaim", ("slab_unreclaimable",), "total"),
    "AnonHugePages": ("AnonHugePages", ("anon_thp",), "anon"),
    "ShmemHugePages": ("ShmemHugePages", ("shmem_thp",), "anon"),
    "FileHugePages": ("FileHugePages", ("file_thp",), "file"),
}
_USED_KEYS = (
    "anon", "file", "kernel_stack", "pagetables", "sec_pagetables", "slab_reclaimable", "slab_unreclaimable"
)  # what is counted once in one of them


class Place:
    """What of the host's CPUs and nodes a container has. ``memory`` are the nodes that it may have memory of."""

    __slots__ = ("cpus", "memory", "nodes")

    def __init__(self, cpus, nodes, memory):
        self.cpus = cpus        # host numbers, in the order of the visible ones
        self.nodes = nodes      # the same
        self.memory = memory    # a set of host numbers


def _missing(path):
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def share(amount, rooms):
    """``amount`` in whole parts, in proportion to ``rooms`` and none above its room; what is too much goes nowhere."""
    whole = sum(rooms)
    if amount >= whole:
        return list(rooms)
    parts = [amount * room // whole for room in rooms]
    left = amount - sum(parts)
    for i, room in enumerate(rooms):
        more = min(left, room - parts[i], 1)
        parts[i] += more
        left -= more
    return parts


def spread(amount, weights):
    """``amount`` in whole parts, in proportion to ``weights``; evenly where they are all 0."""
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    parts = [amount * weight // whole for weight in weights]
    for i in range(amount - sum(parts)):
        parts[i % len(parts)] += 1
    return parts


def parse_numa_stat(text, v1, page_bytes):
    """Key -> node -> bytes. v1 counts pages, ``hierarchical_`` with all cgroups below; v2 bytes."""
    found = {}
    for line in text.splitlines():
        words = line.replace("=", " ", 1).split() if v1 else line.split()
        if not words:
            continue
        name = words.pop(0)
        if v1:
            if not name.startswith("hierarchical_"):
                continue
            name = name.removeprefix("hierarchical_")
        by_node = {}
        for word in words:
            of_node = _OF_NODE.fullmatch(word)
            if of_node is not None:
                by_node[int(of_node[1])] = int(of_node[2]) * (page_bytes if v1 else 1)
        found[name] = by_node
    return found


class NodeTree:
    """The tree below one ``sys``, for any caller; ``place`` None is the host's own."""

    def __init__(self, sys):
        self._sys = sys
        self._base = os.path.join(sys, "devices/system/node")
        self.is_there = os.path.isdir(self._base)

    def _text(self, name):
        """A file of the host below the tree. FileNotFoundError where there is none."""
        with open(os.path.join(self._base, name), encoding="ascii", errors="replace") as file:
            return file.read()

    def _list(self, name):
        """A list of CPUs or nodes; None where the host does not say."""
        try:
            return parse_list(self._text(name))
        except (OSError, ValueError):
            return None

    def online(self):
        return self._list("online") or []

    def place(self, cpus, mems):
        """Of a container with the host's ``cpus``; ``mems`` None: no cpuset says which nodes, so it may have all."""
        online = self.online()
        has_memory = self._list("has_memory")
        memory = set(online if has_memory is None else has_memory)
        if mems is not None and memory.intersection(mems):
            memory.intersection_update(mems)
        mine = set(cpus)
        nodes = [node for node in online if node in memory or mine.intersection(self._cpus_of(node))]
        return Place(cpus, nodes, memory)

    def _cpus_of(self, node):
        return self._list(f"node{node}/cpulist") or []

    def _visible_cpus(self, place, node):
        theirs = set(self._cpus_of(node))
        return [number for number, cpu in enumerate(place.cpus) if cpu in theirs]

    def node_of_cpu(self, place, number):
        """The visible number of the node that the visible CPU ``number`` is in; None where the host has none."""
        if number < len(place.cpus):
            for visible, node in enumerate(place.nodes):
                if place.cpus[number] in self._cpus_of(node):
                    return visible
        return None

    def _locate(self, place, path):
        """(visible number, host number, what follows) of a path at or below nodeN."""
        name, _, rest = path.removeprefix(NODE_DIRECTORY + "/").partition("/")
        numbered = _NUMBERED.fullmatch(name)
        if numbered is None or numbered[1] != "node":
            raise _missing(path)
        number = int(numbered[2])
        if place is None:
            if number not in self.online():
                raise _missing(path)
            return number, number, rest
        if number >= len(place.nodes):
            raise _missing(path)
        return number, place.nodes[number], rest

    def _has(self, name):
        return os.path.isfile(os.path.join(self._base, name))

    def kind(self, place, path):
        if not self.is_there:
            raise _missing(path)
        if path == NODE_DIRECTORY:
            return "dir"
        name = path.removeprefix(NODE_DIRECTORY + "/")
        if name in _TOP_FILES and self._has(name):
            return "file"
        _, node, rest = self._locate(place, path)
        if not rest:
            return "dir"
        if rest in _NODE_FILES and self._has(f"node{node}/{rest}"):
            return "file"
        numbered = _NUMBERED.fullmatch(rest)
        if numbered is not None and numbered[1] == "cpu" and int(numbered[2]) in self._numbers(place, node):
            return "link"
        raise _missing(path)

    def _numbers(self, place, node):
        return self._cpus_of(node) if place is None else self._visible_cpus(place, node)

    def listdir(self, place, path):
        if self.kind(place, path) != "dir":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if path == NODE_DIRECTORY:
            numbers = self.online() if place is None else range(len(place.nodes))
            return [f"node{number}" for number in numbers] + [name for name in _TOP_FILES if self._has(name)]
        _, node, _ = self._locate(place, path)
        links = [f"cpu{number}" for number in self._numbers(place, node)]
        return links + [name for name in _NODE_FILES if self._has(f"node{node}/{name}")]

    def render(self, place, path, *, numbers):
        """The file's bytes. ``numbers()`` is what there is to know of the container's memory: the texts of its
        /proc/meminfo (None: it is the host's) and its memory.numa_stat, whether that is v1's, and the size of a page.
        """
        if self.kind(place, path) != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        name = path.removeprefix(NODE_DIRECTORY + "/")
        if place is None:
            return self._text(name).encode()
        if name in _TOP_FILES:
            return self._top_file(place, name).encode()
        number, node, name = self._locate(place, path)
        text = self._text(f"node{node}/{name}")
        if name == "cpulist":
            text = format_list(self._visible_cpus(place, node)) + "\n"
        elif name == "cpumap":
            text = format_mask(self._visible_cpus(place, node), text) + "\n"
        elif name == "distance":
            text = self._distance(place, text)
        elif name == "numastat":
            text = "".join(f"{line.split()[0]} 0\n" for line in text.splitlines() if line.strip())
        else:
            text = self._meminfo(place, number, *numbers())
        return text.encode()

    def _top_file(self, place, name):
        if name in ("online", "possible"):
            return format_list(range(len(place.nodes))) + "\n"
        if name == "has_cpu":
            chosen = [number for number, node in enumerate(place.nodes) if self._visible_cpus(place, node)]
        else:
            theirs = set(self._list(name) or [])
            if name != "has_generic_initiator":
                theirs &= place.memory
            chosen = [number for number, node in enumerate(place.nodes) if node in theirs]
        return format_list(chosen) + "\n"

    def _distance(self, place, text):
        """A row has a column for each node that is online, whatever its number."""
        columns = dict(zip(self.online(), text.split()))
        return " ".join(columns[node] for node in place.nodes if node in columns) + "\n"

    def _host_lines(self, node):
        return {match[1]: int(match[3]) for match in _LINE.finditer(self._text(f"node{node}/meminfo"))}

    def _meminfo(self, place, number, meminfo, numa_stat, v1, page_bytes):
        host = self._text(f"node{place.nodes[number]}/meminfo")
        if meminfo is None:
            return re.sub(r"^Node \d+ ", f"Node {number} ", host, flags=re.MULTILINE)
        hosts = [self._host_lines(node) for node in place.nodes]
        shown = node_lines(place, hosts, meminfo, parse_numa_stat(numa_stat, v1, page_bytes), v1)[number]

        def rewrite(match):
            name, blanks, digits, unit = match.groups()
            width = 8 if unit else 5   # as the kernel's %8lu and %5u; its blanks before that stay
            before = len(blanks) - max(0, width - len(digits))
            return f"Node {number} {name}:{' ' * max(0, before)}{shown.get(name, 0):>{width}}{unit}"

        return _LINE.sub(rewrite, host)


def node_lines(place, hosts, meminfo, numa, v1):
    """For each node of ``place`` its lines: kB, or pages of HugePages_*. ``hosts`` are the host's own lines of them."""
    whole = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        word = rest.split()[:1]
        if word and word[0].isdecimal() and len(word[0]) <= 20:
            whole[name] = int(word[0])
    has_memory = [node in place.memory for node in place.nodes]
    sizes = [lines.get("MemTotal", 0) if has else 0 for lines, has in zip(hosts, has_memory)]
    counted = {key: [by_node.get(node, 0) for node in place.nodes] for key, by_node in numa.items()}
    if sum(has_memory) < 2:
        counted = {}   # so that it is /proc/meminfo to the last kB, though read at another moment
    totals, frees = totals_and_frees(whole.get("MemTotal", 0), whole.get("MemFree", 0), sizes, used(counted, v1, sizes))
    shown = [
        {"MemTotal": total, "MemFree": free, "MemUsed": total - free} for total, free in zip(totals, frees)
    ]
    for name, (line, keys, kind) in _LINES.items():
        if counted and not v1 and all(key in counted for key in keys):
            values = [sum(bytes_) >> 10 for bytes_ in zip(*(counted[key] for key in keys))]
        else:
            values = spread(whole.get(line, 0), counted.get(kind) or totals)
        for lines, value, total in zip(shown, values, totals):
            lines[name] = min(value, total)
    for lines in shown:
        for name in ("Active", "Inactive"):
            lines[name] = min(lines[f"{name}(anon)"] + lines[f"{name}(file)"], lines["MemTotal"])
    for name in ("HugePages_Total", "HugePages_Free"):
        pages = share(whole.get(name, 0), [lines.get(name, 0) if has else 0 for lines, has in zip(hosts, has_memory)])
        for lines, value in zip(shown, pages):
            lines[name] = value
    return shown


def used(counted, v1, sizes):
    """kB of each node that the container is known to have; no more than there are."""
    if v1:
        by_node = counted.get("total", [0] * len(sizes))
    else:
        by_node = [sum(bytes_) for bytes_ in zip(*(counted[key] for key in _USED_KEYS if key in counted))]
        by_node = by_node or [0] * len(sizes)
    return [min(bytes_ >> 10, size) for bytes_, size in zip(by_node, sizes)]


def totals_and_frees(total, free, sizes, taken):
    """MemTotal and MemFree of each node, from those of the container, all in kB. See the module's docstring."""
    totals = share(total, sizes)
    total = sum(totals)
    taken = share(min(sum(taken), max(0, total - free)), taken) if free < total else [0] * len(sizes)
    # Room is taken from those that have some for those that have less than is taken of them.
    raised = [max(mine, theirs) for mine, theirs in zip(totals, taken)]
    rooms = [mine - theirs for mine, theirs in zip(raised, taken)]
    lowered = share(sum(raised) - total, rooms)
    totals = [mine - less for mine, less in zip(raised, lowered)]
    rooms = [mine - theirs for mine, theirs in zip(totals, taken)]
    frees = share(min(free, total), rooms)
    return totals, frees
