"""The block devices that a container can name. See ``_fast/devices.pyx``."""

from libc.stdint cimport uint64_t

from procview._fast.container cimport Devices
from procview._fast.host cimport Host
from procview._fast.text cimport Text


cdef void find_devices(Host *host, int init, Devices *into, Text *mountinfo, Text *scratch) noexcept nogil
cdef bint name_of_device(
    const Host *host, unsigned int major, unsigned int minor, char *name, size_t size
) noexcept nogil
cdef bint stands_on_others(Host *host, unsigned int major, unsigned int minor) noexcept nogil
cdef uint64_t size_of_device(
    const Host *host, unsigned int major, unsigned int minor, Text *scratch
) noexcept nogil
