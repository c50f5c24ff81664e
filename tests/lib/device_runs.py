# SPDX-License-Identifier: Apache-2.0
"""Runs one case of the device's kernels on a device, or on the CPU under Triton's interpreter."""

import numpy as np
import torch
from device_cases import ALPHA, BETA, ApplyCase, EncodeCase

from federation.codecs.registry import get_codec
from federation.codecs_device import launch

CANARY = 0xA5
"""What lies behind every output, to be found there afterwards."""

MARGIN = 256


def run_encode(case: EncodeCase, device: torch.device) -> dict[str, np.ndarray]:
    """status, payload, candidate; "beyond" is 1 if something was written outside of them."""
    codec, size = get_codec(case.codec), case.theta.size
    payload = _bytes(codec.num_blocks(size) * codec.bytes_per_block, device)
    candidate = _bytes(4 * size, device)
    status = launch.new_status(device)
    with_feedback = case.feedback is not None
    launch.encode(
        codec,
        _up(case.theta, device),
        _up(case.local, device),
        payload[:-MARGIN],
        status,
        feedback=_up(case.feedback, device) if with_feedback else None,
        beta=BETA,
        feedback_out=candidate[:-MARGIN].view(torch.float32) if with_feedback else None,
    )
    return _down(status, payload=payload, candidate=candidate)


def run_apply(case: ApplyCase, device: torch.device) -> dict[str, np.ndarray]:
    """status, theta, local; "beyond" is 1 if something was written outside of them."""
    size = case.theta.size
    theta_out, local = _bytes(4 * size, device), _bytes(4 * size, device)
    status = launch.new_status(device)
    if case.local is not None:
        local[:-MARGIN].view(torch.float32).copy_(_up(case.local, device))
    launch.apply(
        get_codec(case.codec),
        _up(case.payload, device),
        _up(case.theta, device),
        theta_out[:-MARGIN].view(torch.float32),
        status,
        local=None if case.local is None else local[:-MARGIN].view(torch.float32),
        alpha=ALPHA,
    )
    return _down(status, theta=theta_out, local=local)


def _bytes(size: int, device: torch.device) -> torch.Tensor:
    return torch.full((size + MARGIN,), CANARY, dtype=torch.uint8, device=device)


def _up(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array.copy()).to(device)


def _down(status: torch.Tensor, **outputs: torch.Tensor) -> dict[str, np.ndarray]:
    host = {name: tensor.cpu().numpy() for name, tensor in outputs.items()}
    beyond = any((array[-MARGIN:] != CANARY).any() for array in host.values())
    found = {name: array[:-MARGIN] for name, array in host.items()}
    return found | {"status": status.cpu().numpy(), "beyond": np.array(int(beyond))}
