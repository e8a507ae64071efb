"""Kernel text as no kernel prints it: whole files, lines, words and bytes of it spoilt."""

import random
import re
from collections.abc import Callable

from tests.fuzz.numbers import WORDS

_NUMBER = re.compile(rb"\d+")
_SEPARATORS = (b" ", b"\n", b":", b"\t", b"=", b"/", b",", b"-", b"\0", b"(", b")", b"")
_MOST_BYTES = 300_000


def _word(rng: random.Random) -> bytes:
    return rng.choice(WORDS).encode()


def _flip_bytes(rng: random.Random, text: bytes) -> bytes:
    changed = bytearray(text)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] = rng.choice((rng.randrange(256), 0, 10, 32, 45, 57, 255))
    return bytes(changed)


def _truncate(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(len(text))]


def _behead(rng: random.Random, text: bytes) -> bytes:
    return text[rng.randrange(len(text)) :]


def _of_lines(change: Callable[[random.Random, list[bytes]], None]) -> Callable[[random.Random, bytes], bytes]:
    def spoil(rng: random.Random, text: bytes) -> bytes:
        lines = text.splitlines(keepends=True)
        change(rng, lines)
        return b"".join(lines)

    return spoil


def _duplicate(rng: random.Random, lines: list[bytes]) -> None:
    at = rng.randrange(len(lines))
    lines[at:at] = [rng.choice(lines)] * rng.choice((1, 1, 2, 300))


def _drop(rng: random.Random, lines: list[bytes]) -> None:
    at = rng.randrange(len(lines))
    del lines[at : at + rng.choice((1, 1, 2, 10))]


def _swap(rng: random.Random, lines: list[bytes]) -> None:
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]


def _empty_line(rng: random.Random, lines: list[bytes]) -> None:
    lines.insert(rng.randrange(len(lines) + 1), rng.choice((b"\n", b"\n\n", b" \n", b"\t", b"\r\n", b"\v\f")))


def _huge_line(rng: random.Random, lines: list[bytes]) -> None:
    at = rng.randrange(len(lines))
    lines[at] = lines[at].rstrip(b"\n") + rng.choice((b"7", b" ", b"x", b" 1", b"/a", b",9")) * rng.choice(
        (300, 4096, 70_000)
    )


def _no_number(_: random.Random, text: bytes) -> bytes:
    return _NUMBER.sub(b"x", text)


def _another_number(rng: random.Random, text: bytes) -> bytes:
    found = list(_NUMBER.finditer(text))
    for match in sorted(rng.sample(found, min(len(found), rng.choice((1, 1, 1, 2, 4)))), key=lambda m: -m.start()):
        text = text[: match.start()] + _word(rng) + text[match.end() :]
    return text


def _every_number(rng: random.Random, text: bytes) -> bytes:
    word = _word(rng)
    return _NUMBER.sub(lambda _: word, text)


def _a_little_beside(rng: random.Random, text: bytes) -> bytes:
    """A number that is off by one, or ten times as large."""
    found = list(_NUMBER.finditer(text))
    if not found:
        return text
    match = rng.choice(found)
    number = max(0, int(match[0][:30]) * rng.choice((1, 10, 1000)) + rng.choice((-1, 0, 1)))
    return text[: match.start()] + str(number).encode() + text[match.end() :]


def _insert(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text) + 1)
    more = rng.choice(
        (_word(rng), rng.randbytes(rng.randrange(1, 40)), rng.choice(_SEPARATORS) * rng.choice((1, 3, 70)))
    )
    return text[:at] + more + text[at:]


def _cut_out(rng: random.Random, text: bytes) -> bytes:
    start = rng.randrange(len(text))
    return text[:start] + text[start + rng.choice((1, 1, 2, 5, 30)) :]


def _other_separator(rng: random.Random, text: bytes) -> bytes:
    return text.replace(rng.choice(_SEPARATORS[:-1]), rng.choice(_SEPARATORS), rng.choice((1, 1, -1)))


def _without_last_newline(_: random.Random, text: bytes) -> bytes:
    return text.rstrip(b"\n")


def _twice(_: random.Random, text: bytes) -> bytes:
    return text + text


def _empty(_: random.Random, __: bytes) -> bytes:
    return b""


def _zeros(_: random.Random, text: bytes) -> bytes:
    return bytes(len(text))


def _binary(rng: random.Random, _: bytes) -> bytes:
    return rng.randbytes(rng.choice((1, 7, 100, 5000)))


_OFTEN = (_flip_bytes, _another_number, _another_number, _a_little_beside, _insert, _cut_out, _truncate)
_SELDOM = (
    _behead, _of_lines(_duplicate), _of_lines(_drop), _of_lines(_drop), _of_lines(_swap), _of_lines(_empty_line),
    _of_lines(_huge_line), _no_number, _every_number, _every_number, _other_separator, _other_separator,
    _without_last_newline, _twice, _empty, _zeros, _binary,
)  # fmt: skip


def spoilt(rng: random.Random, text: bytes) -> bytes:
    """The text of a file after one to four accidents."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not text:
            return rng.choice((b"", b"\n", b" ", b"\0", _word(rng)))
        text = rng.choice(_OFTEN if rng.random() < 0.6 else _SELDOM)(rng, text)
    return text[:_MOST_BYTES]
