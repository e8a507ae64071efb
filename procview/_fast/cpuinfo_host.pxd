"""The host's /proc/cpuinfo, taken apart and kept for a while. See ``_fast/cpuinfo_host.pyx``."""

from libc.stdint cimport int64_t

from procview._fast.host cimport CpuSet, Host
from procview._fast.posix cimport pthread_mutex_t
from procview._fast.text cimport Text


cdef enum:
    # What a place in the text is replaced by
    FIELD_PROCESSOR        # the visible number
    FIELD_PACKAGE          # the visible number, unless topology is the host's
    FIELD_ZERO             # 0, likewise
    FIELD_ONE              # 1, likewise
    FIELD_COUNT            # how many CPUs are visible (s390x' header)

cdef struct Edit:
    size_t start           # of the text to replace
    size_t end
    int field

cdef struct Stanza:
    int cpu
    size_t start
    size_t end
    int first_edit
    int edits

cdef struct CpuinfoText:
    int references
    Text text
    CpuSet online          # when it was read
    int64_t read_ns        # CLOCK_BOOTTIME
    size_t head_end        # before the first per-CPU line or stanza
    size_t tail_start      # after the last stanza
    size_t lines_start     # s390x: one line for each CPU, in the head
    size_t lines_end
    Stanza *lines
    int line_count
    Stanza *stanzas
    int stanza_count
    Edit *edits
    int edit_count
    int stanza_capacity
    int line_capacity
    int edit_capacity
    Edit count_edit        # s390x: the "# processors" number; start == end: none

cdef struct CpuinfoCache:
    pthread_mutex_t lock
    CpuinfoText *newest


cdef void cpuinfo_cache_init(CpuinfoCache *cache) noexcept nogil
cdef void cpuinfo_cache_free(CpuinfoCache *cache) noexcept nogil
cdef CpuinfoText *cpuinfo_take(CpuinfoCache *cache, Host *host, Text *scratch) noexcept nogil
cdef void cpuinfo_put(CpuinfoText *cpuinfo) noexcept nogil
