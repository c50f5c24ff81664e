# SPDX-License-Identifier: Apache-2.0
"""Launches the kernels on tensors that lie on one device, with the options that keep the reference's bits."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

from federation.codecs.api import Codec
from federation.codecs.scaled_int import BLOCK_ELEMENTS, SCALE_BYTES, ScaledIntCodec
from federation.codecs_device import kernels

BLOCKS_PER_PROGRAM: Final = 16
"""Blocks of 128 that one program works on: 16 elements for each of 128 threads, loaded as vectors of four."""

OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({"enable_fp_fusion": False, "num_warps": 4})
"""A fused multiply-add would round once where the reference rounds twice."""


def has_kernels(codec: Codec) -> bool:
    """Whether a device encodes and decodes this codec; the others are encoded on the CPU."""
    return isinstance(codec, ScaledIntCodec)


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches, and events are recorded, on the current device. The CPU's tensors are for the interpreter."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def new_status(device: torch.device) -> torch.Tensor:
    """i32[1] on the device, 0: nothing wrong so far. Launches set it to 1 and never back."""
    return torch.zeros(1, dtype=torch.int32, device=device)


def encode(
    codec: Codec,
    theta: torch.Tensor,
    local: torch.Tensor,
    payload: torch.Tensor,
    status: torch.Tensor,
    *,
    feedback: torch.Tensor | None = None,
    beta: float = 0.0,
    feedback_out: torch.Tensor | None = None,
) -> None:
    """The payload of theta - local, or of x = beta feedback + (theta - local) and the candidate x - decode(payload).

    Returns before the device is done. All tensors lie on one device, flat and contiguous, outputs apart from inputs.

    Args:
        theta, local, feedback, feedback_out: f32[n], whole blocks but at the fragment's end.
        payload: u8[num_blocks * bytes_per_block] at an even address: exactly the CPU's bytes.
        status: `new_status`; 1 afterwards if a value is NaN, infinite or too large. The outputs are void then, and the
            numpy reference on the same elements raises the error.
    """
    _check(codec, (theta, local, feedback, feedback_out), payload)
    if (feedback is None) != (feedback_out is None):
        raise ValueError("encode: expected both of feedback and feedback_out, or neither")
    with on(theta.device):
        kernels.encode_kernel[_grid(theta)](
            theta,
            local,
            theta if feedback is None else feedback,
            float(np.float32(beta)),
            payload.view(torch.int16),
            theta if feedback_out is None else feedback_out,
            status,
            theta.numel(),
            HAS_FEEDBACK=feedback is not None,
            **_format(codec),
            **OPTIONS,
        )


def apply(
    codec: Codec,
    payload: torch.Tensor,
    theta: torch.Tensor,
    theta_out: torch.Tensor,
    status: torch.Tensor,
    *,
    local: torch.Tensor | None = None,
    alpha: float = 0.0,
) -> None:
    """theta_out = theta - decode(payload); then, in place, local = theta_out + alpha (local - theta_out).

    Returns before the device is done. All tensors lie on one device, flat and contiguous; theta_out may be theta.

    Args:
        payload: u8[num_blocks * bytes_per_block] at an even address. Trusted in nothing but its length.
        theta, theta_out, local: f32[n], whole blocks but at the fragment's end.
        status: `new_status`; 1 afterwards if the payload breaks a bound. The outputs are void then, and the numpy
            reference on the same bytes raises the error.
    """
    _check(codec, (theta, theta_out, local), payload)
    with on(theta.device):
        kernels.apply_kernel[_grid(theta)](
            payload.view(torch.int16),
            theta,
            theta_out,
            theta if local is None else local,
            float(np.float32(alpha)),
            status,
            theta.numel(),
            HAS_LOCAL=local is not None,
            **_format(codec),
            **OPTIONS,
        )


def _format(codec: Codec) -> dict[str, int]:
    """What distinguishes int4 from int8 inside the kernels."""
    assert isinstance(codec, ScaledIntCodec)  # _check
    bits = (codec.bytes_per_block - SCALE_BYTES) * 8 // BLOCK_ELEMENTS
    return {"LARGEST": codec.largest, "BITS": bits, "BLOCKS": BLOCKS_PER_PROGRAM}


def _grid(theta: torch.Tensor) -> tuple[int]:
    return (-(-theta.numel() // (BLOCKS_PER_PROGRAM * BLOCK_ELEMENTS)),)


def _check(codec: Codec, vectors: tuple[torch.Tensor | None, ...], payload: torch.Tensor) -> None:
    """A kernel reads and writes by the number of elements alone, so the caller's bugs must end here."""
    if not has_kernels(codec):
        raise ValueError(f"device codec: expected int4 or int8, found {codec.name}")
    theta = vectors[0]
    assert theta is not None
    for vector in vectors:
        if vector is not None and not _is_like(vector, theta):
            raise ValueError(f"device codec: expected flat fp32 {theta.shape} on {theta.device}, found {vector.shape}")
    size = codec.num_blocks(theta.numel()) * codec.bytes_per_block
    if payload.dtype != torch.uint8 or payload.shape != (size,) or payload.device != theta.device:
        raise ValueError(f"device codec: expected {size} bytes on {theta.device}, found {payload.shape}")


def _is_like(vector: torch.Tensor, theta: torch.Tensor) -> bool:
    flat = vector.dtype == torch.float32 and vector.ndim == 1 and vector.is_contiguous() and vector.numel() > 0
    return flat and vector.shape == theta.shape and vector.device == theta.device
