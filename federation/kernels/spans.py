# SPDX-License-Identifier: Apache-2.0
"""Work on up to a whole chunk in one compiled call, which holds no interpreter lock for milliseconds (see `chunks`).

Inside, it goes strip by strip: what a strip needs stays in a core's first cache, and vectors of the caller are read
and written once. A codec comes as numbers: the addresses of its two kernels and the sizes of its block. So these
functions are compiled once and not for every codec, and codecs stay in files of their own (see `compiled`).

Vectors of the caller that are both read and written are read into scratch first, where loops are made of vectors
whatever the caller's memory shares.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import carray

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.kernels.blocks import BlockKernels, Blocks, Stored
from federation.kernels.compiled import (
    BLOCKS_IN,
    BLOCKS_OUT,
    BYTES_IN,
    BYTES_OUT,
    COUNT,
    COUNTS_IN,
    DOUBLE_ROWS_OUT,
    DOUBLES_OUT,
    FLOAT,
    FLOATS_IN,
    FLOATS_OUT,
    STATUS,
    STORED_IN,
    STORED_OUT,
    Integer,
    address_of,
    call_at,
    compiled,
    inlined,
    pointer_to,
    tuple_of,
)
from federation.pseudo_gradient import NUM_LANES, Lanes

CodecNumbers: TypeAlias = tuple[int, int, int, int]
"""Address of encode_blocks, address of decode_blocks, elements of a block, bytes of a block."""

Addresses: TypeAlias = npt.NDArray[np.int64]
"""i64[sites]: where payloads begin; each has the same number of bytes."""

_CODEC: Final[Any] = tuple_of(COUNT, 4)
_STRIP: Final = 8192
"""Elements of a strip: whole blocks of every codec, whole rows of lanes; 32 KiB."""

_ROWS: Final = 4
"""Rows of lanes added at a time, in order: lanes are loaded and stored once for all of them."""

_REFUSED: Final = 1
_ENCODE: Final[Any] = (STATUS, BLOCKS_IN, STORED_OUT)
_DECODE: Final[Any] = (STATUS, STORED_IN, BLOCKS_OUT, COUNT)
_call_encode: Final[Callable[[int, Blocks, Stored], int]] = call_at(*_ENCODE)
_call_decode: Final[Callable[[int, Stored, Blocks, int], int]] = call_at(*_DECODE)


def numbers_of(kernels: BlockKernels) -> CodecNumbers:
    """A codec as the functions here take it; the addresses are valid as long as the kernels exist."""
    encode = address_of(kernels.encode_blocks, *_ENCODE)
    decode = address_of(kernels.decode_blocks, *_DECODE)
    return encode, decode, kernels.block_elements, kernels.bytes_per_block


@inlined
def _stored(codec: CodecNumbers, raw: ByteVector, start: int, stop: int) -> Stored:
    """u8[blocks, bytes]: the blocks of a strip."""
    first, blocks = start // codec[2], (stop - start + codec[2] - 1) // codec[2]
    return raw[first * codec[3] : (first + blocks) * codec[3]].reshape(blocks, codec[3])


@inlined
def _encode(codec: CodecNumbers, x: Float32Vector, stored_BS: Stored) -> int:
    """As `BlockKernels.encode`."""
    whole = x.size // codec[2]
    end = whole * codec[2]
    status = _call_encode(codec[0], x[:end].reshape(whole, codec[2]), stored_BS[:whole])
    if status != 0 or end == x.size:
        return status
    last_E = np.zeros((1, codec[2]), np.float32)
    for i in range(end, x.size):
        last_E[0, i - end] = x[i]
    return _call_encode(codec[0], last_E, stored_BS[whole:])


@inlined
def _decode(codec: CodecNumbers, stored_BS: Stored, out: Float32Vector) -> int:
    """As `BlockKernels.decode`."""
    whole = out.size // codec[2]
    end = whole * codec[2]
    status = _call_decode(codec[1], stored_BS[:whole], out[:end].reshape(whole, codec[2]), codec[2])
    if status != 0 or end == out.size:
        return status
    last_E = np.empty((1, codec[2]), np.float32)
    status = _call_decode(codec[1], stored_BS[whole:], last_E, out.size - end)
    for i in range(end, out.size):
        out[i] = last_E[0, i - end]
    return status


@inlined
def _add_squares(x: Float32Vector, lanes: Lanes) -> None:
    """Adds x_i x_i to lane i mod 1024, ascending: several rows at once, and each lane's sums in their order."""
    groups = x.size // (_ROWS * NUM_LANES)
    x_GRL = x[: groups * _ROWS * NUM_LANES].reshape(groups, _ROWS, NUM_LANES)
    for group in range(groups):
        for i in range(NUM_LANES):
            a, b = np.float64(x_GRL[group, 0, i]), np.float64(x_GRL[group, 1, i])
            c, d = np.float64(x_GRL[group, 2, i]), np.float64(x_GRL[group, 3, i])
            lanes[i] = (((lanes[i] + a * a) + b * b) + c * c) + d * d
    for i in range(groups * _ROWS * NUM_LANES, x.size):
        lanes[i % NUM_LANES] += np.float64(x[i]) * np.float64(x[i])


