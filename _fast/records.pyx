# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What of a container outlives the daemon: who it is, and what it was shown, so that no counter goes back.

The accounts of CPU time, the counters of vmstat and the load are each a pair, written whenever what is shown changes
and before anybody is shown it. A container has a record while it is in the table; without a shared memory it has none,
and all of this does nothing.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from procview._fast.accounts cimport COLUMNS, Accounting, accounts_resume
from procview._fast.container cimport Load
from procview._fast.counters cimport Counters, counters_resume
from procview._fast.state cimport (
    KIND_CONTAINER,
    Draft,
    link_to,
    object_at,
    object_drop,
    object_new,
    object_size,
    pair_begin,
    pair_end,
    pair_now,
)


cdef struct SavedAccounts:         # cpus x COLUMNS of what was shown follow
    int cpus
    uint64_t total[COLUMNS]
    uint64_t elapsed

cdef struct SavedEvents:           # count of what was shown follow, and as many starts
    int count
    uint64_t source


cdef const char *record_key(ContainerRecord *record) noexcept nogil:
    return <const char *>(record + 1)


cdef ContainerRecord *record_of(Container *container) noexcept nogil:
    return <ContainerRecord *>object_at(container.shared, container.unit)


cdef ContainerRecord *record_at(const Shared *shared, uint32_t unit) noexcept nogil:
    """The record there, whole; NULL: it is none."""
    cdef size_t size = object_size(shared, unit, KIND_CONTAINER)
    cdef ContainerRecord *record = <ContainerRecord *>object_at(shared, unit)
    if size < sizeof(ContainerRecord) or not record.is_one or record.key_length > size - sizeof(ContainerRecord):
        return NULL
    return record


cdef void record_make(Shared *shared, Container *container) noexcept nogil:
    """As the container is put into the table. Without room it has none: it begins anew with the next daemon."""
    cdef ContainerRecord *record
    cdef uint32_t unit
    if shared == NULL or container.unit != 0:
        return
    unit = object_new(shared, KIND_CONTAINER, sizeof(ContainerRecord) + container.key.length)
    if unit == 0:
        return
    record = <ContainerRecord *>object_at(shared, unit)
    record.is_one = 0
    record.init = container.init
    record.pidns = container.pidns
    record.init_start_ticks = container.init_start_ticks
    record.accounts = record.events = record.load = 0
    record.key_length = <uint32_t>container.key.length
    if container.key.length > 0:
        memcpy(<char *>(record + 1), container.key.data, container.key.length)
    container.shared = shared
    container.unit = unit
    link_to(&record.is_one, 1)


cdef void record_drop(Container *container) noexcept nogil:
    """Nobody holds the container any more."""
    cdef ContainerRecord *record
    if container.unit == 0:
        return
    record = record_of(container)
    link_to(&record.is_one, 0)
    object_drop(container.shared, record.accounts)
    object_drop(container.shared, record.events)
    object_drop(container.shared, record.load)
    object_drop(container.shared, container.unit)
    container.unit = 0


# --- written; the container's lock is held ----------------------------------------------------------------------------

cdef void save_accounts(Container *container) noexcept nogil:
    cdef const Accounting *accounts = &container.accounting
    cdef size_t cells_bytes = <size_t>accounts.cpus * COLUMNS * sizeof(uint64_t)
    cdef SavedAccounts *saved
    cdef Draft draft
    if container.unit == 0:
        return
    saved = <SavedAccounts *>pair_begin(
        &draft, container.shared, &record_of(container).accounts, sizeof(SavedAccounts) + cells_bytes
    )
    if saved == NULL:
        return
    saved.cpus = accounts.cpus
    memcpy(saved.total, accounts.total, sizeof(saved.total))
    saved.elapsed = accounts.elapsed
    memcpy(saved + 1, accounts.shown, cells_bytes)
    pair_end(&draft)


cdef void save_events(Container *container) noexcept nogil:
    cdef const Counters *counters = &container.events
    cdef size_t cells_bytes = <size_t>counters.count * sizeof(uint64_t)
    cdef SavedEvents *saved
    cdef Draft draft
    if container.unit == 0:
        return
    saved = <SavedEvents *>pair_begin(
        &draft, container.shared, &record_of(container).events, sizeof(SavedEvents) + 2 * cells_bytes
    )
    if saved == NULL:
        return
    saved.count = counters.count
    saved.source = counters.source
    memcpy(saved + 1, counters.shown, cells_bytes)
    memcpy(<char *>(saved + 1) + cells_bytes, counters.start, cells_bytes)
    pair_end(&draft)


cdef void save_load(Container *container) noexcept nogil:
    cdef char *saved
    cdef Draft draft
    if container.unit == 0:
        return
    saved = pair_begin(&draft, container.shared, &record_of(container).load, sizeof(Load))
    if saved == NULL:
        return
    memcpy(saved, &container.load, sizeof(Load))
    pair_end(&draft)


# --- and read, by the next daemon, before it serves -------------------------------------------------------------------

cdef void restore(Shared *shared, Container *container, uint32_t unit) noexcept nogil:
    """Make the record at ``unit``, which is one, this container's, and let it go on where that stands."""
    cdef ContainerRecord *record = <ContainerRecord *>object_at(shared, unit)
    cdef const SavedAccounts *accounts
    cdef const SavedEvents *events
    cdef const char *saved
    cdef size_t size = 0
    cdef size_t cells
    container.shared = shared
    container.unit = unit
    saved = pair_now(shared, record.accounts, &size)
    if saved != NULL and size >= sizeof(SavedAccounts):
        accounts = <const SavedAccounts *>saved
        cells = (size - sizeof(SavedAccounts)) // sizeof(uint64_t)
        if accounts.cpus > 0 and <size_t>accounts.cpus <= cells // COLUMNS:
            accounts_resume(
                &container.accounting, accounts.cpus, <const uint64_t *>(accounts + 1), accounts.total, accounts.elapsed
            )
    else:
        record.accounts = 0
    saved = pair_now(shared, record.events, &size)
    if saved != NULL and size >= sizeof(SavedEvents):
        events = <const SavedEvents *>saved
        cells = (size - sizeof(SavedEvents)) // sizeof(uint64_t)
        if events.count > 0 and <size_t>events.count <= cells // 2:
            counters_resume(
                &container.events, events.source, events.count, <const uint64_t *>(events + 1),
                <const uint64_t *>(events + 1) + events.count
            )
    else:
        record.events = 0
    saved = pair_now(shared, record.load, &size)
    if saved != NULL and size == sizeof(Load):
        memcpy(&container.load, saved, sizeof(Load))
    else:
        record.load = 0
