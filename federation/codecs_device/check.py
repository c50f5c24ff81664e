# SPDX-License-Identifier: Apache-2.0
"""Whether a device's kernels give the CPU's bits: asked once per process, before anything is encoded on a device.

Compilers differ: releases of Triton before 3.6 flush subnormals in a division that is asked for IEEE rounding.
"""

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
import torch

from federation.chunks import Float32Vector
from federation.codecs.api import Codec
from federation.codecs.registry import get_codec
from federation.codecs_device import launch
from federation.error_feedback import encode_with_feedback
from federation.errors import NumericsMismatchError
from federation.golden import inputs
from federation.pseudo_gradient import merge

DEVICE_CODECS = ("int4", "int8")
"""Codecs that a device encodes."""

_SIZES = (2**14, 2**14 - 77)
"""Whole blocks, and memory that begins and ends anywhere: compilers make another kernel of each."""

_BETA, _ALPHA = 0.95, 0.3


def check_device(device: torch.device, names: Iterable[str] = DEVICE_CODECS) -> None:
    """Encodes and applies usual, wide, subnormal and half-way values, and compares with the numpy reference.

    Raises:
        NumericsMismatchError: a bit differs.
    """
    for name, size in product(names, _SIZES):
        for kind, theta, local, feedback in _vectors(size):
            if not _same(get_codec(name), theta, local, feedback, device):
                raise NumericsMismatchError(
                    f"{name} on {device}: expected the CPU's bits for {kind} values, found others",
                    advice="Install Triton 3.6 or newer; until then this job encodes on the CPU.",
                )


def _vectors(size: int) -> Iterator[tuple[str, Float32Vector, Float32Vector, Float32Vector]]:
    zeros = np.zeros(size, np.float32)
    limit = np.float32(2.0**99)
    yield "usual", inputs.usual(1, size), inputs.usual(2, size), inputs.usual(3, size)
    yield "wide", np.clip(inputs.wide(1, size), -limit, limit), zeros, inputs.usual(3, size)
    yield "tiny", inputs.tiny(1, size), zeros, inputs.tiny(3, size)
    yield "subnormal", inputs.floats(1, size, 0, 0), zeros, inputs.floats(3, size, 0, 0)
    yield "half-way", inputs.halves(1, size), zeros, inputs.halves(3, size)


def _same(
    codec: Codec, theta: Float32Vector, local: Float32Vector, feedback: Float32Vector, device: torch.device
) -> bool:
    payload, candidate = encode_with_feedback(codec, np.subtract(theta, local), feedback, _BETA)
    theta_out = np.subtract(theta, codec.decode(payload, theta.size))
    expected = (
        codec.encode(np.subtract(theta, local)).tobytes(),
        payload,
        candidate.tobytes(),
        theta_out.tobytes(),
        merge(theta_out, local, _ALPHA).tobytes(),
    )
    found = (tensor.cpu().numpy().tobytes() for tensor in _computed(codec, theta, local, feedback, device))
    return tuple(found) == expected


def _computed(
    codec: Codec, theta: Float32Vector, local: Float32Vector, feedback: Float32Vector, device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Payload, payload with feedback, candidate, theta, local. Where a value is refused, nothing at all."""
    theta_, local_, feedback_ = (_up(vector, device) for vector in (theta, local, feedback))
    status, candidate_ = launch.new_status(device), torch.empty_like(theta_)
    size = codec.num_blocks(theta.size) * codec.bytes_per_block
    bare, payload = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    launch.encode(codec, theta_, local_, bare, status)
    launch.encode(codec, theta_, local_, payload, status, feedback=feedback_, beta=_BETA, feedback_out=candidate_)
    launch.apply(codec, payload, theta_, theta_, status, local=local_, alpha=_ALPHA)
    return () if status.item() else (bare, payload, candidate_, theta_, local_)


def _up(vector: Float32Vector, device: torch.device) -> torch.Tensor:
    """A copy on the device. It begins off the boundaries that vector instructions want where it does not end on one."""
    offset = vector.size % 2
    room = torch.empty(offset + vector.size, device=device)[offset:]
    return room.copy_(torch.from_numpy(vector.copy()))
