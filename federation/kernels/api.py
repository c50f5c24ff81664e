# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the update path on at most a chunk, into memory that the caller owns.

Vectors are contiguous. Every function gives the bits of its numpy reference; errors are raised by the reference itself,
and outputs hold anything then. All may run on many threads at once. The first call compiles, or loads what was compiled
before. `strips` has single operations on what fits a cache, `chunks` whole steps on a chunk, for threads: one call is
worth handing over the interpreter lock.
"""

from federation.kernels.chunks import (
    CommitSums,
    apply_and_merge,
    apply_to,
    can_commit,
    commit,
    encode_difference,
    encode_difference_with_feedback,
    measure,
)
from federation.kernels.strips import (
    STRIP_ELEMENTS,
    add_scaled,
    decode_into,
    difference,
    difference_with_feedback,
    dot_add,
    encode_into,
    merge_into,
    outer_step_into,
    strips_of,
    subtract,
)
from federation.pseudo_gradient import NUM_LANES, Lanes, fold_lanes, new_lanes

__all__ = [
    "NUM_LANES",
    "STRIP_ELEMENTS",
    "CommitSums",
    "Lanes",
    "add_scaled",
    "apply_and_merge",
    "apply_to",
    "can_commit",
    "commit",
    "decode_into",
    "difference",
    "difference_with_feedback",
    "dot_add",
    "encode_difference",
    "encode_difference_with_feedback",
    "encode_into",
    "fold_lanes",
    "measure",
    "merge_into",
    "new_lanes",
    "outer_step_into",
    "strips_of",
    "subtract",
]
