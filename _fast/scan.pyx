# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reading numbers and lines out of kernel text.

Text of the kernel may be cut short, empty or not a number where this runs on a broken host: a reader says False,
and the caller treats the file as absent. Numbers beyond 64 bits stay at 2^64-1.
"""

from libc.stdint cimport uint64_t
from libc.string cimport strlen


cdef enum:
    SAFE_DIGITS = 19   # that many nines still fit 64 bits


cdef bint scan_u64(Span *rest, uint64_t *value) noexcept nogil:
    """Skip blanks, take a decimal number. False, with nothing taken but the blanks, where there is none."""
    cdef uint64_t total = 0
    cdef uint64_t digit
    cdef const char *at = rest.at
    cdef const char *end = rest.end
    cdef const char *start
    while at < end and (at[0] == c" " or at[0] == c"\t"):
        at += 1
    start = at
    if end - at > SAFE_DIGITS:
        end = at + SAFE_DIGITS
    while at < end:
        digit = <uint64_t>(<unsigned char>at[0]) - c"0"
        if digit > 9:
            break
        total = total * 10 + digit
        at += 1
    if at == start + SAFE_DIGITS:
        # A 20th digit may fit, a 21st cannot.
        while at < rest.end and c"0" <= at[0] <= c"9":
            digit = <uint64_t>(at[0] - c"0")
            total = <uint64_t>-1 if total > (<uint64_t>-1 - digit) // 10 else total * 10 + digit
            at += 1
    rest.at = at
    if at == start:
        return False
    value[0] = total
    return True


cdef bint scan_word(Span *rest, Span *word) noexcept nogil:
    """Skip blanks, take all up to the next blank or newline. False where nothing is left."""
    skip_blanks(rest)
    word.at = rest.at
    while rest.at < rest.end and rest.at[0] != c" " and rest.at[0] != c"\t" and rest.at[0] != c"\n":
        rest.at += 1
    word.end = rest.at
    return word.end > word.at


cdef bint scan_limit(Span text, uint64_t *value) noexcept nogil:
    """A limit file: a number of bytes, ``max`` (v2) or PAGE_COUNTER_MAX or more (v1), the last two being unlimited."""
    cdef uint64_t number
    if span_starts(text, b"max", 3):
        value[0] = UNLIMITED()
        return True
    if not scan_u64(&text, &number):
        return False
    # PAGE_COUNTER_MAX in bytes is LONG_MAX rounded down to a page; the largest page in use is 64 KiB.
    if number >= <uint64_t>0x7FFFFFFFFFFF0000:
        number = UNLIMITED()
    value[0] = number
    return True


cdef bint scan_keyed(Span text, const char *key, uint64_t *value) noexcept nogil:
    """The number behind ``key`` at the start of a line (``cpu.stat`` and its like)."""
    cdef Span line
    cdef size_t length = strlen(key)
    while next_line(&text, &line):
        if span_starts(line, key, length) and span_length(line) > length and line.at[length] == c" ":
            line.at += length
            return scan_u64(&line, value)
    return False


cdef size_t unescape_octal(char *text, size_t length) noexcept nogil:
    """Undo mountinfo's \\ooo in place; returns the new length."""
    cdef size_t source = 0
    cdef size_t target = 0
    while source < length:
        if (
            text[source] == c"\\" and source + 3 < length
            and c"0" <= text[source + 1] <= c"3"
            and c"0" <= text[source + 2] <= c"7"
            and c"0" <= text[source + 3] <= c"7"
        ):
            text[target] = <char>(
                (text[source + 1] - c"0") * 64 + (text[source + 2] - c"0") * 8 + (text[source + 3] - c"0")
            )
            source += 4
        else:
            text[target] = text[source]
            source += 1
        target += 1
    return target
