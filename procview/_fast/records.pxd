"""What of a container outlives the daemon. See ``_fast/records.pyx``."""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from procview._fast.container cimport Container
from procview._fast.state cimport Shared


cdef struct ContainerRecord:
    uint32_t is_one               # written last
    int32_t init
    uint64_t pidns
    uint64_t init_start_ticks
    uint32_t accounts             # links to pairs; 0: none
    uint32_t events
    uint32_t load
    uint32_t key_length           # bytes of the key, which follows


cdef void record_make(Shared *shared, Container *container) noexcept nogil
cdef void record_drop(Container *container) noexcept nogil
cdef ContainerRecord *record_at(const Shared *shared, uint32_t unit) noexcept nogil
cdef const char *record_key(ContainerRecord *record) noexcept nogil
cdef void save_accounts(Container *container) noexcept nogil
cdef void save_events(Container *container) noexcept nogil
cdef void save_load(Container *container) noexcept nogil
cdef void restore(Shared *shared, Container *container, uint32_t unit) noexcept nogil