@inlined
def _add_products(x: Float32Vector, y: Float32Vector, squares: Lanes, dots: Lanes) -> None:
    """Adds x_i x_i and x_i y_i to lane i mod 1024, as `_add_squares`."""
    groups = x.size // (_ROWS * NUM_LANES)
    x_GRL = x[: groups * _ROWS * NUM_LANES].reshape(groups, _ROWS, NUM_LANES)
    y_GRL = y[: groups * _ROWS * NUM_LANES].reshape(groups, _ROWS, NUM_LANES)
    for group in range(groups):
        for i in range(NUM_LANES):
            a, b = np.float64(x_GRL[group, 0, i]), np.float64(x_GRL[group, 1, i])
            c, d = np.float64(x_GRL[group, 2, i]), np.float64(x_GRL[group, 3, i])
            squares[i] = (((squares[i] + a * a) + b * b) + c * c) + d * d
            a, b = a * np.float64(y_GRL[group, 0, i]), b * np.float64(y_GRL[group, 1, i])
            c, d = c * np.float64(y_GRL[group, 2, i]), d * np.float64(y_GRL[group, 3, i])
            dots[i] = (((dots[i] + a) + b) + c) + d
    for i in range(groups * _ROWS * NUM_LANES, x.size):
        squares[i % NUM_LANES] += np.float64(x[i]) * np.float64(x[i])
        dots[i % NUM_LANES] += np.float64(x[i]) * np.float64(y[i])


@compiled(STATUS, _CODEC, FLOATS_IN, FLOATS_IN, BYTES_OUT)
def encode_difference(codec: CodecNumbers, theta: Float32Vector, local: Float32Vector, out: ByteVector) -> int:
    """out = encode(theta - local)."""
    x = np.empty(_STRIP, np.float32)
    for start in range(0, theta.size, _STRIP):
        stop = min(start + _STRIP, theta.size)
        theta_s, local_s = theta[start:stop], local[start:stop]
        for i in range(stop - start):
            x[i] = theta_s[i] - local_s[i]
        status = _encode(codec, x[: stop - start], _stored(codec, out, start, stop))
        if status != 0:
            return status
    return 0


@compiled(STATUS, _CODEC, FLOATS_IN, FLOATS_IN, FLOATS_IN, FLOAT, BYTES_OUT, FLOATS_OUT)
def encode_difference_with_feedback(
    codec: CodecNumbers,
    theta: Float32Vector,
    local: Float32Vector,
    e: Float32Vector,
    beta: np.float32,
    out: ByteVector,
    e_out: Float32Vector,
) -> int:
    """x = beta e + (theta - local), out = encode(x), e_out = x - decode(out)."""
    x, decoded = np.empty(_STRIP, np.float32), np.empty(_STRIP, np.float32)
    for start in range(0, theta.size, _STRIP):
        stop = min(start + _STRIP, theta.size)
        theta_s, local_s, e_s, e_out_s = theta[start:stop], local[start:stop], e[start:stop], e_out[start:stop]
        for i in range(stop - start):
            x[i] = beta * e_s[i] + (theta_s[i] - local_s[i])
        stored_BS = _stored(codec, out, start, stop)
        status = _encode(codec, x[: stop - start], stored_BS)
        if status == 0:
            status = _decode(codec, stored_BS, decoded[: stop - start])
        if status != 0:
            return status
        for i in range(stop - start):
            e_out_s[i] = x[i] - decoded[i]
    return 0


