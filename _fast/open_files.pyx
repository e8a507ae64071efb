# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The table of open files (``files``) for Python, which has opened those that no lane has."""

import errno as errnos
import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memset

from procview._fast.blocks cimport Block, block_put
from procview._fast.container cimport Container, container_put, container_ref
from procview._fast.engine cimport Engine, View
from procview._fast.file_records cimport Opening
from procview._fast.files cimport (
    CLOSED,
    PART_READY,
    File,
    Part,
    file_at,
    file_close,
    file_give,
    file_keep,
    file_of,
    file_open,
    file_part,
    files_free,
    files_init,
)
from procview._fast.posix cimport count_up, pthread_mutex_lock, pthread_mutex_unlock
from procview._fast.state cimport Shared, State

from procview._fast.views import PATHS

MAX_OPEN = 32768
"""Open files and directories of all containers together; some 200 bytes each."""
MAX_OPEN_PER_OWNER = 4096
"""The same for one pid namespace."""
TEXT_BUDGET_BYTES = 16 << 20
"""Enough for some thousand meminfo texts, or 40 of cpuinfo on a host of 256 CPUs."""


@cython.final
cdef class OpenFiles:
    def __cinit__(
        self, engine, *, int most=MAX_OPEN, int most_per_owner=MAX_OPEN_PER_OWNER,
        size_t budget_bytes=TEXT_BUDGET_BYTES, state=None
    ):
        cdef Shared *shared = &(<State>state)._shared if state is not None else NULL
        self._engine = engine
        if isinstance(engine, Engine):
            self._renderer = &(<Engine>engine)._renderer
        self._state = state    # for as long as there are files
        self._ready = True
        if not files_init(&self._files, most, most_per_owner, budget_bytes, shared):
            raise MemoryError

    def __dealloc__(self):
        cdef uint64_t handle
        cdef int place
        if not self._ready:
            return
        for place in range(self._files.capacity):
            handle = file_at(&self._files, place).handle
            if handle != 0:
                self._close(handle)
        files_free(&self._files)

    cdef bint _close(self, uint64_t handle):
        cdef Container *container = NULL
        cdef void *view = NULL
        if file_close(&self._files, handle, &container, &view) != CLOSED:
            return False
        if view != NULL:
            Py_DECREF(<object>view)
        if container != NULL:
            container_put(&self._renderer.containers, container)
        return True

    def open(self, uint64_t owner, view, str path=None, *, bint is_directory=False):
        cdef Opening opening
        cdef uint64_t handle
        encoded = None if path is None else os.fsencode(path)
        memset(&opening, 0, sizeof(Opening))
        opening.owner = owner
        opening.path = NULL if encoded is None else <const char *>encoded
        opening.spec = -1
        opening.view = <void *>view
        opening.is_directory = is_directory
        if isinstance(view, View):
            opening.container = (<View>view)._container
        Py_INCREF(view)
        handle = file_open(&self._files, &opening)
        if handle == 0:
            Py_DECREF(view)
            self._refuse()
        return handle

    def _refuse(self):
        raise OSError(errnos.ENFILE, "too many open files")

    def view(self, uint64_t handle):
        cdef Container *container = NULL
        cdef int spec = -1
        cdef File *file
        cdef object view = None
        cdef View made
        pthread_mutex_lock(&self._files.lock)
        file = file_of(&self._files, handle)
        if file != NULL and file.view != NULL:
            view = <object>file.view
        elif file != NULL:
            container = file.container
            spec = file.spec
            container_ref(container)
        pthread_mutex_unlock(&self._files.lock)
        if container == NULL:
            return view
        made = View.__new__(View)
        made._engine = self._engine
        made._path = PATHS[spec]
        made._spec = spec
        made._container = container
        return made

    def give(self, uint64_t handle, view):
        Py_INCREF(view)
        if not file_give(&self._files, handle, <void *>view):
            Py_DECREF(view)

    def text(self, uint64_t handle):
        cdef Block *block = NULL
        cdef File *file
        pthread_mutex_lock(&self._files.lock)
        file = file_of(&self._files, handle)
        if file != NULL and file.text != NULL:
            block = file.text
            count_up(&block.references)
        pthread_mutex_unlock(&self._files.lock)
        if block == NULL:
            return None
        try:
            return PyBytes_FromStringAndSize(block.data, <Py_ssize_t>block.length)
        finally:
            block_put(block)

    def part(self, uint64_t handle, uint64_t offset, size_t size):
        cdef Part part
        cdef int found = file_part(&self._files, handle, offset, size, &part)
        if part.container != NULL:
            container_put(&self._renderer.containers, part.container)
        if found != PART_READY:
            return None
        if part.text == NULL:
            return b""
        try:
            return PyBytes_FromStringAndSize(part.data, <Py_ssize_t>part.size)
        finally:
            block_put(part.text)

    def keep(self, uint64_t handle, bytes text, *, bint delivered):
        file_keep(&self._files, handle, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), delivered)

    def close(self, uint64_t handle):
        return self._close(handle)

    @property
    def open_count(self):
        return self._files.open_count

    @property
    def text_bytes(self):
        return self._files.text_bytes
