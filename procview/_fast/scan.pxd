"""Reading numbers and lines out of kernel text. See ``_fast/scan.pyx``."""

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp

cdef struct Span:
    const char *at
    const char *end


cdef bint scan_u64(Span *rest, uint64_t *value) noexcept nogil
cdef bint scan_word(Span *rest, Span *word) noexcept nogil
cdef bint scan_limit(Span text, uint64_t *value) noexcept nogil
cdef bint scan_keyed(Span text, const char *key, uint64_t *value) noexcept nogil
cdef size_t unescape_octal(char *text, size_t length) noexcept nogil


cdef inline uint64_t UNLIMITED() noexcept nogil:
    return <uint64_t>-1


cdef inline Span span(const char *data, size_t length) noexcept nogil:
    cdef Span whole
    whole.at = data
    whole.end = data + length
    return whole


cdef inline size_t span_length(Span text) noexcept nogil:
    return <size_t>(text.end - text.at)


cdef inline bint span_is(Span text, const char *literal, size_t length) noexcept nogil:
    return span_length(text) == length and memcmp(text.at, literal, length) == 0


cdef inline bint span_starts(Span text, const char *literal, size_t length) noexcept nogil:
    return span_length(text) >= length and memcmp(text.at, literal, length) == 0


cdef inline bint next_line(Span *rest, Span *line) noexcept nogil:
    """Take the next line, without its newline; a last line without one counts. False at the end."""
    cdef const char *newline
    if rest.at >= rest.end:
        return False
    newline = <const char *>memchr(rest.at, c"\n", <size_t>(rest.end - rest.at))
    line.at = rest.at
    if newline == NULL:
        line.end = rest.end
        rest.at = rest.end
    else:
        line.end = newline
        rest.at = newline + 1
    return True


cdef inline void skip_blanks(Span *rest) noexcept nogil:
    while rest.at < rest.end and (rest.at[0] == c" " or rest.at[0] == c"\t"):
        rest.at += 1