@compiled(STATUS, _CODEC, BYTES_IN, FLOATS_IN, FLOATS_OUT)
def apply_to(codec: CodecNumbers, raw: ByteVector, theta: Float32Vector, theta_out: Float32Vector) -> int:
    """theta_out = theta - decode(raw)."""
    x = np.empty(_STRIP, np.float32)
    for start in range(0, theta.size, _STRIP):
        stop = min(start + _STRIP, theta.size)
        status = _decode(codec, _stored(codec, raw, start, stop), x[: stop - start])
        if status != 0:
            return status
        theta_s, theta_out_s = theta[start:stop], theta_out[start:stop]
        for i in range(stop - start):
            x[i] = theta_s[i] - x[i]
        for i in range(stop - start):
            theta_out_s[i] = x[i]
    return 0


@compiled(STATUS, _CODEC, BYTES_IN, FLOATS_IN, FLOATS_IN, FLOAT, FLOATS_OUT, FLOATS_OUT)
def apply_and_merge(
    codec: CodecNumbers,
    raw: ByteVector,
    theta: Float32Vector,
    local: Float32Vector,
    alpha: np.float32,
    theta_out: Float32Vector,
    local_out: Float32Vector,
) -> int:
    """theta_out = theta - decode(raw), local_out = theta_out + alpha (local - theta_out)."""
    x, y = np.empty(_STRIP, np.float32), np.empty(_STRIP, np.float32)
    for start in range(0, theta.size, _STRIP):
        stop = min(start + _STRIP, theta.size)
        status = _decode(codec, _stored(codec, raw, start, stop), x[: stop - start])
        if status != 0:
            return status
        theta_s, local_s = theta[start:stop], local[start:stop]
        theta_out_s, local_out_s = theta_out[start:stop], local_out[start:stop]
        for i in range(stop - start):
            x[i] = theta_s[i] - x[i]
            y[i] = x[i] + alpha * (local_s[i] - x[i])
        for i in range(stop - start):
            theta_out_s[i] = x[i]
            local_out_s[i] = y[i]
    return 0


@compiled(STATUS, _CODEC, BYTES_IN, COUNT, DOUBLES_OUT)
def measure(codec: CodecNumbers, raw: ByteVector, num_elements: int, lanes: Lanes) -> int:
    """Adds the squares of decode(raw) to their lanes."""
    x = np.empty(_STRIP, np.float32)
    for start in range(0, num_elements, _STRIP):
        stop = min(start + _STRIP, num_elements)
        status = _decode(codec, _stored(codec, raw, start, stop), x[: stop - start])
        if status != 0:
            return status
        _add_squares(x[: stop - start], lanes)
    return 0


@inlined
def _step(
    m: Float32Vector,
    r: Float32Vector,
    g: Float32Vector,
    lr: np.float32,
    mu: np.float32,
    m_new: Float32Vector,
    u: Float32Vector,
) -> None:
    """`federation.outer_optimizer.outer_step`."""
    if mu == 0:
        for i in range(g.size):
            u[i] = lr * g[i] + r[i]
            m_new[i] = m[i]
        return
    for i in range(g.size):
        moved = mu * m[i] + g[i]
        u[i] = lr * (g[i] + mu * moved) + r[i]
        m_new[i] = moved


@inlined
def _decode_site(up: CodecNumbers, address: Integer, raw_bytes: int, start: int, stop: int, part: Float32Vector) -> int:
    """A strip of the payload that begins at an address."""
    raw = carray(pointer_to(address), (raw_bytes,))
    return _decode(up, _stored(up, raw, start, stop), part)


@inlined
def _aggregate(
    up: CodecNumbers,
    addresses: Addresses,
    raw_bytes: int,
    weights: Float32Vector,
    start: int,
    stop: int,
    part_KS: Blocks,
    g: Float32Vector,
) -> int:
    """g = 0 + w_1 D_1 + w_2 D_2 + ... of a strip; the decoded strips remain in as many rows as there are."""
    for i in range(g.size):
        g[i] = 0
    for site in range(addresses.size):
        part = part_KS[site % part_KS.shape[0], : stop - start]
        if _decode_site(up, addresses[site], raw_bytes, start, stop, part) != 0:
            return _REFUSED
        weight = weights[site]
        for i in range(g.size):
            g[i] = g[i] + weight * part[i]
    return 0


