# SPDX-License-Identifier: Apache-2.0
"""Figures of the device's kernels, each as a share of plain copy speed on the same device in the same run."""

import statistics
from collections.abc import Callable
from typing import Any, Final

import torch

from federation.codecs.registry import get_codec
from federation.codecs_device import launch
from federation.codecs_device.check import DEVICE_CODECS, check_device
from federation.errors import NumericsMismatchError

NUM_ELEMENTS: Final = 2**27
"""512 MiB per operand: far beyond a device's caches."""

NUM_SAMPLES: Final = 20


Figures = dict[str, Any]
"""For JSON."""


def device_figures(num_elements: int = NUM_ELEMENTS, num_samples: int = NUM_SAMPLES) -> Figures:
    """Figures by documented key, medians over `num_samples`; without a device {"absent": why}.

    - name: the device's
    - num_parameters: of each operand
    - num_samples: timed runs of each figure
    - copy_bytes_per_second: read plus written bytes of a plain copy
    - payload_equals_cpu: whether payloads, candidates and merged values are the CPU's to the bit
    - codecs: per codec encode_share_of_copy: encode from theta, local and error feedback, all bytes read and written a
      second, divided by the copy's; apply_share_of_copy: likewise for decode and subtract; and of either
      ..._spread: (largest - smallest) / median of its samples
    """
    if not torch.cuda.is_available():
        return {"absent": "torch finds neither a CUDA nor a ROCm device"}
    device = torch.device("cuda")
    vectors = [torch.randn(num_elements, device=device) for _ in range(3)]
    target = torch.empty_like(vectors[0])
    copy = _seconds(lambda: target.copy_(vectors[0]), num_samples)
    copy_speed = 2 * target.nbytes / statistics.median(copy)
    return {
        "name": torch.cuda.get_device_name(device),
        "num_parameters": num_elements,
        "num_samples": num_samples,
        "copy_bytes_per_second": copy_speed,
        "payload_equals_cpu": _equals_cpu(device),
        "codecs": {name: _shares(name, vectors, target, copy_speed, num_samples) for name in DEVICE_CODECS},
    }


def _shares(
    name: str, vectors: list[torch.Tensor], target: torch.Tensor, copy_speed: float, num_samples: int
) -> Figures:
    theta, local, feedback = vectors
    codec, status = get_codec(name), launch.new_status(theta.device)
    size = codec.num_blocks(theta.numel()) * codec.bytes_per_block
    payload = torch.empty(size, dtype=torch.uint8, device=theta.device)

    def encode() -> None:
        launch.encode(codec, theta, local, payload, status, feedback=feedback, beta=0.95, feedback_out=target)

    def apply() -> None:
        launch.apply(codec, payload, theta, target, status)

    # Reads theta, local and feedback and writes the candidate; reads and writes theta. The payload besides.
    figures: Figures = {}
    for work, samples, moved in (
        ("encode", _seconds(encode, num_samples), 4 * theta.nbytes + size),
        ("apply", _seconds(apply, num_samples), 2 * theta.nbytes + size),
    ):
        figures[f"{work}_share_of_copy"] = moved / statistics.median(samples) / copy_speed
        figures[f"{work}_share_of_copy_spread"] = _spread(samples)
    assert status.item() == 0, "the kernels refused values of a unit normal"
    return figures


def _seconds(work: Callable[[], object], num_samples: int) -> list[float]:
    for _ in range(3):
        work()
    samples = []
    for _ in range(num_samples):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        work()
        stop.record()
        stop.synchronize()
        samples.append(start.elapsed_time(stop) / 1000)
    return samples


def _spread(samples: list[float]) -> float:
    return (max(samples) - min(samples)) / statistics.median(samples)


def _equals_cpu(device: torch.device) -> bool:
    try:
        check_device(device)
    except NumericsMismatchError:
        return False
    return True
