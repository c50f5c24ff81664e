# SPDX-License-Identifier: Apache-2.0
"""The largest elements of blocks of 4096: which ones a sparse codec keeps, and what their stored places may be.

A block keeps its k largest magnitudes; of equal ones the lower index comes first. Zeros are never kept: where a block
has fewer than k other elements, the places left over repeat the last index that is used (0 if none is). So padding
behind the last element of a fragment is never kept either.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.errors import MalformedPayloadError

BLOCK_ELEMENTS: Final = 4096
"""Elements of a block: an index has 12 bits."""

_INDEX_BITS: Final = np.uint64(12)
_MAX_INDEX: Final = np.uint64(BLOCK_ELEMENTS - 1)
_MAGNITUDE_BITS: Final = np.uint32(0x7FFFFFFF)

Indices: TypeAlias = npt.NDArray[np.int64]
"""Places i64[blocks, k] inside their blocks."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""Which places are used, bool[blocks, k]."""


def largest_of(x_BE: npt.NDArray[np.float32], k: int) -> tuple[Indices, Mask]:
    """Indices of the k largest magnitudes of each block f32[blocks, 4096], ascending, and which of them are used.

    NaN and infinity count as larger than everything; the caller has refused them.
    """
    bits_BE = (x_BE.view(np.uint32) & _MAGNITUDE_BITS).astype(np.uint64)
    # Magnitude first, then the lower index: no two keys are equal, so it doesn't matter how a partition treats ties.
    keys_BE = (bits_BE << _INDEX_BITS) | np.arange(BLOCK_ELEMENTS - 1, -1, -1, dtype=np.uint64)
    keys_BE.partition(BLOCK_ELEMENTS - k, axis=1)
    top_BK = keys_BE[:, BLOCK_ELEMENTS - k :]
    index_BK = (_MAX_INDEX - (top_BK & _MAX_INDEX)).astype(np.int64)
    index_BK[top_BK <= _MAX_INDEX] = BLOCK_ELEMENTS  # a zero: sorted behind the others
    index_BK.sort(axis=1)
    used_BK = index_BK < BLOCK_ELEMENTS
    last_B = np.where(used_BK, index_BK, 0).max(axis=1)
    return np.where(used_BK, index_BK, last_B[:, None]), used_BK


def used_places(codec: str, index_BK: Indices, num_elements: int) -> Mask:
    """Which of the stored places of a chunk are used: the first of a block, and each whose index is above the last one.

    Args:
        codec: its name, for messages.
        index_BK: as stored; trusts none.
        num_elements: real elements of the chunk.

    Raises:
        MalformedPayloadError: indices descend, ascend again after a repetition, or lie behind the last element.
    """
    steps = np.diff(index_BK, axis=1)
    wrong = steps < 0
    wrong[:, 1:] |= (steps[:, 1:] > 0) & (steps[:, :-1] == 0)
    if wrong.any():
        block, place = (int(i) for i in np.unravel_index(np.argmax(wrong), wrong.shape))
        raise MalformedPayloadError(
            f"{codec}: block {block} of the chunk: expected indices that ascend and then repeat the last one, "
            f"found {index_BK[block, place + 1]} after {index_BK[block, place]} in place {place + 1}"
        )
    block, real = len(index_BK) - 1, num_elements - (len(index_BK) - 1) * BLOCK_ELEMENTS
    if index_BK[block, -1] >= real:
        raise MalformedPayloadError(
            f"{codec}: block {block} of the chunk: expected indices below its {real} elements, "
            f"found {index_BK[block, -1]}"
        )
    return np.concatenate([np.ones((len(index_BK), 1), np.bool_), steps > 0], axis=1)


def scatter(
    values_BK: npt.NDArray[np.float32], index_BK: Indices, used_BK: Mask, num_elements: int
) -> npt.NDArray[np.float32]:
    """f32[num_elements]: zeros, and each value at its index where that is used."""
    place_BK = index_BK + BLOCK_ELEMENTS * np.arange(len(index_BK))[:, None]
    x = np.zeros(num_elements, np.float32)
    x[place_BK[used_BK]] = values_BK[used_BK]
    return x
