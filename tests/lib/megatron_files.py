# SPDX-License-Identifier: Apache-2.0
"""Writes NAME.bin and NAME.idx by the format's description, byte by byte, independently of the reader."""

import struct
from collections.abc import Sequence
from pathlib import Path

_CODES = {"u1": (1, "B"), "i1": (2, "b"), "i2": (3, "h"), "i4": (4, "i"), "i8": (5, "q"), "u2": (8, "H")}


def write_megatron(prefix: Path, documents: Sequence[Sequence[Sequence[int]]], dtype: str = "u2") -> Path:
    """Documents of sequences of token ids; returns the .bin file's path."""
    code, letter = _CODES[dtype]
    sequences = [sequence for document in documents for sequence in document]
    packed = [struct.pack(f"<{len(sequence)}{letter}", *sequence) for sequence in sequences]
    pointers, bounds = [0], [0]
    for data in packed:
        pointers.append(pointers[-1] + len(data))
    for document in documents:
        bounds.append(bounds[-1] + len(document))
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(sequences), len(bounds))
    index += struct.pack(f"<{len(sequences)}i", *map(len, sequences))
    index += struct.pack(f"<{len(sequences)}q", *pointers[:-1]) + struct.pack(f"<{len(bounds)}q", *bounds)
    prefix.with_name(f"{prefix.name}.idx").write_bytes(index)
    target = prefix.with_name(f"{prefix.name}.bin")
    target.write_bytes(b"".join(packed))
    return target
