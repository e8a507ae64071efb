"""CPU texts: lists and masks as the kernel prints them, and an x86 /proc/cpuinfo for a modelled host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hosts.model import Host


def cpu_list(cpus: Iterable[int]) -> str:
    """``0-3,8``, as the kernel's %*pbl; empty for no CPU."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def cpu_mask(cpus: Iterable[int], width: int) -> str:
    """A bitmap of ``width`` CPUs as the kernel's %*pb: hex in groups of 32 bits, the first only as wide as needed."""
    bits = sum(1 << cpu for cpu in cpus)
    groups = []
    while width > 0:
        groups.append(f"{bits & 0xFFFFFFFF:0{-(-min(width, 32) // 4)}x}")
        bits >>= 32
        width -= 32
    return ",".join(reversed(groups))


def x86_stanza(cpu: int, *, package: int, siblings: int, core: int, cores: int, apicid: int) -> str:
    """One CPU of x86's /proc/cpuinfo, as Linux 6 prints it (flags shortened)."""
    return (
        f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\n"
        f"model name\t: Intel(R) Xeon(R) Platinum 8358 CPU @ 2.60GHz\nstepping\t: 6\nmicrocode\t: 0xd0003b9\n"
        f"cpu MHz\t\t: {2600 + cpu}.000\ncache size\t: 49152 KB\nphysical id\t: {package}\nsiblings\t: {siblings}\n"
        f"core id\t\t: {core}\ncpu cores\t: {cores}\napicid\t\t: {apicid}\ninitial apicid\t: {apicid}\nfpu\t\t: yes\n"
        f"fpu_exception\t: yes\ncpuid level\t: 27\nwp\t\t: yes\nflags\t\t: fpu vme de pse tsc msr pae mce cx8 apic\n"
        f"vmx flags\t: vnmi preemption_timer\nbugs\t\t: spectre_v1 spectre_v2\nbogomips\t: 5200.00\n"
        f"clflush size\t: 64\n"
        f"cache_alignment\t: 64\naddress sizes\t: 46 bits physical, 57 bits virtual\npower management:\n\n"
    )


def cpuinfo_x86(host: Host) -> str:
    """The online CPUs of a host, two threads to a core."""
    packages = [host.package_of(cpu) for cpu in host.online]
    return "".join(
        x86_stanza(
            cpu,
            package=package,
            siblings=packages.count(package),
            core=cpu // 2,
            cores=(packages.count(package) + 1) // 2,
            apicid=cpu * 2,
        )
        for cpu, package in zip(host.online, packages, strict=True)
    )
