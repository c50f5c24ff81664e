# SPDX-License-Identifier: Apache-2.0
"""The arithmetic between vectors in numpy: its reference, and what runs where nothing can be compiled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from federation import pseudo_gradient
from federation.chunks import Float32Vector
from federation.outer_optimizer import outer_step
from federation.pseudo_gradient import Lanes


@dataclass(frozen=True, kw_only=True)
class Elementwise:
    """One implementation of what `federation.kernels.api` documents; scalars are rounded to fp32 by the caller."""

    difference_with_feedback: Callable[[Float32Vector, Float32Vector, Float32Vector, np.float32, Float32Vector], None]
    add_scaled: Callable[[Float32Vector, np.float32, Float32Vector], None]
    momentum_step: Callable[
        [Float32Vector, Float32Vector, Float32Vector, np.float32, np.float32, Float32Vector, Float32Vector], None
    ]
    plain_step: Callable[[Float32Vector, Float32Vector, np.float32, Float32Vector], None]
    merge: Callable[[Float32Vector, Float32Vector, np.float32, Float32Vector], None]
    dot_add: Callable[[Float32Vector, Float32Vector, Lanes], None]


def _difference_with_feedback(
    theta: Float32Vector, local: Float32Vector, e: Float32Vector, beta: np.float32, out: Float32Vector
) -> None:
    np.add(np.multiply(beta, e), pseudo_gradient.pseudo_gradient(theta, local), out=out)


def _add_scaled(g: Float32Vector, weight: np.float32, y: Float32Vector) -> None:
    np.add(g, np.multiply(weight, y), out=g)


def _momentum_step(
    m: Float32Vector,
    r: Float32Vector,
    g: Float32Vector,
    lr: np.float32,
    mu: np.float32,
    m_out: Float32Vector,
    u_out: Float32Vector,
) -> None:
    m_out[:], u_out[:] = outer_step(m, r, g, float(lr), float(mu))


def _plain_step(r: Float32Vector, g: Float32Vector, lr: np.float32, u_out: Float32Vector) -> None:
    np.add(np.multiply(lr, g), r, out=u_out)


def _merge(theta: Float32Vector, local: Float32Vector, alpha: np.float32, out: Float32Vector) -> None:
    out[:] = pseudo_gradient.merge(theta, local, float(alpha))


PLAIN: Final = Elementwise(
    difference_with_feedback=_difference_with_feedback,
    add_scaled=_add_scaled,
    momentum_step=_momentum_step,
    plain_step=_plain_step,
    merge=_merge,
    dot_add=pseudo_gradient.add_to_lanes,
)
