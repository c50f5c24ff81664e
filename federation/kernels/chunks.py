# SPDX-License-Identifier: Apache-2.0
"""Whole steps of the update path on a chunk, one compiled call each (`spans`); in strips where nothing is compiled.

Vectors of a call have the same number of elements, 1 to 2^20; `raw` and `out` are the bytes of just those. Where the
compiled code refuses, the numpy reference repeats the step and raises its error.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np

from federation.chunks import CHUNK_ELEMENTS, Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.payload import bytes_of
from federation.kernels import strips
from federation.kernels.dispatch import codec_numbers, span_kernels
from federation.pseudo_gradient import NUM_LANES, Lanes, fold_rows

State: TypeAlias = tuple[Float32Vector, Float32Vector, Float32Vector]
"""theta, momentum, residual of a chunk."""


def encode_difference(codec: Codec, theta: Float32Vector, local: Float32Vector, out: ByteVector) -> None:
    """out = encode(theta - local). Raises NonFiniteUpdateError."""
    _check(codec, theta.size, out, local)
    numbers, spans = codec_numbers(codec.name), span_kernels()
    if numbers is None or spans is None:
        _encode_difference(codec, theta, local, out)
    elif spans.encode_difference(numbers, theta, local, out) != 0:
        codec.encode(np.subtract(theta, local))
        raise _unfounded(codec)


def encode_difference_with_feedback(
    codec: Codec,
    theta: Float32Vector,
    local: Float32Vector,
    e: Float32Vector,
    beta: float,
    out: ByteVector,
    e_out: Float32Vector,
) -> None:
    """x = beta e + (theta - local), out = encode(x), e_out = x - decode(out); `e_out` shares memory with none.

    Raises:
        NonFiniteUpdateError: x holds what the codec cannot.
    """
    _check(codec, theta.size, out, local, e, e_out)
    numbers, spans = codec_numbers(codec.name), span_kernels()
    if numbers is None or spans is None:
        _encode_with_feedback(codec, theta, local, e, beta, out, e_out)
    elif spans.encode_difference_with_feedback(numbers, theta, local, e, np.float32(beta), out, e_out) != 0:
        codec.encode(np.add(np.multiply(np.float32(beta), e), np.subtract(theta, local)))
        raise _unfounded(codec)


def apply_to(codec: Codec, raw: ByteVector, theta: Float32Vector, theta_out: Float32Vector) -> None:
    """theta_out = theta - decode(raw); `theta_out` may be `theta`.

    Raises:
        MalformedPayloadError, NonFiniteUpdateError: the bytes break their format.
    """
    _check(codec, theta.size, raw, theta_out)
    numbers, spans = codec_numbers(codec.name), span_kernels()
    if numbers is None or spans is None:
        for part, decoded in _decoded_strips(codec, raw, theta.size):
            strips.subtract(theta[part], decoded, theta_out[part])
    elif spans.apply_to(numbers, raw, theta, theta_out) != 0:
        codec.decode(raw, theta.size)
        raise _unfounded(codec)


def apply_and_merge(
    codec: Codec,
    raw: ByteVector,
    theta: Float32Vector,
    local: Float32Vector,
    alpha: float,
    theta_out: Float32Vector,
    local_out: Float32Vector,
) -> None:
    """theta_out = theta - decode(raw), local_out = theta_out + alpha (local - theta_out), each operation rounded.

    `theta_out` may be `theta`, `local_out` may be `local`. Raises MalformedPayloadError, NonFiniteUpdateError.
    """
    _check(codec, theta.size, raw, local, theta_out, local_out)
    numbers, spans = codec_numbers(codec.name), span_kernels()
    if numbers is None or spans is None:
        for part, decoded in _decoded_strips(codec, raw, theta.size):
            strips.subtract(theta[part], decoded, theta_out[part])
            strips.merge_into(theta_out[part], local[part], alpha, local_out[part])
    elif spans.apply_and_merge(numbers, raw, theta, local, np.float32(alpha), theta_out, local_out) != 0:
        codec.decode(raw, theta.size)
        raise _unfounded(codec)


def measure(codec: Codec, raw: ByteVector, num_elements: int, lanes: Lanes) -> None:
    """Adds the squares of decode(raw), f32[num_elements], to a chunk's lanes, as `dot_add` of it with itself.

    Raises:
        MalformedPayloadError, NonFiniteUpdateError: the bytes break their format.
    """
    _check(codec, num_elements, raw)
    _check_lanes(lanes)
    numbers, spans = codec_numbers(codec.name), span_kernels()
    if numbers is None or spans is None:
        for _, decoded in _decoded_strips(codec, raw, num_elements):
            strips.dot_add(decoded, decoded, lanes)
    elif spans.measure(numbers, raw, num_elements, lanes) != 0:
        codec.decode(raw, num_elements)
        raise _unfounded(codec)


class CommitSums:
    """Lanes of the sums over one chunk of a commit.

    Attributes:
        squares_KL, dots_KL: f64[sites, 1024]: |D_i|^2 and <D_i, g>.
        square: f64[1024]: |g|^2.
    """

    def __init__(self, num_sites: int) -> None:
        self._lanes_KL: Final = np.zeros((2 * num_sites + 1, NUM_LANES), np.float64)
        self.squares_KL: Final = self._lanes_KL[:num_sites]
        self.dots_KL: Final = self._lanes_KL[num_sites:-1]
        self.square: Final = self._lanes_KL[-1]

    def clear(self) -> None:
        """Begins another chunk."""
        self._lanes_KL.fill(0.0)

    def folded(self) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """The sums themselves."""
        sums, num_sites = fold_rows(self._lanes_KL), len(self.squares_KL)
        return sums[:num_sites], sums[num_sites:-1], sums[-1]


def can_commit(up: Codec, down: Codec) -> bool:
    """Whether there is a compiled `commit` of these codecs."""
    return codec_numbers(up.name) is not None and codec_numbers(down.name) is not None


def commit(
    up: Codec,
    down: Codec,
    raws: Sequence[ByteVector],
    weights: Float32Vector,
    old: State,
    lr: float,
    mu: float,
    new: State,
    blob: ByteVector,
    sums: CommitSums,
    max_held: int,
) -> bool:
    """g, outer step, blob and new state of a chunk as `federation.commit_pass` defines them, and its sums.

    Returns whether it was done. It was not where there is nothing compiled or the compiled code refuses: then the
    caller does it strip by strip, which raises the error that there is.

    Args:
        raws: the chunk's bytes of each site's payload; their decoded strips are kept up to `max_held` sites.
        old, new: theta, momentum and residual, in separate memory.
    """
    _check_commit(up, down, raws, weights, old, new, blob, sums)
    numbers_up, numbers_down, spans = codec_numbers(up.name), codec_numbers(down.name), span_kernels()
    if numbers_up is None or numbers_down is None or spans is None:
        return False
    addresses = np.array([raw.ctypes.data for raw in raws], np.int64)
    status = spans.commit(
        numbers_up,
        numbers_down,
        addresses,
        raws[0].size,
        max_held,
        weights,
        *old,
        np.float32(lr),
        np.float32(mu),
        *new,
        blob,
        sums.squares_KL,
        sums.dots_KL,
        sums.square,
    )
    return bool(status == 0)


def _encode_difference(codec: Codec, theta: Float32Vector, local: Float32Vector, out: ByteVector) -> None:
    for part, x, stored in _strips_with_scratch(codec, theta.size, out):
        strips.difference(theta[part], local[part], x)
        strips.encode_into(codec, x, stored)


def _encode_with_feedback(
    codec: Codec,
    theta: Float32Vector,
    local: Float32Vector,
    e: Float32Vector,
    beta: float,
    out: ByteVector,
    e_out: Float32Vector,
) -> None:
    for part, x, stored in _strips_with_scratch(codec, theta.size, out):
        strips.difference_with_feedback(theta[part], local[part], e[part], beta, x)
        strips.encode_into(codec, x, stored)
        strips.decode_into(codec, stored, e_out[part])
        strips.subtract(x, e_out[part], e_out[part])


def _decoded_strips(codec: Codec, raw: ByteVector, num_elements: int) -> Iterator[tuple[slice, Float32Vector]]:
    for part, decoded, stored in _strips_with_scratch(codec, num_elements, raw):
        strips.decode_into(codec, stored, decoded)
        yield part, decoded


def _strips_with_scratch(
    codec: Codec, num_elements: int, raw: ByteVector
) -> Iterator[tuple[slice, Float32Vector, ByteVector]]:
    """Every strip: where it is, scratch f32[strip], and its bytes of `raw`."""
    scratch = np.empty(min(strips.STRIP_ELEMENTS, num_elements), np.float32)
    for part in strips.strips_of(0, num_elements):
        yield part, scratch[: part.stop - part.start], raw[bytes_of(codec, part)]


def _check(codec: Codec, size: int, raw: ByteVector, *vectors: Float32Vector) -> None:
    """The caller's bugs: compiled code trusts the sizes."""
    if not 1 <= size <= CHUNK_ELEMENTS or any(vector.size != size for vector in vectors):
        found = ", ".join(str(vector.size) for vector in vectors)
        raise ValueError(f"{codec.name}: expected vectors of 1 to {CHUNK_ELEMENTS} elements, found {size}, {found}")
    expected = codec.num_blocks(size) * codec.bytes_per_block
    if raw.size != expected:
        raise ValueError(f"{codec.name}: expected {expected} bytes, found {raw.size}")


def _check_commit(
    up: Codec,
    down: Codec,
    raws: Sequence[ByteVector],
    weights: Float32Vector,
    old: State,
    new: State,
    blob: ByteVector,
    sums: CommitSums,
) -> None:
    for raw in raws:
        _check(up, old[0].size, raw)
        # It is read by its address, so that nothing else looks at its type.
        if raw.dtype != np.uint8 or not raw.flags.c_contiguous:
            raise TypeError(f"{up.name}: expected contiguous bytes, found {raw.dtype}, strides {raw.strides}")
    _check(down, old[0].size, blob, *old, *new)
    if not len(raws) == weights.size == len(sums.squares_KL) >= 1:
        raise ValueError(
            f"expected as many, found {len(raws)} raws, {weights.size} weights, {len(sums.squares_KL)} sums"
        )


def _check_lanes(*lanes: Lanes) -> None:
    if any(part.size != NUM_LANES for part in lanes):
        raise ValueError(f"expected {NUM_LANES} lanes, found {[part.size for part in lanes]}")


def _unfounded(codec: Codec) -> AssertionError:
    return AssertionError(f"{codec.name}: the compiled code refused what the reference takes")
