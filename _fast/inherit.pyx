# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What a daemon takes over of the one before it: its containers and the files that are open, from their shared memory.

Once, before anything is served. What cannot be taken over (a container that has ended, an opening that was not answered
yet) is dropped, and so is every object that nothing leads to.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from procview._fast.caller cimport container_again
from procview._fast.container cimport Container, container_put, container_ref
from procview._fast.containers cimport containers_record
from procview._fast.engine cimport Engine, View
from procview._fast.file_records cimport FileRecord, file_record_at
from procview._fast.files cimport FILES_PER_CHUNK, File, Files, file_inherit, file_inherit_end
from procview._fast.open_files cimport OpenFiles
from procview._fast.records cimport ContainerRecord, record_at, record_key, restore
from procview._fast.renderer cimport Renderer
from procview._fast.scan cimport span
from procview._fast.state cimport (
    KIND_AGREEMENT,
    KIND_CONTAINER,
    KIND_FILE,
    KIND_PAIR,
    KIND_TEXT,
    UNITS,
    Shared,
    State,
    object_after,
    object_drop,
    object_size,
)
from procview._fast.text cimport Text, text_free, text_init

from procview._fast.faults import passing
from procview._fast.views import INDEX


cdef enum:
    WANTED = 1                 # a mark


cdef Container **inherit_containers(Renderer *renderer, Shared *shared) noexcept nogil:
    """By the units of their records, each counted for the caller. NULL when memory ran out."""
    cdef Container **heirs = <Container **>calloc(UNITS, sizeof(Container *))
    cdef ContainerRecord *record
    cdef Container *container
    cdef Text scratch
    cdef Text other
    cdef uint32_t unit
    if heirs == NULL:
        return NULL
    text_init(&scratch)
    text_init(&other)
    unit = object_after(shared, 0, KIND_CONTAINER)
    while unit != 0:
        record = record_at(shared, unit)
        if record != NULL:
            container = container_again(
                &renderer.containers, record.pidns, record.init, record.init_start_ticks,
                span(record_key(record), record.key_length), &scratch, &other
            )
            # Of two records of one container the second is of a daemon that was killed as it took over.
            if container != NULL and container.unit == 0:
                restore(shared, container, unit)
            heirs[unit] = container
        unit = object_after(shared, unit, KIND_CONTAINER)
    text_free(&scratch)
    text_free(&other)
    return heirs


cdef void drop_unlinked(Shared *shared, Files *files, Container **heirs) noexcept nogil:
    """Whatever no root leads to, and roots that were not taken over."""
    cdef unsigned char *marks = <unsigned char *>calloc(UNITS, 1)
    cdef int[5] kinds = [KIND_AGREEMENT, KIND_CONTAINER, KIND_FILE, KIND_PAIR, KIND_TEXT]
    cdef ContainerRecord *record
    cdef uint32_t unit
    cdef uint32_t following
    cdef const File *file
    cdef int place
    cdef int i
    if marks == NULL:
        return                 # they take their room until the next daemon comes
    marks[shared.head.agreement if shared.head.agreement < UNITS else 0] = WANTED
    for unit in range(1, UNITS):
        if heirs[unit] != NULL and heirs[unit].unit == unit:
            record = record_at(shared, unit)
            marks[unit] = WANTED
            mark(shared, marks, record.accounts, KIND_PAIR)
            mark(shared, marks, record.events, KIND_PAIR)
            mark(shared, marks, record.load, KIND_PAIR)
    for place in range(files.capacity):
        file = &files.chunks[place // FILES_PER_CHUNK][place % FILES_PER_CHUNK]
        if file.handle != 0:
            marks[file.unit] = WANTED
            if file.text != NULL:
                marks[file.text.unit] = WANTED
    for i in range(5):
        unit = object_after(shared, 0, kinds[i])
        while unit != 0:
            following = object_after(shared, unit, kinds[i])
            if marks[unit] != WANTED:
                object_drop(shared, unit)
            unit = following
    free(marks)


cdef void mark(const Shared *shared, unsigned char *marks, uint32_t unit, int kind) noexcept nogil:
    if object_size(shared, unit, kind) > 0:
        marks[unit] = WANTED


def inherit(Engine engine, OpenFiles files, State state):
    cdef Renderer *renderer = &engine._renderer
    cdef Shared *shared = &state._shared
    cdef Container **heirs
    cdef Container *container
    cdef FileRecord *record
    cdef const char *path
    cdef View view
    cdef uint32_t unit
    cdef int spec
    cdef size_t i
    wanting = []
    if not state._found:
        containers_record(&renderer.containers, shared)
        return wanting
    with nogil:
        heirs = inherit_containers(renderer, shared)
    if heirs == NULL:
        raise MemoryError
    try:
        passing("inherit")
        unit = object_after(shared, 0, KIND_FILE)
        while unit != 0:
            record = file_record_at(shared, unit, &path)
            if record != NULL:
                container = heirs[record.container] if 0 < record.container < UNITS else NULL
                name = path.decode("utf-8", "surrogateescape")
                spec = -1 if record.is_directory or container == NULL else INDEX.get(name, -1)
                if file_inherit(&files._files, unit, spec, container if spec >= 0 else NULL):
                    if spec >= 0:
                        container_ref(container)
                    else:
                        view = View.__new__(View)
                        view._engine = engine
                        view._path = name
                        view._spec = -1 if container != NULL else INDEX.get(name, -1)
                        view._container = container
                        if container != NULL:
                            container_ref(container)
                        wanting.append((record.handle, view, record.is_directory != 0))
            unit = object_after(shared, unit, KIND_FILE)
        file_inherit_end(&files._files)
        containers_record(&renderer.containers, shared)
        engine.settle_known()
        drop_unlinked(shared, &files._files, heirs)
    finally:
        for i in range(UNITS):
            if heirs[i] != NULL:
                container_put(&renderer.containers, heirs[i])
        free(heirs)
    return wanting
