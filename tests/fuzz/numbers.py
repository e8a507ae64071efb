"""Numbers at which something may go wrong: the edges of types, of pages, and of what the protocol packs into bits."""

import random

U32 = (0, 1, 2, 3, 7, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 2**24 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 2,
       2**32 - 1)  # fmt: skip
U64 = (*U32, 2**32, 2**33 + 1, 2**40, 2**47, 2**53, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 4096, 2**64 - 2,
       2**64 - 1)  # fmt: skip
WORDS = (
    *(str(number) for number in U64),
    *(
        "18446744073709551616",
        "99999999999999999999",
        "9" * 100,
        "9" * 5000,
        "-1",
        "-9223372036854775808",
        "1.5",
        "1e9",
    ),
    *("0x10", "max", "nan", "+1", "00", "0" * 40 + "7", "", "x", "\0", "\N{SUPERSCRIPT TWO}"),
)
"""What may stand where a kernel prints a number."""


def u32(rng: random.Random) -> int:
    return rng.choice(U32) if rng.random() < 0.8 else rng.getrandbits(32)


def u64(rng: random.Random) -> int:
    return rng.choice(U64) if rng.random() < 0.8 else rng.getrandbits(64)
