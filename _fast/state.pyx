# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Memory that outlives the daemon: a sealed memfd, which the service manager keeps, and the next daemon maps.

In it are objects, each in some *units* of their own. A table says where they begin, of which kind they are and how
long; all else (which units are free) follows from that and is each process's own. The daemon may be killed between any
two instructions, so an object is written first and linked to then, by one store; and what nothing links to is dropped
by the next daemon. What changes in place is a *pair*: of two copies one is valid while the other is written.

Everything that is read here was written by another process, perhaps of another version: numbers are checked before they
are believed, so that the worst of memories costs what was in it, and not the daemon.
"""

import fcntl
import os

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from procview._fast.posix cimport (
    MAP_FAILED,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    close,
    load_u32,
    mmap,
    munmap,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    store_u32,
    strnlen,
)

cdef extern from * nogil:
    int trailing_zeros "__builtin_ctzll"(unsigned long long value) noexcept


cdef enum:
    VERSION = 1                # to be changed with whatever is in the memory, records in other modules included
    HEAD_BYTES = 4096
    KIND_SHIFT = 24
    NO_SIDE = 2
    MOST_OPENED_BITS = 39      # of files so far: their numbers leave room for a place in 64 bits

cdef uint64_t MAGIC = 0x706d656d77656976
cdef size_t TABLE_BYTES = UNITS * sizeof(uint32_t)    # whole pages

cdef struct Pair:
    uint32_t valid             # 0 or 1; NO_SIDE: none yet
    uint32_t room              # bytes for each
    uint32_t size[2]           # bytes


cdef struct NodeRecord:
    uint32_t is_one            # written last
    uint32_t is_dir
    uint32_t is_link
    uint32_t length            # bytes of the path, which follows


cdef bint is_unit(uint32_t unit) noexcept nogil:
    return 0 < unit < UNITS


cdef bint is_used(const Shared *shared, uint32_t unit) noexcept nogil:
    return shared.used[unit >> 6] >> (unit & 63) & 1


cdef void set_used(Shared *shared, uint32_t unit, uint32_t count, bint used) noexcept nogil:
    cdef uint32_t i
    for i in range(unit, unit + count):
        if used:
            shared.used[i >> 6] |= <uint64_t>1 << (i & 63)
        else:
            shared.used[i >> 6] &= ~(<uint64_t>1 << (i & 63))


cdef uint32_t find_free(Shared *shared, uint32_t count) noexcept nogil:
    """The first of ``count`` free units in a row; 0: there are none. The lock is held."""
    cdef uint32_t at = shared.lowest
    cdef uint32_t run = 0
    cdef uint32_t left
    cdef uint32_t step
    cdef uint64_t word
    cdef bint first = True
    while at < UNITS:
        left = 64 - (at & 63)
        word = shared.used[at >> 6] >> (at & 63)
        if word & 1:
            step = <uint32_t>trailing_zeros(~word) if ~word != 0 else left
            run = 0
            at += min(step, left)
            continue
        if first:
            shared.lowest = at
            first = False
        step = <uint32_t>trailing_zeros(word) if word != 0 else left
        run += min(step, left)
        at += min(step, left)
        if run >= count:
            return at - run
    return 0


cdef uint32_t object_new(Shared *shared, int kind, size_t size) noexcept nogil:
    """Units for ``size`` bytes, which nobody knows of yet; 0: there is no room."""
    cdef uint32_t count = <uint32_t>((size + UNIT_BYTES - 1) // UNIT_BYTES)
    cdef uint32_t unit
    if size == 0 or size >= UNITS * <size_t>UNIT_BYTES:
        return 0
    pthread_mutex_lock(&shared.lock)
    unit = find_free(shared, count)
    if unit != 0:
        set_used(shared, unit, count, True)
        if unit == shared.lowest:
            shared.lowest = unit + count
        store_u32(&shared.table[unit], <uint32_t>kind << KIND_SHIFT | count)
    pthread_mutex_unlock(&shared.lock)
    return unit


cdef void object_drop(Shared *shared, uint32_t unit) noexcept nogil:
    """Nothing links to it any more. 0 is nothing."""
    cdef uint32_t count
    if not is_unit(unit):
        return
    pthread_mutex_lock(&shared.lock)
    count = min(shared.table[unit] & ((1 << KIND_SHIFT) - 1), UNITS - unit)
    store_u32(&shared.table[unit], 0)
    set_used(shared, unit, count, False)
    if unit < shared.lowest:
        shared.lowest = unit
    pthread_mutex_unlock(&shared.lock)


cdef void *object_at(const Shared *shared, uint32_t unit) noexcept nogil:
    return shared.units + <size_t>unit * UNIT_BYTES


cdef size_t object_size(const Shared *shared, uint32_t unit, int kind) noexcept nogil:
    """How many bytes it has room for; 0 where there is no such object of this kind."""
    cdef uint32_t entry
    if not is_unit(unit):
        return 0
    entry = load_u32(&shared.table[unit])
    if entry >> KIND_SHIFT != <uint32_t>kind:
        return 0
    return <size_t>(entry & ((1 << KIND_SHIFT) - 1)) * UNIT_BYTES


cdef uint32_t object_after(const Shared *shared, uint32_t unit, int kind) noexcept nogil:
    """The next object of this kind behind ``unit``; 0: there is none."""
    unit += 1
    while unit < UNITS:
        if shared.table[unit] >> KIND_SHIFT == <uint32_t>kind:
            return unit
        unit += 1
    return 0


cdef void link_to(uint32_t *link, uint32_t unit) noexcept nogil:
    """What was written before is there for whoever sees the link, also after a kill."""
    store_u32(link, unit)


# --- pairs ------------------------------------------------------------------------------------------------------------

cdef char *side_at(Pair *pair, uint32_t side) noexcept nogil:
    return <char *>(pair + 1) + <size_t>side * pair.room


cdef Pair *pair_at(const Shared *shared, uint32_t unit) noexcept nogil:
    """The pair there, which is no longer than it may be; NULL: it is none."""
    cdef size_t whole = object_size(shared, unit, KIND_PAIR)
    cdef Pair *pair = <Pair *>object_at(shared, unit)
    if whole < sizeof(Pair) or sizeof(Pair) + 2 * <size_t>pair.room > whole:
        return NULL
    return pair


cdef char *pair_begin(Draft *draft, Shared *shared, uint32_t *link, size_t size) noexcept nogil:
    """Where to write ``size`` bytes that shall become the contents of the pair that ``link`` leads to, a new one if
    need be. Until pair_end the old contents count. NULL: there is no room.
    """
    cdef Pair *pair = pair_at(shared, link[0])
    draft.shared = shared
    draft.link = link
    draft.unit = link[0]
    if pair == NULL or pair.room < size:
        draft.unit = object_new(shared, KIND_PAIR, sizeof(Pair) + 2 * size)
        if draft.unit == 0:
            return NULL
        pair = <Pair *>object_at(shared, draft.unit)
        pair.valid = NO_SIDE
        pair.room = <uint32_t>size
    draft.side = 1 if pair.valid == 0 else 0
    pair.size[draft.side] = <uint32_t>size
    return side_at(pair, draft.side)


cdef void pair_end(Draft *draft) noexcept nogil:
    cdef Pair *pair = <Pair *>object_at(draft.shared, draft.unit)
    cdef uint32_t before = draft.link[0]
    store_u32(&pair.valid, draft.side)
    if before != draft.unit:
        link_to(draft.link, draft.unit)
        object_drop(draft.shared, before)


cdef const char *pair_now(const Shared *shared, uint32_t unit, size_t *size) noexcept nogil:
    """The contents, and how many bytes they are; NULL: there are none."""
    cdef Pair *pair = pair_at(shared, unit)
    cdef uint32_t side
    if pair == NULL:
        return NULL
    side = load_u32(&pair.valid)
    if side > 1 or pair.size[side] > pair.room:
        return NULL
    size[0] = pair.size[side]
    return side_at(pair, side)


# --- the memory -------------------------------------------------------------------------------------------------------

cdef bint take_stock(Shared *shared) noexcept nogil:
    """Find out which units are in use. False: the table is not one."""
    cdef uint32_t unit = 1
    cdef uint32_t kind
    cdef uint32_t count
    while unit < UNITS:
        kind = shared.table[unit] >> KIND_SHIFT
        count = shared.table[unit] & ((1 << KIND_SHIFT) - 1)
        if shared.table[unit] == 0:
            unit += 1
            continue
        if kind == KIND_FREE or kind > KIND_TEXT or count == 0 or count > UNITS - unit:
            return False
        set_used(shared, unit, count, True)
        # Nothing begins within an object.
        memset(&shared.table[unit + 1], 0, <size_t>(count - 1) * sizeof(uint32_t))
        unit += count
    return True


_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_BYTES = HEAD_BYTES + TABLE_BYTES + UNITS * UNIT_BYTES


cdef class State:
    def __cinit__(self, fd=None):
        cdef Shared *shared = &self._shared
        cdef void *mapped
        shared.fd = -1
        pthread_mutex_init(&shared.lock, NULL)
        shared.used = <uint64_t *>calloc(UNITS // 64, sizeof(uint64_t))
        if shared.used == NULL:
            raise MemoryError
        shared.used[0] = 1     # nothing is in unit 0, so that 0 is no link
        if fd is None:
            shared.fd = os.memfd_create("procview-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(shared.fd, _BYTES)
            fcntl.fcntl(shared.fd, fcntl.F_ADD_SEALS, _SEALS)
        else:
            shared.fd = fd
            # Whoever could make it smaller could kill us.
            if fcntl.fcntl(shared.fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS or os.fstat(shared.fd).st_size != _BYTES:
                raise ValueError("it is of another size, or not sealed")
        mapped = mmap(NULL, _BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, shared.fd, 0)
        if mapped == MAP_FAILED:
            raise MemoryError
        shared.base = <char *>mapped
        shared.head = <Head *>shared.base
        shared.table = <uint32_t *>(shared.base + HEAD_BYTES)
        shared.units = shared.base + HEAD_BYTES + TABLE_BYTES
        shared.lowest = 1
        if fd is None:
            shared.head.version = VERSION
            shared.head.units = UNITS
            shared.head.magic = MAGIC
            return
        if shared.head.magic != MAGIC or shared.head.version != VERSION or shared.head.units != UNITS:
            raise ValueError(f"it is of version {shared.head.version}, and this is {VERSION}")
        if shared.head.opened >> MOST_OPENED_BITS or not take_stock(shared):
            raise ValueError("what it says of itself cannot be")
        self._found = True

    def __dealloc__(self):
        if self._shared.base != NULL:
            munmap(self._shared.base, _BYTES)
        if self._shared.fd >= 0:
            close(self._shared.fd)
        free(self._shared.used)
        pthread_mutex_destroy(&self._shared.lock)

    def fileno(self):
        return self._shared.fd

    @property
    def found(self):
        return self._found

    @property
    def device(self):
        cdef const char *text = self._shared.head.device
        return text[:strnlen(text, sizeof(self._shared.head.device))].decode("ascii", "replace")

    @device.setter
    def device(self, str device):
        cdef bytes encoded = device.encode("ascii")
        cdef const char *text = encoded
        cdef size_t i
        if len(encoded) >= sizeof(self._shared.head.device):
            raise ValueError(f"no device: {device!r}")
        memset(self._shared.head.device, 0, sizeof(self._shared.head.device))
        for i in range(len(encoded)):
            self._shared.head.device[i] = text[i]

    @property
    def start_ns(self):
        return self._shared.head.start_ns

    @start_ns.setter
    def start_ns(self, uint64_t nanoseconds):
        self._shared.head.start_ns = nanoseconds

    def add_node(self, str path, *, bint is_dir, bint is_link):
        cdef Shared *shared = &self._shared
        cdef bytes encoded = os.fsencode(path)
        cdef NodeRecord *record
        cdef uint32_t unit = object_new(shared, KIND_NODE, sizeof(NodeRecord) + len(encoded))
        if unit == 0:
            return
        record = <NodeRecord *>object_at(shared, unit)
        record.is_one = 0
        record.is_dir = is_dir
        record.is_link = is_link
        record.length = <uint32_t>len(encoded)
        memcpy(<char *>(record + 1), <const char *>encoded, len(encoded))
        link_to(&record.is_one, 1)

    def nodes(self):
        cdef const Shared *shared = &self._shared
        cdef const NodeRecord *record
        cdef const char *path
        cdef uint32_t unit = object_after(shared, 0, KIND_NODE)
        found = []
        while unit != 0:
            record = <const NodeRecord *>object_at(shared, unit)
            if record.is_one and record.length <= object_size(shared, unit, KIND_NODE) - sizeof(NodeRecord):
                path = <const char *>(record + 1)
                found.append((os.fsdecode(path[:record.length]), record.is_dir != 0, record.is_link != 0))
            unit = object_after(shared, unit, KIND_NODE)
        return found

    @property
    def objects(self):
        cdef uint32_t unit
        cdef int kind
        counts = {}
        for name, kind in _KINDS:
            counts[name] = 0
            unit = object_after(&self._shared, 0, kind)
            while unit != 0:
                counts[name] += 1
                unit = object_after(&self._shared, unit, kind)
        return counts


_KINDS = (
    ("agreement", KIND_AGREEMENT), ("containers", KIND_CONTAINER), ("files", KIND_FILE), ("nodes", KIND_NODE),
    ("pairs", KIND_PAIR), ("texts", KIND_TEXT),
)
