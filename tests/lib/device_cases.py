# SPDX-License-Identifier: Apache-2.0
"""Inputs of the device's kernels, chosen to break them, and what the numpy reference makes of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector
from federation.codecs.registry import get_codec
from federation.codecs.scaled_int import MAX_MAGNITUDE
from federation.error_feedback import encode_with_feedback
from federation.errors import MalformedPayloadError, NonFiniteUpdateError
from federation.golden import inputs
from federation.pseudo_gradient import merge

BETA = 0.95
ALPHA = 0.3
NAMES = ("int4", "int8")
SIZES = (1, 127, 128, 129, 2048, 2049, 5000)


@dataclass(frozen=True)
class EncodeCase:
    name: str
    codec: str
    theta: Float32Vector
    local: Float32Vector
    feedback: Float32Vector | None

    def expected(self) -> tuple[bytes, bytes] | None:
        """Payload and candidate by the reference, None if it refuses."""
        codec, delta = get_codec(self.codec), np.subtract(self.theta, self.local)
        try:
            if self.feedback is None:
                return codec.encode(delta).tobytes(), b""
            payload, candidate = encode_with_feedback(codec, delta, self.feedback, BETA)
            return payload, candidate.tobytes()
        except NonFiniteUpdateError:
            return None


@dataclass(frozen=True)
class ApplyCase:
    name: str
    codec: str
    payload: npt.NDArray[np.uint8]
    theta: Float32Vector
    local: Float32Vector | None

    def expected(self) -> tuple[bytes, bytes] | None:
        """theta and local by the reference, None if it refuses."""
        try:
            decoded = get_codec(self.codec).decode(self.payload, self.theta.size)
        except MalformedPayloadError:
            return None
        theta = np.subtract(self.theta, decoded)
        return theta.tobytes(), b"" if self.local is None else merge(theta, self.local, ALPHA).tobytes()


def encode_cases() -> Iterator[EncodeCase]:
    for codec in NAMES:
        for name, theta, local, feedback in _triples():
            yield EncodeCase(f"{codec}-{name}", codec, theta, local, None)
            yield EncodeCase(f"{codec}-{name}-feedback", codec, theta, local, feedback)


def apply_cases() -> Iterator[ApplyCase]:
    for codec in NAMES:
        for name, theta, local, payload in _payloads(codec):
            yield ApplyCase(f"{codec}-{name}", codec, payload, theta, None)
            yield ApplyCase(f"{codec}-{name}-merged", codec, payload, theta, local)


def _triples() -> Iterator[tuple[str, Float32Vector, Float32Vector, Float32Vector]]:
    for size in SIZES:
        yield (f"usual-{size}", *(inputs.usual(seed, size) for seed in (1, 2, 3)))
    zeros = np.zeros(1000, np.float32)
    yield "wide", np.clip(inputs.wide(1, 1000), -(2.0**99), 2.0**99), zeros, inputs.usual(1, 1000)
    for seed in range(4):
        yield f"tiny-{seed}", inputs.tiny(seed, 1000), zeros, inputs.tiny(seed + 7, 1000)
    yield "ties", inputs.halves(1, 1000), zeros, inputs.halves(2, 1000)
    yield "ties-of-the-scale", *_ties_of_the_scale()
    yield "negative-zeros", -zeros, zeros, -zeros
    yield "nothing", inputs.usual(1, 300), inputs.usual(1, 300), zeros[:300]
    # The largest in a block is 10 times the smallest bf16: the scale is rounded down and the integer clipped.
    yield "clipped", np.full(300, 10 * 2.0**-133, np.float32), zeros[:300], zeros[:300]
    limit = float(MAX_MAGNITUDE)
    above = float(np.nextafter(MAX_MAGNITUDE, np.float32(np.inf)))
    for value in (limit, -limit, above, -above, 3e38, np.inf, -np.inf, np.nan, -np.nan):
        for where in (0, 130, 299):
            yield f"{value:.8g}-at-{where}", *_one(value, where)


def _ties_of_the_scale() -> tuple[Float32Vector, Float32Vector, Float32Vector]:
    """max/7 and max/127 half-way between two bf16 values, below an even one and below an odd one."""
    theta = inputs.usual(1, 512)
    for block, scale in enumerate((1 + 2**-8, 1 + 3 * 2**-8, 7 / 127 * (1 + 2**-8), 2.0**-126 * 7.5)):
        theta[128 * block + 5] = np.float32(7 * scale)
    return theta, np.zeros(512, np.float32), inputs.tiny(1, 512)


def _one(value: float, where: int) -> tuple[Float32Vector, Float32Vector, Float32Vector]:
    theta = np.ones(300, np.float32)
    theta[where] = value
    return theta, np.zeros(300, np.float32), np.zeros(300, np.float32)


def _payloads(name: str) -> Iterator[tuple[str, Float32Vector, Float32Vector, npt.NDArray[np.uint8]]]:
    codec = get_codec(name)
    for size in SIZES:
        theta, local = inputs.usual(1, size), inputs.usual(2, size)
        yield f"usual-{size}", theta, local, codec.encode(inputs.usual(3, size))
    theta, local = inputs.usual(1, 300), inputs.wide(2, 300)
    yield "tiny", inputs.tiny(4, 300), local, codec.encode(inputs.tiny(1, 300))
    yield "wide", inputs.wide(5, 300), local, codec.encode(np.clip(inputs.wide(3, 300), -(2.0**99), 2.0**99))
    whole = codec.encode(inputs.usual(3, 300))
    for label, offset, values in _damages(codec.bytes_per_block):
        payload = whole.copy()
        payload[offset : offset + len(values)] = values
        yield label, theta, local, payload
    drawn = np.random.default_rng(1)
    for seed in range(20):
        payload = whole.copy()
        payload[drawn.integers(0, payload.size)] = drawn.integers(0, 256)
        yield f"damaged-{seed}", theta, local, payload


def _damages(block: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    yield "largest-scale", block, (0x80, 0x7B)
    yield "scale-above-the-largest", block, (0x81, 0x7B)
    yield "negative-scale", 0, (0x80, 0xBF)
    yield "infinite-scale", 0, (0x80, 0x7F)
    yield "integer-too-negative", block + 2, (0x88 if block == 66 else 0x80,)
    yield "zero-scale-of-others", 0, (0, 0)
    yield "padding-not-zero", 3 * block - 1, (0x10,)
    # The first element that is not real: number 300, 44 into the last block.
    yield "first-padding-not-zero", 2 * block + 2 + (22 if block == 66 else 44), (0x01,)
