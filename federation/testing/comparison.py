# SPDX-License-Identifier: Apache-2.0
"""Whether a run is what the oracle says, to the bit, and where it is not."""

from collections.abc import Sequence

import numpy as np

from federation.reference import RoundResult, Vector


def differences(found: Sequence[RoundResult], expected: Sequence[RoundResult]) -> list[str]:
    """What is not the same to the bit in two runs, in words; [] if nothing."""
    if len(found) != len(expected):
        return [f"{len(found)} rounds instead of {len(expected)}"]
    problems = []
    for number, (have, want) in enumerate(zip(found, expected, strict=True)):
        for name in ("theta", "momentum", "residual"):
            problems += different_bits(f"round {number}: {name}", getattr(have, name), getattr(want, name))
        for name in ("fragment", "payloads", "weight_tokens", "weights", "blob"):
            if getattr(have, name) != getattr(want, name):
                problems.append(f"round {number}: {name}")
    return problems


def different_bits(what: str, have: Vector, want: Vector) -> list[str]:
    """Whether two fp32 arrays differ in shape or in any bit (0.0 is not -0.0 here); [] if not."""
    if have.shape != want.shape or have.dtype != want.dtype:
        return [f"{what}: {have.dtype}{have.shape} instead of {want.dtype}{want.shape}"]
    wrong = np.ascontiguousarray(have).view(np.uint32) != np.ascontiguousarray(want).view(np.uint32)
    return [f"{what}: {int(wrong.sum())} of {have.size} elements"] if wrong.any() else []
