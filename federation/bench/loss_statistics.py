# SPDX-License-Identifier: Apache-2.0
"""Paired relative differences and their one-sided bounds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A method's loss against the base's, as a share of the base's: 0.01 is one percent more.

    Attributes:
        by_pair: of each seed.
        mean: over the seeds.
        upper: one-sided upper 95% bound of the mean (paired t); None with fewer than two pairs.
    """

    by_pair: tuple[float, ...]
    mean: float
    upper: float | None


def relative_difference(values: Sequence[float], base: Sequence[float]) -> Difference:
    """Of runs that belong together pair by pair, at least one.

    The bound is mean + t(0.95, n - 1) · s / √n with the sample's standard deviation s of the n differences.
    """
    pairs = tuple(value / reference - 1 for value, reference in zip(values, base, strict=True))
    mean = math.fsum(pairs) / len(pairs)
    if len(pairs) < 2 or not math.isfinite(mean):
        return Difference(by_pair=pairs, mean=mean, upper=None)
    error = statistics.stdev(pairs) / math.sqrt(len(pairs))
    return Difference(by_pair=pairs, mean=mean, upper=mean + student_t(CONFIDENCE, len(pairs) - 1) * error)


def student_t(probability: float, degrees: int) -> float:
    """The value that Student's t stays below with this probability, which is above one half."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, degrees) < probability else (low, middle)
    return high


def _below(t: float, degrees: int) -> float:
    """P(T < t) for t >= 0 and whole degrees of freedom: Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(odd, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    inside = (2 / math.pi) * (angle + sine * total) if odd else sine * total
    return 0.5 + inside / 2
