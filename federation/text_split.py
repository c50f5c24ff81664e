# SPDX-License-Identifier: Apache-2.0
"""Which lines of text are held out: decided by the line alone, so that every site and every run agrees.

No two parties ever need to exchange lists of lines, and a line that occurs at two sites is on the same side at both.
"""

from enum import StrEnum
from hashlib import blake2b

HELD_OUT_SHARE = 20
"""One line in so many is held out (5%)."""


class Split(StrEnum):
    """Which side of the split a line is on."""

    TRAIN = "train"
    HELD_OUT = "held-out"


def split_of(line: str) -> Split:
    """The side of one line of text, by a hash of the line without surrounding white space (BLAKE2b, 8 bytes)."""
    digest = blake2b(line.strip().encode(), digest_size=8, person=b"text-split").digest()
    return Split.HELD_OUT if int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0 else Split.TRAIN
