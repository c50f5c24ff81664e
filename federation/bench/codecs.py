# SPDX-License-Identifier: Apache-2.0
"""How fast codecs are beside a plain copy of the same vector, on all cores, and that compiled and numpy bytes agree.

Speeds count 4 bytes per element of one operand, for copies too. What is timed is what jobs and coordinator do: encode =
theta - local, quantise, pack; with feedback also what error feedback adds; decode-and-accumulate = unpack, multiply by
a site's weight, add. Chunks on threads, each in strips that stay in the cache, into memory that is there already.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from federation.bench.figures import Document, Samples, machine
from federation.bench.references import copy_seconds
from federation.chunk_pool import in_order, num_threads_here
from federation.chunks import CHUNK_ELEMENTS, ChunkGrid, Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.payload import bytes_of, payload_bytes
from federation.codecs.registry import get_codec
from federation.errors import DigestMismatchError
from federation.kernels import api as kernels

FP32_BYTES: Final = 4
BETA: Final = 0.95
WEIGHT: Final = 0.25
_STRIDE: Final = 7_919
_THETA_SCALE: Final = 0.02
_DELTA_SCALE: Final = 1e-3

Work = Callable[[int], None]


@dataclass(kw_only=True)
class CodecBench:
    """Codecs on one pair of vectors.

    Attributes:
        num_elements: of theta and of local.
        num_samples: of each figure, after one that does not count.
    """

    num_elements: int
    num_samples: int = 5
    say: Callable[[str], None] = lambda _: None
    theta: Float32Vector = field(init=False)
    local: Float32Vector = field(init=False)
    _copies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.theta, self.local = np.empty((2, self.num_elements), np.float32)
        _fill(self.theta, self.local)

    def run(self, names: Sequence[str]) -> Document:
        """Measures these codecs.

        Raises:
            DigestMismatchError: compiled code and the numpy reference give different bits.
        """
        found = {}
        for name in names:
            self.say(name)
            target = np.zeros_like(self.theta)
            self._copies += copy_seconds(self.theta, target, self.num_samples).values
            found[name] = self._measure(get_codec(name), target)
        copies = Samples.of([self._rate(seconds) for seconds in self._copies])
        return {
            "benchmark": "codecs",
            "machine": machine(),
            "num_parameters": self.num_elements,
            "num_threads": num_threads_here(),
            "num_samples": self.num_samples,
            "copy_bytes_per_second": copies.median,
            "copy": copies.document,
            "codecs": {name: _with_shares(figures, copies.median) for name, figures in found.items()},
        }

    def _measure(self, codec: Codec, g: Float32Vector) -> dict[str, Samples]:
        compiled = _Kernels(codec, self.theta, self.local, g)
        reference = _Reference(codec, self.theta, self.local)
        figures = {
            "encode": self._rates(compiled.encode),
            "encode_with_feedback": self._rates(compiled.encode_with_feedback),
            "numpy_encode": self._rates(reference.encode),
        }
        # The last to encode wrote with feedback; what is compared and decoded is without.
        self._all_chunks(compiled.encode)
        _expect_equal(compiled.payload, reference.payload, f"{codec.name}: payload")
        figures["decode_accumulate"] = self._rates(compiled.decode_accumulate)
        g[:] = 0
        figures["numpy_decode_accumulate"] = self._rates(reference.decode_accumulate)
        reference.g[:] = 0
        self._all_chunks(compiled.decode_accumulate)
        self._all_chunks(reference.decode_accumulate)
        _expect_equal(g.view(np.uint8), reference.g.view(np.uint8), f"{codec.name}: accumulated")
        figures["bytes_per_parameter"] = Samples.of([payload_bytes(codec, self.num_elements) / self.num_elements])
        return figures

    def _rates(self, work: Work) -> Samples:
        self._all_chunks(work)
        return Samples.of([self._rate(self._all_chunks(work)) for _ in range(self.num_samples)])

    def _all_chunks(self, work: Work) -> float:
        began = time.perf_counter()
        for _ in in_order(work, ChunkGrid(self.num_elements).num_chunks, num_threads_here()):
            pass
        return time.perf_counter() - began

    def _rate(self, seconds: float) -> float:
        return FP32_BYTES * self.num_elements / seconds


class _Kernels:
    """The compiled way."""

    def __init__(self, codec: Codec, theta: Float32Vector, local: Float32Vector, g: Float32Vector) -> None:
        self._codec, self._theta, self._local, self._g = codec, theta, local, g
        self._grid = ChunkGrid(theta.size)
        self._e, self._e_new = np.zeros((2, theta.size), np.float32)
        self.payload: ByteVector = np.zeros(payload_bytes(codec, theta.size), np.uint8)

    def encode(self, index: int) -> None:
        part = slice(*self._grid.bounds(index))
        out = self.payload[bytes_of(self._codec, part)]
        kernels.encode_difference(self._codec, self._theta[part], self._local[part], out)

    def encode_with_feedback(self, index: int) -> None:
        part = slice(*self._grid.bounds(index))
        theta, local, e, e_new = self._theta[part], self._local[part], self._e[part], self._e_new[part]
        out = self.payload[bytes_of(self._codec, part)]
        kernels.encode_difference_with_feedback(self._codec, theta, local, e, BETA, out, e_new)

    def decode_accumulate(self, index: int) -> None:
        y = np.empty(kernels.STRIP_ELEMENTS, np.float32)
        for strip in kernels.strips_of(*self._grid.bounds(index)):
            part = y[: strip.stop - strip.start]
            kernels.decode_into(self._codec, self.payload[bytes_of(self._codec, strip)], part)
            kernels.add_scaled(self._g[strip], WEIGHT, part)


class _Reference:
    """The numpy way: whole chunks, new arrays."""

    def __init__(self, codec: Codec, theta: Float32Vector, local: Float32Vector) -> None:
        self._codec, self._theta, self._local = codec, theta, local
        self._grid = ChunkGrid(theta.size)
        self.g = np.zeros_like(theta)
        self.payload: ByteVector = np.zeros(payload_bytes(codec, theta.size), np.uint8)

    def encode(self, index: int) -> None:
        part = slice(*self._grid.bounds(index))
        x = np.subtract(self._theta[part], self._local[part])
        self.payload[bytes_of(self._codec, part)] = self._codec.encode(x)

    def decode_accumulate(self, index: int) -> None:
        part = slice(*self._grid.bounds(index))
        decoded = self._codec.decode(self.payload[bytes_of(self._codec, part)], part.stop - part.start)
        self.g[part] += np.float32(WEIGHT) * decoded


def _fill(theta: Float32Vector, local: Float32Vector) -> None:
    """Normal values, and the same after some training."""
    drawn = np.random.default_rng(0).standard_normal(CHUNK_ELEMENTS, np.float32)
    grid = ChunkGrid(theta.size)
    for index in range(grid.num_chunks):
        part, size = slice(*grid.bounds(index)), grid.num_real(index)
        theta[part] = np.float32(_THETA_SCALE) * np.roll(drawn, index * _STRIDE)[:size]
        local[part] = theta[part] + np.float32(_DELTA_SCALE) * np.roll(drawn, -index * _STRIDE - 1)[:size]


def _with_shares(figures: dict[str, Samples], copy: float) -> Document:
    document: Document = {"bytes_per_parameter": figures.pop("bytes_per_parameter").median}
    for name, samples in figures.items():
        document[f"{name}_bytes_per_second"] = samples.median
        document[f"{name}_share_of_copy"] = samples.median / copy
    document["spread"] = {name: samples.document for name, samples in figures.items()}
    return document


def _expect_equal(found: ByteVector, expected: ByteVector, what: str) -> None:
    if not np.array_equal(found, expected):
        count = int(np.count_nonzero(found != expected))
        raise DigestMismatchError(f"{what}: expected the numpy reference's bytes, found {count} others")
