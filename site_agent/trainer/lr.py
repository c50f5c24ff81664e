# SPDX-License-Identifier: Apache-2.0
"""The inner learning rate as a function of the position in the run, never of time or of arrivals."""

import numpy as np

from federation.manifest import InnerSettings


def learning_rate(inner: InnerSettings, position: float, joined_at: float = -1.0) -> float:
    """The learning rate at a position in nominal inner steps.

    Linear from 0 over `warmup_steps`, then a cosine from `lr` to `lr * min_lr_fraction` at `total_steps`, constant
    after that. A site whose inner optimizer was new at `joined_at` > 0 ramps up over `joiner_warmup_steps` besides.

    Args:
        inner: the manifest's settings.
        position: nominal inner steps since the run's start; fractions are used where H_i differs from H.
        joined_at: position at which this site's optimizer began, negative if it was there from the start.
    """
    rate = _scheduled(inner, position)
    if joined_at >= 0 and position - joined_at < inner.joiner_warmup_steps:
        rate *= (position - joined_at) / inner.joiner_warmup_steps
    return rate


def _scheduled(inner: InnerSettings, position: float) -> float:
    if position < inner.warmup_steps:
        return inner.lr * position / inner.warmup_steps
    done = min(1.0, (position - inner.warmup_steps) / max(1, inner.total_steps - inner.warmup_steps))
    floor = inner.lr * inner.min_lr_fraction
    return floor + 0.5 * (inner.lr - floor) * (1.0 + float(np.cos(np.pi * done)))
