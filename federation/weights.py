# SPDX-License-Identifier: Apache-2.0
"""Weights of the updates in a seal (standard library only: the coordinator's decider computes them)."""

import struct
from collections.abc import Sequence
from typing import Final

from federation.errors import ConfigError

UNIFORM: Final = "uniform"
TOKENS: Final = "tokens"
WEIGHTINGS: Final = (UNIFORM, TOKENS)
"""What a manifest may ask for."""


def round_weights(tokens: Sequence[tuple[str, int]], weighting: str) -> tuple[float, ...]:
    """The weight of each update, in the order given: an fp64 quotient, rounded once to fp32 (half to even).

    Args:
        tokens: site and its `weight_tokens`, ascending by site, as they stand in the seal.
        weighting: "uniform" (1/n each) or "tokens" (share of all tokens).

    Raises:
        ConfigError: another weighting, a site twice or out of order, or tokens below 1 where they weigh.
    """
    sites = [site for site, _ in tokens]
    if sites != sorted(set(sites)):
        raise ConfigError(f"sites: expected each once and ascending, found {', '.join(sites)}")
    if weighting == UNIFORM:
        return tuple(_round_to_fp32(1 / len(sites)) for _ in sites)
    if weighting != TOKENS:
        raise ConfigError(f"weighting: expected one of {', '.join(WEIGHTINGS)}, found {weighting!r:.40}")
    for site, count in tokens:
        if count < 1:
            raise ConfigError(f"site {site}: expected at least 1 token behind an update, found {count}")
    # Integers divide correctly rounded at any size, so no sum is rounded before the quotient is.
    total = sum(count for _, count in tokens)
    return tuple(_round_to_fp32(count / total) for _, count in tokens)


def _round_to_fp32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
