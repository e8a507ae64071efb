"""What libfuse says about itself. Loads the library, mounts nothing."""

import ctypes


def libfuse_version() -> str | None:
    """The version of the libfuse3 that the loader finds, e.g. "3.14.0"; None if there is none."""
    for name in ("libfuse3.so.3", "libfuse3.so.4"):
        try:
            function = ctypes.CDLL(name).fuse_pkgversion
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        version = function()
        return version.decode(errors="replace") if isinstance(version, bytes) else None
    return None
