# cython: language_level=3
"""Faults on purpose, for tests: at named points of the program a process dies, hangs or fails.

A folder is armed (procview/faults.py says by whom); a file in it has a point's name, and in it one word: ``die`` ends
the process by SIGKILL, ``hang`` stops the thread for ever, ``fail`` makes what comes next at this point fail with EIO,
and any other with EINVAL. Whoever passes the point first takes the file, so that it happens once, whatever number of
processes and threads comes by. Without a folder, a point costs one comparison.
"""

import os

from libc.string cimport strncmp

from procview._fast.posix cimport (
    EINVAL,
    EIO,
    O_CLOEXEC,
    O_RDONLY,
    SIGKILL,
    close,
    getpid,
    kill,
    openat,
    pause,
    read,
    unlinkat,
)


cdef int armed_folder = -1


cdef int meet(const char *point) noexcept nogil:
    """What is to happen at the armed ``point``, if anything. 0, or the errno of a failure."""
    cdef char[8] word
    cdef int fd = openat(armed_folder, point, O_RDONLY | O_CLOEXEC)
    cdef ssize_t got
    if fd < 0:
        return 0
    got = read(fd, word, sizeof(word))
    close(fd)
    if got < 0 or unlinkat(armed_folder, point, 0) < 0:
        return 0               # somebody else has just taken it
    if got == 4 and strncmp(word, b"fail", 4) == 0:
        return EIO
    if got == 3 and strncmp(word, b"die", 3) == 0:
        kill(getpid(), SIGKILL)
    elif got != 4 or strncmp(word, b"hang", 4) != 0:
        return EINVAL          # a mistake of the test's, which is not to look like one of ours
    while True:
        pause()


def arm(str folder):
    global armed_folder
    armed_folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def passing(str point):
    cdef bytes name = os.fsencode(point)
    cdef const char *characters = name
    cdef int error
    with nogil:
        error = fault_at(characters)
    if error:
        raise OSError(error, f"a fault on purpose, at {point}")
