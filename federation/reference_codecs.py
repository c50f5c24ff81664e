# SPDX-License-Identifier: Apache-2.0
"""The oracle's own codecs: plain, slow, and written apart from `federation.codecs`, whose bytes they must equal.

They expect finite vectors that the codec can hold, and bytes of their own; they refuse nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

_BLOCK = 128
_LARGEST = {"int8": 127, "int4": 7}
_SPARSE_BLOCK = 4096
_KEPT = {"sparse": 64, "sparse-down": 256}
_BLOCK_BYTES = {"sparse": 120, "sparse-down": 514}


def to_bf16(x: Vector) -> NDArray[np.uint16]:
    """Bits of the bf16 value nearest to each fp32 value, ties to the even one; finite x only."""
    below = (x.view(np.uint32) >> 16).astype(np.uint32)
    down, up = ((b << np.uint32(16)).view(np.float32).astype(np.float64) for b in (below, below + np.uint32(1)))
    far_down, far_up = np.abs(x - down), np.abs(up - x)
    take_up = (far_up < far_down) | ((far_up == far_down) & (below % 2 == 1))
    return np.where(take_up, below + 1, below).astype(np.uint16)


def from_bf16(bits: NDArray[np.uint16]) -> Vector:
    """The fp32 values of bf16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def encode(codec: str, x: Vector) -> bytes:
    """Bytes of a vector f32[n] under a codec: fp32, bf16, int8, int4, sparse or sparse-down."""
    if codec == "fp32":
        return x.astype("<f4").tobytes()
    if codec == "bf16":
        return to_bf16(x).astype("<u2").tobytes()
    if codec in _KEPT:
        one_block = _sparse_block if codec == "sparse" else _sparse_down_block
        return b"".join(one_block(x[start : start + _SPARSE_BLOCK]) for start in range(0, x.size, _SPARSE_BLOCK))
    largest = _LARGEST[codec]
    blocks = np.zeros((-(-x.size // _BLOCK), _BLOCK), np.float32)
    blocks.reshape(-1)[: x.size] = x
    bits = to_bf16(np.abs(blocks).max(axis=1) / np.float32(largest))
    scale = from_bf16(bits)[:, None]
    q = np.rint(np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0))
    body = np.clip(q, -largest, largest).astype(np.int8).view(np.uint8)
    if codec == "int4":
        body = (body[:, 0::2] & 15) + 16 * (body[:, 1::2] & 15)
    return np.concatenate([bits.astype("<u2").view(np.uint8).reshape(-1, 2), body], axis=1).tobytes()


def decode(codec: str, data: bytes, num_elements: int) -> Vector:
    """The vector f32[num_elements] that bytes of `encode` stand for."""
    if codec == "fp32":
        return np.frombuffer(data, "<f4").astype(np.float32)
    if codec == "bf16":
        return from_bf16(np.frombuffer(data, "<u2").astype(np.uint16))
    if codec in _KEPT:
        return _decode_sparse(codec, data, num_elements)
    rows = np.frombuffer(data, np.uint8).reshape(-(-num_elements // _BLOCK), -1)
    scale = from_bf16(rows[:, :2].astype(np.uint16) @ np.array([1, 256], np.uint16))
    body = rows[:, 2:].view(np.int8)
    if codec == "int4":
        nibbles = np.stack([rows[:, 2:] % 16, rows[:, 2:] // 16], axis=2).reshape(len(rows), _BLOCK).astype(np.int8)
        body = np.where(nibbles > 7, nibbles - 16, nibbles)
    return (body.astype(np.float32) * scale[:, None]).reshape(-1)[:num_elements]


def _sparse_block(x: Vector) -> bytes:
    """64 of at most 4096 elements: their places, a code of sign and size for each, and what each code stands for."""
    kept = _largest(x, 64)
    values = [float(x[i]) for i in kept]
    threshold = _mean([abs(v) for v in values])
    codes = [(v < 0) * 2 + (abs(v) > threshold) for v in values]
    means = [_mean([v for v, c in zip(values, codes, strict=True) if c == code]) for code in range(4)]
    book = np.array(means, np.float64).astype(np.float32).astype("<f2")
    return _packed(_filled(kept, 64), 12) + _packed(codes + [0] * (64 - len(kept)), 2) + book.tobytes()


def _sparse_down_block(x: Vector) -> bytes:
    """256 of at most 4096 elements: the scale that int4 would have, their places, their integers."""
    kept = _largest(x, 256)
    bits = to_bf16(np.abs(x).max(keepdims=True) / np.float32(7))
    scale = from_bf16(bits)
    q = np.clip(np.rint(x[kept] / scale), -7, 7).astype(int) if scale > 0 else np.zeros(len(kept), int)
    return (
        bits.astype("<u2").tobytes() + _packed(_filled(kept, 256), 12) + _packed([*(q % 16), *[0] * (256 - len(q))], 4)
    )


def _decode_sparse(codec: str, data: bytes, num_elements: int) -> Vector:
    x, size, k = np.zeros(num_elements, np.float32), _BLOCK_BYTES[codec], _KEPT[codec]
    for block in range(len(data) // size):
        stored = data[block * size : (block + 1) * size]
        if codec == "sparse":
            places, codes = _unpacked(stored[: 3 * k // 2], 12), _unpacked(stored[3 * k // 2 : -8], 2)
            values = np.frombuffer(stored[-8:], "<f2").astype(np.float32)[codes]
        else:
            places, codes = _unpacked(stored[2 : 2 + 3 * k // 2], 12), _unpacked(stored[-k // 2 :], 4)
            scale = from_bf16(np.frombuffer(stored[:2], "<u2").astype(np.uint16))
            values = np.array([c - 16 if c > 7 else c for c in codes], np.float32) * scale
        # Backwards, so that of a place that is filled up with repetitions the first and only real entry remains.
        for place, value in zip(reversed(places), reversed(values), strict=True):
            x[block * _SPARSE_BLOCK + place] = value
    return x


def _largest(x: Vector, k: int) -> list[int]:
    """Places of the k largest magnitudes but zeros, in ascending order; of equal ones the first."""
    by_size = np.argsort(-np.abs(x), kind="stable")[:k]
    return sorted(int(i) for i in by_size if x[i] != 0)


def _filled(places: list[int], k: int) -> list[int]:
    """k places: what is left over repeats the last one, 0 where there is none."""
    return places + [max(places, default=0)] * (k - len(places))


def _mean(values: Sequence[float]) -> float:
    """Mean in fp64, added one by one (`sum` of Python 3.12 and later compensates); 0.0 of nothing."""
    total = 0.0
    for value in values:
        total = total + value
    return total / len(values) if values else 0.0


def _packed(values: Sequence[int], num_bits: int) -> bytes:
    """Unsigned integers as one long little-endian number, the first in the lowest bits."""
    number = sum(int(value) << num_bits * place for place, value in enumerate(values))
    return number.to_bytes(len(values) * num_bits // 8, "little")


def _unpacked(data: bytes, num_bits: int) -> list[int]:
    """The reverse of `_packed`."""
    number = int.from_bytes(data, "little")
    return [number >> start & (1 << num_bits) - 1 for start in range(0, 8 * len(data), num_bits)]
