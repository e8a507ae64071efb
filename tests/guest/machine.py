"""What a guest has: processors, memory, disks, kernel and cgroup layout; and what that is for QEMU."""

import functools
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.guest.folders import Folder
from tests.guest.kernels import Kernel

Layout = Literal["v2", "v1", "hybrid"]
LAYOUTS: tuple[Layout, ...] = ("v2", "v1", "hybrid")
STORAGE_MIB = 8192
"""The disk under the guest's /var/tmp: sparse, so what is not written takes no space."""


@dataclass(frozen=True)
class Machine:
    """What a guest has."""

    kernel: str = "6.12"
    """A series of kernels."""
    layout: Layout = "v2"
    cpus: int = 2
    memory_mib: int = 2048
    swap_mib: int = 0
    disks_mib: tuple[int, ...] = ()
    """Disks that nothing is on, beside those for swap and for /var/tmp."""
    numa_nodes: int = 1
    systemd: bool = False
    """Whether it is PID 1."""


@functools.cache
def is_virtualised() -> bool:
    """Whether a guest's instructions run on the processor; else QEMU emulates every one, an order of magnitude slower.

    Some machines have a /dev/kvm without the hardware for it: a guest's kernel hangs there.
    """
    flags = re.search(r"^flags\s*:.*\b(?:vmx|svm)\b", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE)
    return flags is not None and os.access("/dev/kvm", os.R_OK | os.W_OK)


def command_line(
    machine: Machine,
    kernel: Kernel,
    initramfs: Path,
    folders: Sequence[Folder],
    images: Mapping[str, Path],
    console: Path,
    output: str,
    for_init: Mapping[str, str],
) -> list[str]:
    """QEMU's; ``images`` are files for disks by serial number, ``output`` is the character device for the job."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise FileNotFoundError("no qemu-system-x86_64: ./dev test installs the package qemu-system-x86")
    arguments = [program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    if is_virtualised():
        arguments += ["-accel", "kvm", "-cpu", "host"]
    else:
        # Page tables of five levels make every miss of the TLB slower, and the guest has no use for them.
        arguments += ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]
    arguments += ["-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M", *_memory(machine)]
    words = ["console=ttyS0", "quiet", "panic=-1", "oops=panic", "random.trust_cpu=1", "mitigations=off"]
    # The kernel has it, but the root is this machine's, where it may not be installed: engines would miss its tools.
    words.append("apparmor=0")
    if not is_virtualised():
        # QEMU keeps what it has translated by address: with the same ones in each process, starting a program takes a
        # third of the time.
        words.append("norandmaps")
    words += ["nokaslr", "tsc=reliable", *(f"guest_{name}={value}" for name, value in for_init.items())]
    arguments += ["-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", " ".join(words)]
    arguments += ["-serial", f"file:{console}", "-device", "virtio-serial-pci"]
    arguments += ["-chardev", f"{output},id=job", "-device", "virtconsole,chardev=job"]
    for folder in folders:
        arguments += ["-chardev", f"socket,id={folder.tag},path={folder.socket}"]
        arguments += ["-device", f"vhost-user-fs-pci,queue-size=1024,chardev={folder.tag},tag={folder.tag}"]
    for serial, image in images.items():
        arguments += ["-drive", f"file={image},if=none,id={serial},format=raw,cache=unsafe,discard=unmap"]
        arguments += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
    return arguments


def _memory(machine: Machine) -> Iterator[str]:
    """Memory that the programs behind shared folders see as well, in as many nodes as wanted."""
    nodes = machine.numa_nodes
    yield from ("-machine", "q35,memory-backend=node0" if nodes == 1 else "q35")
    for node in range(nodes):
        size = f"{machine.memory_mib // nodes}M"
        yield from ("-object", f"memory-backend-memfd,id=node{node},size={size},share=on")
        if nodes > 1:
            first, after = (number * machine.cpus // nodes for number in (node, node + 1))
            yield from ("-numa", f"node,nodeid={node},memdev=node{node},cpus={first}-{after - 1}")
