# SPDX-License-Identifier: Apache-2.0
"""The device's kernels, interpreted on the CPU, give the reference's bits on inputs chosen to break them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from device_cases import ALPHA, BETA, ApplyCase, EncodeCase, apply_cases, encode_cases

from federation.codecs.registry import get_codec
from federation.error_feedback import encode_with_feedback
from federation.golden import inputs
from federation.pseudo_gradient import merge

LIBRARY = Path(__file__).resolve().parents[3] / "lib"

Results = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    pytest.importorskip("triton", reason="Triton is not installed")
    out = tmp_path_factory.mktemp("interpreted") / "results.npz"
    script = LIBRARY / "interpreted_kernels.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, out], check=True, env=environment, timeout=240)
    with np.load(out) as found:
        return dict(found)


@pytest.mark.parametrize("case", list(encode_cases()), ids=lambda case: case.name)
def test_encoding(case: EncodeCase, results: Results) -> None:
    expected, prefix = case.expected(), f"encode-{case.name}"
    assert results[f"{prefix}-status"].tolist() == [int(expected is None)]
    assert not results[f"{prefix}-beyond"]
    if expected is not None:
        assert results[f"{prefix}-payload"].tobytes() == expected[0]
        assert case.feedback is None or results[f"{prefix}-candidate"].tobytes() == expected[1]


@pytest.mark.parametrize("case", list(apply_cases()), ids=lambda case: case.name)
def test_applying(case: ApplyCase, results: Results) -> None:
    expected, prefix = case.expected(), f"apply-{case.name}"
    assert results[f"{prefix}-status"].tolist() == [int(expected is None)]
    assert not results[f"{prefix}-beyond"]
    if expected is not None:
        assert results[f"{prefix}-theta"].tobytes() == expected[0]
        assert case.local is None or results[f"{prefix}-local"].tobytes() == expected[1]


def test_the_cases_hold_both_kinds() -> None:
    for cases in (list(encode_cases()), list(apply_cases())):
        refused = sum(case.expected() is None for case in cases)
        assert 20 <= refused <= len(cases) - 20


@pytest.mark.parametrize("name", ["int4", "int8"])
def test_a_fragment_of_several_chunks_and_tensors(name: str, results: Results) -> None:
    codec, size = get_codec(name), results[f"fragment-{name}-theta"].size
    theta, local, feedback = (inputs.usual(seed, size) for seed in (1, 2, 3))
    head, tail = slice(0, 2**20), slice(2**20, None)
    delta = np.subtract(theta, local)
    payload, candidate = encode_with_feedback(codec, delta, feedback, BETA)
    assert results[f"fragment-{name}-payload"].tobytes() == payload
    assert results[f"fragment-{name}-candidate"].tobytes() == candidate.tobytes()
    bytes_of_head = codec.num_blocks(2**20) * codec.bytes_per_block
    decoded = codec.decode(payload[:bytes_of_head], 2**20), codec.decode(payload[bytes_of_head:], size - 2**20)
    theta_out = np.subtract(theta, np.concatenate(decoded))
    assert results[f"fragment-{name}-theta"].tobytes() == theta_out.tobytes()
    for part in (head, tail):
        merged = merge(theta_out[part], local[part], ALPHA)
        assert results[f"fragment-{name}-local"][part].tobytes() == merged.tobytes()


def test_what_the_device_refuses_the_reference_explains(results: Results) -> None:
    assert str(results["refused-encode"]).startswith("NonFiniteUpdateError: int4: expected magnitudes up to")
    assert str(results["refused-apply"]).startswith("MalformedPayloadError: int4: expected zeros in a block of scale 0")


def test_a_device_that_flushes_subnormals_is_found_out(results: Results) -> None:
    assert str(results["check"]) == "nothing was raised"
    assert str(results["check-flushing"]).startswith("NumericsMismatchError: int4 on cpu: expected the CPU's bits")


@pytest.mark.parametrize("where", ["bare", "whole", "unaligned", "int4"])
def test_so_is_one_that_is_wrong_only_in_some_cases(where: str, results: Results) -> None:
    assert str(results[f"check-{where}"]).startswith("NumericsMismatchError: int4 on cpu: expected the CPU's bits")


def test_a_codec_that_is_not_asked_for_is_not_checked(results: Results) -> None:
    assert str(results["check-int8"]) == "nothing was raised"
