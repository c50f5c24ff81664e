# SPDX-License-Identifier: Apache-2.0
"""Arithmetic between vectors in one pass: each operation is rounded on its own, in the order of the reference."""

from typing import Final

import numpy as np

from federation.chunks import Float32Vector
from federation.kernels.compiled import DOUBLES_OUT, FLOAT, FLOATS_IN, FLOATS_OUT, NOTHING, compiled
from federation.kernels.plain import Elementwise
from federation.pseudo_gradient import NUM_LANES, Lanes


@compiled(NOTHING, FLOATS_IN, FLOATS_IN, FLOATS_IN, FLOAT, FLOATS_OUT)
def _difference_with_feedback(
    theta: Float32Vector, local: Float32Vector, e: Float32Vector, beta: np.float32, out: Float32Vector
) -> None:
    for i in range(out.size):
        out[i] = beta * e[i] + (theta[i] - local[i])


@compiled(NOTHING, FLOATS_OUT, FLOAT, FLOATS_IN)
def _add_scaled(g: Float32Vector, weight: np.float32, y: Float32Vector) -> None:
    for i in range(g.size):
        g[i] = g[i] + weight * y[i]


@compiled(NOTHING, FLOATS_IN, FLOATS_IN, FLOATS_IN, FLOAT, FLOAT, FLOATS_OUT, FLOATS_OUT)
def _momentum_step(
    m: Float32Vector,
    r: Float32Vector,
    g: Float32Vector,
    lr: np.float32,
    mu: np.float32,
    m_out: Float32Vector,
    u_out: Float32Vector,
) -> None:
    for i in range(g.size):
        m_new = mu * m[i] + g[i]
        u_out[i] = lr * (g[i] + mu * m_new) + r[i]
        m_out[i] = m_new


@compiled(NOTHING, FLOATS_IN, FLOATS_IN, FLOAT, FLOATS_OUT)
def _plain_step(r: Float32Vector, g: Float32Vector, lr: np.float32, u_out: Float32Vector) -> None:
    for i in range(g.size):
        u_out[i] = lr * g[i] + r[i]


@compiled(NOTHING, FLOATS_IN, FLOATS_IN, FLOAT, FLOATS_OUT)
def _merge_apart(theta: Float32Vector, local: Float32Vector, alpha: np.float32, out: Float32Vector) -> None:
    for i in range(out.size):
        out[i] = theta[i] + alpha * (local[i] - theta[i])


@compiled(NOTHING, FLOATS_IN, FLOAT, FLOATS_OUT)
def _merge_in_place(theta: Float32Vector, alpha: np.float32, local: Float32Vector) -> None:
    for i in range(local.size):
        local[i] = theta[i] + alpha * (local[i] - theta[i])


def _merge(theta: Float32Vector, local: Float32Vector, alpha: np.float32, out: Float32Vector) -> None:
    # Memory that is both read and written through two names is not worked on in vectors.
    if out is local:
        _merge_in_place(theta, alpha, local)
    else:
        _merge_apart(theta, local, alpha, out)


@compiled(NOTHING, FLOATS_IN, FLOATS_IN, DOUBLES_OUT)
def _dot_add(x: Float32Vector, y: Float32Vector, lanes: Lanes) -> None:
    whole = x.size // NUM_LANES
    x_RL, y_RL = x[: whole * NUM_LANES].reshape(whole, NUM_LANES), y[: whole * NUM_LANES].reshape(whole, NUM_LANES)
    for row in range(whole):
        for i in range(NUM_LANES):
            lanes[i] += np.float64(x_RL[row, i]) * np.float64(y_RL[row, i])
    for i in range(whole * NUM_LANES, x.size):
        lanes[i - whole * NUM_LANES] += np.float64(x[i]) * np.float64(y[i])


COMPILED: Final = Elementwise(
    difference_with_feedback=_difference_with_feedback,
    add_scaled=_add_scaled,
    momentum_step=_momentum_step,
    plain_step=_plain_step,
    merge=_merge,
    dot_add=_dot_add,
)
