# SPDX-License-Identifier: Apache-2.0
"""Figures of the device's kernels, each as a share of plain copy speed on the same device in the same run."""

import statistics
from collections.abc import Callable
from typing import Final

import torch

from federation.codecs.registry import get_codec
from federation.codecs.scaled_int import BLOCK_ELEMENTS
from federation.codecs_device import launch
from federation.codecs_device.check import DEVICE_CODECS, check_device
from federation.errors import NumericsMismatchError

NUM_ELEMENTS: Final = 2**27
"""512 MiB per operand: far beyond a device's caches."""

NUM_SAMPLES: Final = 20
_FLOAT_BYTES: Final = 4


def device_figures(num_elements: int = NUM_ELEMENTS, num_samples: int = NUM_SAMPLES) -> dict[str, float | int | str]:
    """Figures by documented key, medians over `num_samples`; {} without a device.

    - device_name
    - device_samples: timed runs of each figure
    - device_copy_bytes_per_second: read plus written bytes of a plain copy
    - device_encode_int4_share_of_copy: int4 encode from theta, local and error feedback, all bytes read and written a
      second, divided by the copy's; `..._spread`: (largest - smallest) / median of its samples
    - device_encode_int8_share_of_copy, device_apply_int4_share_of_copy, device_apply_int8_share_of_copy: likewise;
      apply is decode and subtract
    - device_payload_equals_cpu: 1 if payloads and candidates of int4 and int8 are the CPU's to the bit, else 0
    """
    if not torch.cuda.is_available():
        return {}
    device = torch.device("cuda")
    vectors = [torch.randn(num_elements, device=device) for _ in range(3)]
    target = torch.empty_like(vectors[0])
    copy = _seconds(lambda: target.copy_(vectors[0]), num_samples)
    copy_speed = 2 * target.nbytes / statistics.median(copy)
    figures: dict[str, float | int | str] = {
        "device_name": torch.cuda.get_device_name(device),
        "device_samples": num_samples,
        "device_copy_bytes_per_second": copy_speed,
        "device_payload_equals_cpu": int(_equals_cpu(device)),
    }
    for name in DEVICE_CODECS:
        figures |= _shares(name, vectors, target, copy_speed, num_samples)
    return figures


def _shares(
    name: str, vectors: list[torch.Tensor], target: torch.Tensor, copy_speed: float, num_samples: int
) -> dict[str, float | int | str]:
    theta, local, feedback = vectors
    codec, status = get_codec(name), launch.new_status(theta.device)
    payload = torch.empty(
        codec.num_blocks(theta.numel()) * codec.bytes_per_block, dtype=torch.uint8, device=theta.device
    )

    def encode() -> None:
        launch.encode(codec, theta, local, payload, status, feedback=feedback, beta=0.95, feedback_out=target)

    def apply() -> None:
        launch.apply(codec, payload, theta, target, status)

    # Reads theta, local and feedback and writes the candidate; reads and writes theta. The payload besides.
    stored = codec.bytes_per_block / BLOCK_ELEMENTS
    figures: dict[str, float | int | str] = {}
    for work, samples, moved in (
        ("encode", _seconds(encode, num_samples), 4 * _FLOAT_BYTES + stored),
        ("apply", _seconds(apply, num_samples), 2 * _FLOAT_BYTES + stored),
    ):
        key = f"device_{work}_{name}_share_of_copy"
        figures[key] = theta.numel() * moved / statistics.median(samples) / copy_speed
        figures[f"{key}_spread"] = _spread(samples)
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
