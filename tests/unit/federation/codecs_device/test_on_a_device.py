# SPDX-License-Identifier: Apache-2.0
"""The device's kernels on a real device, CUDA or ROCm, give the reference's bits."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
triton = pytest.importorskip("triton", reason="Triton is not installed")

from device_cases import (  # noqa: E402
    ALPHA,
    BETA,
    ApplyCase,
    EncodeCase,
    apply_cases,
    encode_cases,
)
from device_runs import run_apply, run_encode  # noqa: E402

from federation.codecs.payload import decode_vector, payload_bytes  # noqa: E402
from federation.codecs.registry import get_codec  # noqa: E402
from federation.codecs_device.bench import device_figures  # noqa: E402
from federation.codecs_device.check import check_device  # noqa: E402
from federation.codecs_device.fragment import (  # noqa: E402
    Pieces,
    apply_fragment_on_device,
    encode_fragment_on_device,
)
from federation.error_feedback import encode_with_feedback  # noqa: E402
from federation.golden import inputs  # noqa: E402
from federation.pseudo_gradient import merge  # noqa: E402

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no accelerator here: torch finds neither a CUDA nor a ROCm device"
    ),
]


@pytest.mark.parametrize("case", list(encode_cases()), ids=lambda case: case.name)
def test_encoding(case: EncodeCase) -> None:
    expected, found = case.expected(), run_encode(case, torch.device("cuda"))
    assert (found["status"].tolist(), int(found["beyond"])) == ([int(expected is None)], 0)
    if expected is not None:
        assert found["payload"].tobytes() == expected[0]
        assert case.feedback is None or found["candidate"].tobytes() == expected[1]


@pytest.mark.parametrize("case", list(apply_cases()), ids=lambda case: case.name)
def test_applying(case: ApplyCase) -> None:
    expected, found = case.expected(), run_apply(case, torch.device("cuda"))
    assert (found["status"].tolist(), int(found["beyond"])) == ([int(expected is None)], 0)
    if expected is not None:
        assert found["theta"].tobytes() == expected[0]
        assert case.local is None or found["local"].tobytes() == expected[1]


@pytest.mark.parametrize("name", ["int4", "int8"])
def test_a_fragment_of_many_chunks(name: str) -> None:
    codec, size, device = get_codec(name), 5 * 2**20 + 77, torch.device("cuda")
    theta, local, feedback = (inputs.usual(seed, size) for seed in (1, 2, 3))
    there = Pieces(torch.split(torch.from_numpy(local).to(device), 1_111_111))
    payload, candidate = np.zeros(payload_bytes(codec, size), np.uint8), np.zeros_like(theta)
    encode_fragment_on_device(
        codec, theta, there, payload, device=device, feedback=feedback, beta=BETA, feedback_out=candidate
    )
    expected, expected_candidate = encode_with_feedback(codec, np.subtract(theta, local), feedback, BETA)
    assert payload.tobytes() == expected
    assert candidate.tobytes() == expected_candidate.tobytes()
    theta_out = np.zeros_like(theta)
    apply_fragment_on_device(codec, payload, theta, theta_out, there, ALPHA, device=device)
    expected_theta = np.subtract(theta, decode_vector(codec, size, payload))
    assert theta_out.tobytes() == expected_theta.tobytes()
    assert there.read(0, size).cpu().numpy().tobytes() == merge(expected_theta, local, ALPHA).tobytes()


def test_the_check_passes() -> None:
    check_device(torch.device("cuda"))


def test_int4_encodes_at_the_speed_of_memory() -> None:
    figures = device_figures()
    assert figures["payload_equals_cpu"]
    assert figures["codecs"]["int4"]["encode_share_of_copy"] >= 0.6, figures
