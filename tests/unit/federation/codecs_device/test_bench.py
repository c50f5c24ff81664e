# SPDX-License-Identifier: Apache-2.0
"""Figures of the device's kernels where there is no device."""

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="Triton is not installed")

from federation.codecs_device.bench import device_figures  # noqa: E402

ABSENT = {"absent": "torch finds neither a CUDA nor a ROCm device"}


def test_no_device_gives_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_figures() == ABSENT


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device, whose figures have their own test")
@pytest.mark.device
def test_the_module_prints_them_as_json() -> None:
    command = [sys.executable, "-m", "federation.codecs_device"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout) == ABSENT
