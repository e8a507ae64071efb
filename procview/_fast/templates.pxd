"""The host's files after which views are written, taken apart once for many renders: filled in by ``meminfo_host`` and
``vmstat_host``. And what is remembered of a container's ``memory_stat``.
"""

from libc.stdint cimport int64_t, uint64_t

from procview._fast.posix cimport pthread_mutex_t
from procview._fast.scan cimport Span
from procview._fast.text cimport Text


cdef struct MeminfoNumber:
    Span before       # all the text since the last number that may be replaced
    Span hosts        # the host's number, with the blanks that the new one may take
    uint64_t hosts_value
    int source
    int width         # of the new number, blanks on its left included
    size_t end        # in ``zeros``: where the number ends
    uint64_t beyond   # the least number that does not fit its width

cdef struct MeminfoText:
    int references
    int64_t read_ns   # CLOCK_MONOTONIC
    Text text
    Text zeros        # the same lines, each number that may be replaced a 0 that fills its width
    MeminfoNumber *numbers
    int count
    Span rest         # the text after the last of them
    uint64_t memory_bytes
    uint64_t swap_bytes
    bint no_huge_pages
    uint64_t overcommit_percent

cdef struct MeminfoCache:
    pthread_mutex_t lock
    MeminfoText *newest

cdef enum:
    VMSTAT_BUCKETS = 256   # a power of two

cdef struct VmstatLine:
    Span name         # in ``text``
    size_t at         # in ``zeros``: where the line's number stands; 0: it has none
    int kind
    int source        # of an amount: see vmstat_host
    int unit
    uint64_t hosts
    int following     # in the same bucket, or -1

cdef struct VmstatText:
    int references
    int64_t read_ns   # CLOCK_MONOTONIC
    Text text
    Text zeros        # the same lines, each number a 0
    VmstatLine *lines
    int count
    int *order        # numbers of lines: of the amounts, then of the events that memory.stat does not count
    int amount_count
    int other_count
    uint64_t names    # another one where any name is another, or elsewhere
    int first[VMSTAT_BUCKETS]   # of the events that memory.stat may count

cdef struct VmstatCache:
    pthread_mutex_t lock
    VmstatText *newest
    uint64_t names    # so far

cdef enum:
    STAT_KEY_BYTES = 40    # longer ones are looked up each time
    EVENT_UNKNOWN = -1     # not looked for yet
    EVENT_NONE = -2

cdef struct StatLine:
    uint64_t value
    const char *at              # its key, in the text that was read last; NULL: no number behind it
    unsigned short length       # of that, and
    unsigned short start        # of what of it is no name (``total_``)
    unsigned short learned      # bytes of ``key``, the blank behind it included; 0: no key that is worth it
    short which                 # key of Memory.stat, -1: of no use there
    int event                   # line of vmstat, or EVENT_UNKNOWN, EVENT_NONE
    char key[STAT_KEY_BYTES]

cdef struct StatLines:
    StatLine *lines             # what was learned, line by line; with numbers and places of the text that was read last
    int count                   # lines of that
    int capacity
    int version                 # of cgroups, that it was learned from
    uint64_t names              # that the lines' events are numbers of: VmstatText.names
