"""Growing byte buffers: what views write and what kernel files are read into. See ``_fast/text.pyx``."""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset, strlen


cdef struct Text:
    char *data        # NUL-terminated whenever length is settled by the functions here
    size_t length     # bytes
    size_t capacity   # bytes
    bint broken       # memory ran out: what is in it is incomplete


cdef void text_init(Text *text) noexcept nogil
cdef void text_free(Text *text) noexcept nogil
cdef bint text_grow(Text *text, size_t extra) noexcept nogil
cdef void write_u64(char *end, uint64_t value) noexcept nogil
cdef void put_u64(Text *text, uint64_t value) noexcept nogil
cdef void put_u64_right(Text *text, uint64_t value, size_t width) noexcept nogil
cdef void put_hundredths(Text *text, uint64_t hundredths) noexcept nogil


cdef inline void text_clear(Text *text) noexcept nogil:
    text.length = 0
    text.broken = False


cdef inline bint text_reserve(Text *text, size_t extra) noexcept nogil:
    """Room for ``extra`` more bytes and a NUL; False (and ``broken``) when memory ran out."""
    if text.length + extra < text.capacity:
        return True
    return text_grow(text, extra)


cdef inline void put(Text *text, const char *data, size_t size) noexcept nogil:
    if text_reserve(text, size):
        memcpy(text.data + text.length, data, size)
        text.length += size


cdef inline void put_str(Text *text, const char *string) noexcept nogil:
    put(text, string, strlen(string))


cdef inline void put_char(Text *text, char character) noexcept nogil:
    put(text, &character, 1)


cdef inline void put_fill(Text *text, char character, size_t count) noexcept nogil:
    if text_reserve(text, count):
        memset(text.data + text.length, character, count)
        text.length += count
