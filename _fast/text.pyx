# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Growing byte buffers, written without the GIL.

Every writer is safe after memory ran out: it does nothing and leaves ``broken`` set, so that a view checks once, at
its end.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc


cdef void text_init(Text *text) noexcept nogil:
    text.data = NULL
    text.length = 0
    text.capacity = 0
    text.broken = False


cdef void text_free(Text *text) noexcept nogil:
    free(text.data)
    text_init(text)


cdef bint text_grow(Text *text, size_t extra) noexcept nogil:
    cdef size_t wanted = text.length + extra + 1
    cdef size_t capacity = text.capacity * 2 if text.capacity else 512
    cdef char *data
    if text.broken:
        return False
    if capacity < wanted:
        capacity = wanted
    data = <char *>realloc(text.data, capacity)
    if data == NULL:
        text.broken = True
        return False
    text.data = data
    text.capacity = capacity
    return True


cdef void put_u64(Text *text, uint64_t value) noexcept nogil:
    put_u64_right(text, value, 0)


cdef void put_u64_right(Text *text, uint64_t value, size_t width) noexcept nogil:
    """Decimal, padded with blanks on the left to ``width`` (printf's %*lu)."""
    cdef char digits[20]
    cdef size_t first = sizeof(digits)
    while True:
        first -= 1
        digits[first] = <char>(c"0" + value % 10)
        value //= 10
        if value == 0:
            break
    if width > sizeof(digits) - first:
        put_fill(text, c" ", width - (sizeof(digits) - first))
    put(text, digits + first, sizeof(digits) - first)


cdef void put_hundredths(Text *text, uint64_t hundredths) noexcept nogil:
    """Two decimals, as /proc/uptime and /proc/loadavg have them: 105 is ``1.05``."""
    put_u64(text, hundredths // 100)
    put_char(text, c".")
    put_char(text, <char>(c"0" + hundredths // 10 % 10))
    put_char(text, <char>(c"0" + hundredths % 10))
