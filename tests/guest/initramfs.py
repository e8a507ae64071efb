"""What a guest's kernel starts with: init.c, compiled, and the modules that it needs to reach its root."""

import hashlib
import lzma
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.guest.kernels import CACHE, Kernel

_SOURCE = Path(__file__).with_name("init.c")
_MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "virtiofs", "overlay")


def initramfs(kernel: Kernel) -> bytes:
    """An archive for QEMU's -initrd; uncompressed, since unpacking takes the guest longer than reading does."""
    modules = [(name.split(".")[0] + ".ko", content) for name, content in _modules(kernel)]
    order = "".join(f"{name}\n" for name, _ in modules).encode()
    archive = bytearray()
    for folder in ("dev", "host", "modules", "proc", "root", "sys", "written"):
        archive += _entry(folder, stat.S_IFDIR | 0o755)
    # The kernel opens it for its init, before there is a devtmpfs: without it the init cannot say a word.
    archive += _entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive += _entry("init", stat.S_IFREG | 0o755, _init().read_bytes())
    archive += _entry("modules/order", stat.S_IFREG | 0o644, order)
    for name, content in modules:
        archive += _entry(f"modules/{name}", stat.S_IFREG | 0o644, content)
    return bytes(archive + _entry("TRAILER!!!", 0))


def _init() -> Path:
    """The compiled init; compiled again when its source has changed."""
    program = CACHE / f"init-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        for old in CACHE.glob("init-*"):
            old.unlink()
        new = program.with_suffix(".new")
        options = ["-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *options, "-o", str(new), str(_SOURCE)], stdin=subprocess.DEVNULL, check=True)
        new.rename(program)
    return program


def _modules(kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the modules that are not built in, each after those that it needs."""
    needs: dict[str, list[str]] = {}
    for line in (kernel.modules / "modules.dep").read_text(encoding="ascii").splitlines():
        module, _, needed = line.partition(": ")
        needs[module.rstrip(":")] = needed.split()[::-1]
    paths = {_name(path): path for path in needs}
    built_in = {_name(path) for path in (kernel.modules / "modules.builtin").read_text(encoding="ascii").split()}
    wanted = [paths[name] for name in _MODULES if name not in built_in]
    for path in dict.fromkeys(path for module in wanted for path in (*needs[module], module)):
        yield Path(path).name, _unpacked(kernel.modules / path)


def _name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def _unpacked(module: Path) -> bytes:
    if module.suffix == ".xz":
        return lzma.decompress(module.read_bytes())
    if module.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", str(module)], capture_output=True, check=True).stdout
    return module.read_bytes()


def _entry(path: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One file in the kernel's format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    name = path.encode() + b"\0"
    # inode, mode, owner, group, links, time, size; device that it is on; device that it is; name's length, checksum
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
