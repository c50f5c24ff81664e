# SPDX-License-Identifier: Apache-2.0
"""Whether a device's kernels give the CPU's bits: asked once per process, before anything is encoded on a device.

Compilers differ: releases of Triton before 3.6 flush subnormals in a division that is asked for IEEE rounding.
"""

from collections.abc import Iterator

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

_SIZE = 2**14 - 77
_BETA, _ALPHA = 0.95, 0.3


def check_device(device: torch.device) -> None:
    """Encodes and applies usual, wide, subnormal and half-way values, and compares with the numpy reference.

    Raises:
        NumericsMismatchError: a bit differs.
    """
    for name in DEVICE_CODECS:
        for kind, theta, local, feedback in _vectors():
            if not _same(get_codec(name), theta, local, feedback, device):
                raise NumericsMismatchError(
                    f"{name} on {device}: expected the CPU's bits for {kind} values, found others",
                    advice="Install Triton 3.6 or newer; until then this job encodes on the CPU.",
                )


def _vectors() -> Iterator[tuple[str, Float32Vector, Float32Vector, Float32Vector]]:
    zeros = np.zeros(_SIZE, np.float32)
    limit = np.float32(2.0**99)
    yield "usual", inputs.usual(1, _SIZE), inputs.usual(2, _SIZE), inputs.usual(3, _SIZE)
    yield "wide", np.clip(inputs.wide(1, _SIZE), -limit, limit), zeros, inputs.usual(3, _SIZE)
    yield "tiny", inputs.tiny(1, _SIZE), zeros, inputs.tiny(3, _SIZE)
    yield "subnormal", inputs.floats(1, _SIZE, 0, 0), zeros, inputs.floats(3, _SIZE, 0, 0)
    yield "half-way", inputs.halves(1, _SIZE), zeros, inputs.halves(3, _SIZE)


def _same(
    codec: Codec, theta: Float32Vector, local: Float32Vector, feedback: Float32Vector, device: torch.device
) -> bool:
    theta_, local_, feedback_ = (torch.from_numpy(vector.copy()).to(device) for vector in (theta, local, feedback))
    status, candidate_ = launch.new_status(device), torch.empty_like(theta_)
    size = codec.num_blocks(theta.size) * codec.bytes_per_block
    payload_ = torch.empty(size, dtype=torch.uint8, device=device)
    launch.encode(codec, theta_, local_, payload_, status, feedback=feedback_, beta=_BETA, feedback_out=candidate_)
    launch.apply(codec, payload_, theta_, theta_, status, local=local_, alpha=_ALPHA)

    payload, candidate = encode_with_feedback(codec, np.subtract(theta, local), feedback, _BETA)
    theta_out = np.subtract(theta, codec.decode(payload, theta.size))
    expected = (payload, candidate.tobytes(), theta_out.tobytes(), merge(theta_out, local, _ALPHA).tobytes())
    found = (tensor.cpu().numpy().tobytes() for tensor in (payload_, candidate_, theta_, local_))
    return status.item() == 0 and tuple(found) == expected
