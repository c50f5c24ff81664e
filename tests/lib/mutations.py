# SPDX-License-Identifier: Apache-2.0
"""Valid bytes, damaged in the ways that break decoders: bits, bytes, numbers, lengths, spans, and other valid bytes."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Repair: TypeAlias = Callable[[bytes], bytes]
"""Makes checksums right again, so that damage gets past them."""

_BYTES = (0x00, 0x01, 0x07, 0x08, 0x0F, 0x10, 0x7F, 0x80, 0x81, 0x88, 0xF0, 0xFE, 0xFF)
_HALVES = (0x0000, 0x0001, 0x7B80, 0x7B81, 0x7BFF, 0x7C00, 0x7F7F, 0x7F80, 0x8000, 0xFC00, 0xFF80, 0xFFFF)
_WORDS = (0, 1, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x80000000, 0xFF800000, 0xFFFFFFFF, 0x40000000)


@dataclass(frozen=True)
class Sample:
    """Bytes, and which of a decoder's settings they belong to."""

    variant: int
    data: bytes


class Mutator:
    """An endless sequence of damaged samples, the same for the same seed."""

    def __init__(self, samples: Sequence[Sample], seed: str, repair: Repair | None = None) -> None:
        self._samples = samples
        self._repair = repair
        self._draw = random.Random(seed).random
        self._operations: tuple[Callable[[bytearray], None], ...] = (
            *(self._flip,) * 5,
            *(self._set_byte,) * 3,
            *(self._count,) * 2,
            self._set_number,
            self._truncate,
            self._extend,
            self._splice,
            self._copy_span,
            self._clear_span,
        )

    def next(self) -> Sample:
        """One to three operations on one sample, with its checksums repaired every other time."""
        sample = self._samples[self._below(len(self._samples))]
        data = bytearray(sample.data)
        for _ in range(1 + int(self._draw() * 1.5) + int(self._draw() * 1.2)):
            self._operations[self._below(len(self._operations))](data)
        if self._repair is not None and self._draw() < 0.5:
            return Sample(sample.variant, self._repair(bytes(data)))
        return Sample(sample.variant, bytes(data))

    def _below(self, stop: int) -> int:
        return int(self._draw() * stop)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._below(len(data))] ^= 1 << self._below(8)

    def _set_byte(self, data: bytearray) -> None:
        if data:
            value = _BYTES[self._below(len(_BYTES))] if self._draw() < 0.7 else self._below(256)
            data[self._below(len(data))] = value

    def _count(self, data: bytearray) -> None:
        if data:
            where = self._below(len(data))
            data[where] = (data[where] + (1 if self._draw() < 0.5 else -1)) & 255

    def _set_number(self, data: bytearray) -> None:
        if self._draw() < 0.5:
            number = struct.pack("<H", _HALVES[self._below(len(_HALVES))])
        else:
            number = struct.pack("<I", _WORDS[self._below(len(_WORDS))])
        where = self._below(len(data) + 1)
        data[where : where + len(number)] = number[: max(len(data) - where, 0)]

    def _truncate(self, data: bytearray) -> None:
        del data[self._below(len(data) + 1) :]

    def _extend(self, data: bytearray) -> None:
        tail = bytes(data[-self._below(9) :]) if self._draw() < 0.5 else bytes(1 + self._below(16))
        data += tail or b"\0"

    def _splice(self, data: bytearray) -> None:
        other = self._samples[self._below(len(self._samples))].data
        start = self._below(len(other) + 1)
        stop = start + self._below(len(other) - start + 1)
        data[start:stop] = other[start:stop]

    def _copy_span(self, data: bytearray) -> None:
        source, target, length = self._below(len(data) + 1), self._below(len(data) + 1), 1 + self._below(8)
        span = data[source : source + length]
        data[target : target + len(span)] = span

    def _clear_span(self, data: bytearray) -> None:
        start = self._below(len(data) + 1)
        stop = min(start + 1 + self._below(8), len(data))
        data[start:stop] = bytes(max(stop - start, 0))
