# SPDX-License-Identifier: Apache-2.0
"""Runs the device's kernels under Triton's interpreter, in a process of its own: `python interpreted_kernels.py OUT`.

The interpreter is chosen when Triton is imported, for the whole process. Results go to OUT as one npz file.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from device_cases import ALPHA, BETA, apply_cases, encode_cases
from device_runs import run_apply, run_encode
from triton.runtime import interpreter

from federation.codecs.api import Codec
from federation.codecs.registry import get_codec
from federation.codecs_device import launch
from federation.codecs_device.check import check_device
from federation.codecs_device.fragment import (
    Pieces,
    apply_fragment_on_device,
    encode_fragment_on_device,
)
from federation.errors import FederationError
from federation.golden import inputs

CPU = torch.device("cpu")
FRAGMENT_SIZE = 2**20 + 300
CUTS = (1000, 2**20 - 2000, 1300)


def pieces(vector: np.ndarray) -> Pieces:
    return Pieces(torch.split(torch.from_numpy(vector.copy()), CUTS))


def whole_fragments(results: dict[str, np.ndarray]) -> None:
    theta, local, feedback = (inputs.usual(seed, FRAGMENT_SIZE) for seed in (1, 2, 3))
    for name in ("int4", "int8"):
        codec = get_codec(name)
        payload = np.zeros(codec.num_blocks(FRAGMENT_SIZE) * codec.bytes_per_block, np.uint8)
        there, candidate, theta_out = pieces(local), np.zeros_like(theta), np.zeros_like(theta)
        encode_fragment_on_device(
            codec, theta, there, payload, device=CPU, feedback=feedback, beta=BETA, feedback_out=candidate
        )
        apply_fragment_on_device(codec, payload, theta, theta_out, there, ALPHA, device=CPU)
        results |= {
            f"fragment-{name}-{key}": value
            for key, value in (
                ("payload", payload),
                ("candidate", candidate),
                ("theta", theta_out),
                ("local", there.read(0, FRAGMENT_SIZE).numpy()),
            )
        }


def refusals(results: dict[str, np.ndarray]) -> None:
    codec, theta = get_codec("int4"), np.ones(300, np.float32)
    local = theta.copy()
    local[200] = np.nan
    payload = np.zeros(3 * 66, np.uint8)
    results["refused-encode"] = _sentence(
        lambda: encode_fragment_on_device(codec, theta, Pieces([torch.from_numpy(local)]), payload, device=CPU)
    )
    payload[3] = 1
    results["refused-apply"] = _sentence(
        lambda: apply_fragment_on_device(
            codec, payload, theta, theta.copy(), Pieces([torch.from_numpy(local)]), ALPHA, device=CPU
        )
    )


def checks(results: dict[str, np.ndarray]) -> None:
    """The check of a device on one that is right, and on others that are wrong in some way or for some inputs only."""
    results["check"] = _sentence(lambda: check_device(CPU))
    with flushing_divisions():
        results["check-flushing"] = _sentence(lambda: check_device(CPU))
    with wrong_where(lambda codec, theta, feedback: feedback is None):
        results["check-bare"] = _sentence(lambda: check_device(CPU))
    with wrong_where(lambda codec, theta, feedback: theta.numel() % 16 == 0):
        results["check-whole"] = _sentence(lambda: check_device(CPU))
    with wrong_where(lambda codec, theta, feedback: theta.data_ptr() % 16 != 0):
        results["check-unaligned"] = _sentence(lambda: check_device(CPU))
    with wrong_where(lambda codec, theta, feedback: codec.name == "int4"):
        results["check-int4"] = _sentence(lambda: check_device(CPU, ["int4"]))
        results["check-int8"] = _sentence(lambda: check_device(CPU, ["int8"]))


@contextmanager
def wrong_where(is_wrong: Callable[..., bool]) -> Iterator[None]:
    """One bit of a payload is another one wherever this holds."""
    right = launch.encode

    def encode(
        codec: Codec, theta: torch.Tensor, local: torch.Tensor, payload: torch.Tensor, *rest: Any, **more: Any
    ) -> None:
        right(codec, theta, local, payload, *rest, **more)
        payload[7] ^= int(is_wrong(codec, theta, more.get("feedback")))

    with mock.patch.object(launch, "encode", encode):
        yield


@contextmanager
def flushing_divisions() -> Iterator[None]:
    """The interpreter divides as releases of Triton before 3.6 do."""
    right = interpreter.InterpreterBuilder.create_precise_divf
    interpreter.InterpreterBuilder.create_precise_divf = _flushing  # type: ignore[method-assign]
    yield
    interpreter.InterpreterBuilder.create_precise_divf = right  # type: ignore[method-assign]


def _flushing(self: object, a: interpreter.TensorHandle, b: interpreter.TensorHandle) -> interpreter.TensorHandle:
    with np.errstate(all="ignore"):
        quotient = flushed(a.data) / flushed(b.data)
    return interpreter.TensorHandle(flushed(quotient), a.dtype.scalar)


def flushed(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0), x).astype(np.float32)


def _sentence(work: object) -> np.ndarray:
    try:
        work()  # type: ignore[operator]
    except FederationError as error:
        return np.array(f"{type(error).__name__}: {error}")
    return np.array("nothing was raised")


def main(out: Path) -> None:
    results: dict[str, np.ndarray] = {}
    for encode_case in encode_cases():
        for key, value in run_encode(encode_case, CPU).items():
            results[f"encode-{encode_case.name}-{key}"] = value
    for apply_case in apply_cases():
        for key, value in run_apply(apply_case, CPU).items():
            results[f"apply-{apply_case.name}-{key}"] = value
    whole_fragments(results)
    refusals(results)
    checks(results)
    np.savez(out, **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
