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


cdef const char *PAIRS = (
    b"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    b"5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"
)


cdef void write_u64(char *end, uint64_t value) noexcept nogil:
    """Decimal, so that it ends before ``end``: at most 20 bytes. Two digits at a time, which halves the divisions."""
    while value >= 100:
        end -= 2
        memcpy(end, PAIRS + value % 100 * 2, 2)
        value //= 100
    if value >= 10:
        memcpy(end - 2, PAIRS + value * 2, 2)
    else:
        (end - 1)[0] = <char>(c"0" + value)


cdef size_t decimal_length(uint64_t value) noexcept nogil:
    cdef size_t length = 1
    while value >= 10000:
        value //= 10000
        length += 4
    if value >= 1000:
        return length + 3
    if value >= 100:
        return length + 2
    return length + 1 if value >= 10 else length


cdef void put_u64(Text *text, uint64_t value) noexcept nogil:
    put_u64_right(text, value, 0)


cdef void put_u64_right(Text *text, uint64_t value, size_t width) noexcept nogil:
    """Decimal, padded with blanks on the left to ``width`` (printf's %*lu)."""
    cdef size_t length = decimal_length(value)
    if width > length:
        put_fill(text, c" ", width - length)
    if text_reserve(text, length):
        text.length += length
        write_u64(text.data + text.length, value)


cdef void put_hundredths(Text *text, uint64_t hundredths) noexcept nogil:
    """Two decimals, as /proc/uptime and /proc/loadavg have them: 105 is ``1.05``."""
    put_u64(text, hundredths // 100)
    put_char(text, c".")
    put_char(text, <char>(c"0" + hundredths // 10 % 10))
    put_char(text, <char>(c"0" + hundredths % 10))
