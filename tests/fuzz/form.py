"""What holds for a view whatever it was made from: its lines have their form, and its numbers can be true together."""

import re
from collections.abc import Callable

_NEGATIVE = re.compile(rb"(?<![\w.:()/+-])-\d")
_PROCESSOR = re.compile(rb"^processor\s*:?\s*(\d+)", re.MULTILINE)
_UNSHOWABLE = 2**64
_MEMINFO_LINE = re.compile(rb"([^:]+): +(\d+)( kB)?")
_OURS = ("MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree", "Cached", "Committed_AS", "AnonPages", "Slab")
_MOST_KB = 3 * 2**54
"""In meminfo: Committed_AS is the sum of three."""


class MalformedError(AssertionError):
    """What is shown cannot be."""


def _ensure(holds: bool, what: str) -> None:
    if not holds:
        raise MalformedError(what)


def _meminfo(text: bytes, _: bytes) -> None:
    lines = [(line, _MEMINFO_LINE.fullmatch(line)) for line in text.split(b"\n")[:-1]]
    wrong = [line for line, match in lines if match is None]
    _ensure(not wrong, f"no lines of meminfo: {wrong!r}")
    values = _numbers_of_meminfo(text)
    # Of huge pages the host's own lines stay where nobody counts them.
    _ensure(
        values.get("HugePages_Free", 0) <= values.get("HugePages_Total", 0), "more huge pages are free than there are"
    )


def _numbers_of_meminfo(text: bytes) -> dict[str, int]:
    """Those of the first line of each name that this view puts its own number in."""
    values: dict[str, int] = {}
    for match in map(_MEMINFO_LINE.fullmatch, text.split(b"\n")):
        if match is not None:
            values.setdefault(match[1].decode("latin-1"), int(match[2][:30]))
    for part, whole in (("MemFree", "MemTotal"), ("MemAvailable", "MemTotal"), ("SwapFree", "SwapTotal")):
        if part in values and whole in values:
            _ensure(values[part] <= values[whole], f"{part} {values[part]} is more than {whole} {values[whole]}")
    for name in _OURS:
        _ensure(values.get(name, 0) <= _MOST_KB, f"{name} has wrapped")
    return values


def _swaps(text: bytes, _: bytes) -> None:
    header, *rest = text.splitlines()
    _ensure(header.split() == [b"Filename", b"Type", b"Size", b"Used", b"Priority"], f"header of swaps: {header!r}")
    for line in rest:
        _, _, size, used, _ = line.split()
        _ensure(int(used) <= int(size), f"more is used than there is: {line!r}")


def _stat(text: bytes, _: bytes) -> None:
    lines = [line.split() for line in text.splitlines()]
    cpus = [line for line in lines if line[0].startswith(b"cpu")]
    _ensure(
        [line[0] for line in cpus] == [b"cpu", *(b"cpu%d" % number for number in range(len(cpus) - 1))], "cpu lines"
    )
    _ensure(all(len(line) == 11 for line in cpus), "columns of cpu lines")
    for column in range(1, 11):
        total = sum(int(line[column]) for line in cpus[1:]) % _UNSHOWABLE
        _ensure(int(cpus[0][column]) == total, f"column {column} of cpu is not the sum")
    names = [line[0] for line in lines if line not in cpus]
    _ensure(names == [b"intr", b"ctxt", b"btime", b"processes", b"procs_running", b"procs_blocked", b"softirq"],
            f"lines of stat: {names}")  # fmt: skip


def _of_pattern(pattern: bytes) -> Callable[[bytes, bytes], None]:
    def check(text: bytes, _: bytes) -> None:
        _ensure(re.fullmatch(pattern, text) is not None, f"not of the form {pattern!r}: {text[:300]!r}")

    return check


def _cpuinfo(text: bytes, whole: bytes) -> None:
    numbers = [int(number) for number in _PROCESSOR.findall(text)]
    _ensure(numbers == list(range(len(numbers))), f"processors {numbers}")
    _ensure(bool(numbers) or not _PROCESSOR.search(whole), "no processor")


def _diskstats(text: bytes, _: bytes) -> None:
    columns = {len(line.split()) for line in text.splitlines()}
    _ensure(columns <= {14} or columns <= {18} or columns <= {20}, f"columns of diskstats: {columns}")


def _partitions(text: bytes, _: bytes) -> None:
    _ensure(re.fullmatch(rb"major minor  #blocks  name\n\n(?: *\d+ +\d+ +\d+ \S+\n)*", text) is not None, "partitions")


def _vmstat(text: bytes, whole: bytes) -> None:
    names = [[line.split(b" ")[0] for line in of.splitlines()] for of in (text, whole)]
    _ensure(names[0] == names[1], "other lines than the host's")
    _ensure(re.fullmatch(rb"(?:\w+ \d+\n)*", text) is not None, "lines of vmstat")


_LIST = rb"(?:\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)?\n"

FORMS: dict[str, Callable[[bytes, bytes], None]] = {
    "proc/meminfo": _meminfo,
    "proc/swaps": _swaps,
    "proc/stat": _stat,
    "proc/uptime": _of_pattern(rb"\d+\.\d\d \d+\.\d\d\n"),
    "proc/loadavg": _of_pattern(rb"\d+\.\d\d \d+\.\d\d \d+\.\d\d \d+/\d+ \d+\n"),
    "proc/cpuinfo": _cpuinfo,
    "proc/diskstats": _diskstats,
    "proc/partitions": _partitions,
    "proc/vmstat": _vmstat,
    "sys/devices/system/cpu/online": _of_pattern(_LIST),
    "sys/devices/system/cpu/offline": _of_pattern(_LIST),
    "sys/devices/system/cpu/possible": _of_pattern(_LIST),
    "sys/devices/system/cpu/present": _of_pattern(_LIST),
}


def check(path: str, text: bytes, whole: bytes, *, template: bool = False) -> None:
    """``whole`` is the same view of the same caller when nothing was broken. ``template``: what was broken is the
    host's own file that this view is written into; its lines pass through unless the view has numbers for them.
    """
    try:
        if template:
            if path == "proc/meminfo":
                _numbers_of_meminfo(text)
            return
        _check_bytes(path, text, whole)
        if path in FORMS:
            FORMS[path](text, whole)
    except MalformedError as error:
        raise MalformedError(f"{path}: {error}\n{text.decode('latin-1')[:3000]}") from error
    except (ValueError, IndexError) as error:
        raise MalformedError(f"{path}: {error!r}\n{text.decode('latin-1')[:3000]}") from error


def _check_bytes(path: str, text: bytes, whole: bytes) -> None:
    _ensure(text.endswith(b"\n") or not text or not whole.endswith(b"\n"), "the last line is cut")
    if path != "proc/swaps":  # whose priorities are negative
        _ensure(_NEGATIVE.search(text) is None, "a number below zero")
    _ensure(b"\0" not in text, "a NUL byte")
    numbers = re.findall(rb"(?<![\w.])\d+(?![\w.])", text)
    _ensure(all(int(number[:30]) < _UNSHOWABLE for number in numbers), "more than 64 bits")