@inlined
def _add_up(
    up: CodecNumbers,
    addresses: Addresses,
    raw_bytes: int,
    start: int,
    stop: int,
    part_KS: Blocks,
    g: Float32Vector,
    squares_KL: Lanes,
    dots_KL: Lanes,
    square: Lanes,
) -> int:
    """Adds |D_i|^2, <D_i, g> and |g|^2 of a strip to their lanes; decodes again what `_aggregate` could not hold."""
    num_sites, held = addresses.size, part_KS.shape[0] == addresses.size
    for site in range(num_sites):
        part = part_KS[site % part_KS.shape[0], : stop - start]
        if not held and _decode_site(up, addresses[site], raw_bytes, start, stop, part) != 0:
            return _REFUSED
        _add_products(part, g, squares_KL[site], dots_KL[site])
    _add_squares(g, square)
    return 0


@inlined
def _send_down(
    down: CodecNumbers,
    u: Float32Vector,
    stored_BS: Stored,
    decoded: Float32Vector,
    theta: Float32Vector,
    theta_new: Float32Vector,
    r_new: Float32Vector,
) -> int:
    """The downlink's bytes of u, and `federation.outer_optimizer.apply_blob` of them."""
    if _encode(down, u, stored_BS) != 0 or _decode(down, stored_BS, decoded) != 0:
        return _REFUSED
    for i in range(u.size):
        theta_new[i] = theta[i] - decoded[i]
    for i in range(u.size):
        r_new[i] = u[i] - decoded[i]
    return 0


@compiled(
    STATUS,
    _CODEC,
    _CODEC,
    COUNTS_IN,
    *(COUNT, COUNT),
    FLOATS_IN,
    *(FLOATS_IN, FLOATS_IN, FLOATS_IN),
    *(FLOAT, FLOAT),
    *(FLOATS_OUT, FLOATS_OUT, FLOATS_OUT),
    BYTES_OUT,
    *(DOUBLE_ROWS_OUT, DOUBLE_ROWS_OUT, DOUBLES_OUT),
)
def commit(
    up: CodecNumbers,
    down: CodecNumbers,
    addresses: Addresses,
    raw_bytes: int,
    max_held: int,
    weights: Float32Vector,
    theta: Float32Vector,
    m: Float32Vector,
    r: Float32Vector,
    lr: np.float32,
    mu: np.float32,
    theta_new: Float32Vector,
    m_new: Float32Vector,
    r_new: Float32Vector,
    blob: ByteVector,
    squares_KL: Lanes,
    dots_KL: Lanes,
    square: Lanes,
) -> int:
    """Aggregation, outer step, downlink, and what the downlink's bytes make of theta and r, of one chunk.

    Payloads come as the addresses of `raw_bytes` bytes each: they lie in different memory, often in mapped files.
    Decoded strips of up to `max_held` sites are kept for the second pass over a strip; of more, all are decoded twice.
    """
    num_rows = addresses.size if addresses.size <= max_held else 1
    part_KS = np.empty((num_rows, _STRIP), np.float32)
    g_S, u_S, decoded_S = np.empty(_STRIP, np.float32), np.empty(_STRIP, np.float32), np.empty(_STRIP, np.float32)
    for start in range(0, theta.size, _STRIP):
        stop = min(start + _STRIP, theta.size)
        g, u, decoded = g_S[: stop - start], u_S[: stop - start], decoded_S[: stop - start]
        if _aggregate(up, addresses, raw_bytes, weights, start, stop, part_KS, g) != 0:
            return _REFUSED
        if _add_up(up, addresses, raw_bytes, start, stop, part_KS, g, squares_KL, dots_KL, square) != 0:
            return _REFUSED
        _step(m[start:stop], r[start:stop], g, lr, mu, m_new[start:stop], u)
        stored_BS = _stored(down, blob, start, stop)
        theta_s, theta_new_s, r_new_s = theta[start:stop], theta_new[start:stop], r_new[start:stop]
        if _send_down(down, u, stored_BS, decoded, theta_s, theta_new_s, r_new_s) != 0:
            return _REFUSED
    return 0
