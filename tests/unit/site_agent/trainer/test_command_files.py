# SPDX-License-Identifier: Apache-2.0
"""What an executable leaves is taken over if it is exactly what was ordered, and refused with a reason otherwise."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_command
from job_bench.toy import PARAMETERS
from safetensors.numpy import load_file, save_file

from federation.errors import FederationError, NonFiniteUpdateError
from federation.fragments import build_fragments
from site_agent.inner_loop.allocation import ModelDiffersError
from site_agent.trainer.command_files import read_result, read_weights
from site_agent.trainer.command_process import CommandFailedError

NUM_STEPS = 3
TABLES = build_fragments(PARAMETERS, 2)


@pytest.fixture(autouse=True)
def _restore_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def window(directory: Path, monkeypatch: pytest.MonkeyPatch, mode: str = "") -> None:
    """One window of the toy, in this process."""
    (directory / "state").mkdir()
    draw = np.random.default_rng(0)
    save_file({n: draw.normal(size=shape).astype(np.float32) for n, shape in PARAMETERS}, directory / "base")
    order = {
        "base": str(directory / "base"),
        "state_dir": str(directory / "state"),
        "weights": str(directory / "weights.safetensors"),
        "result": str(directory / "result.json"),
        "num_steps": NUM_STEPS,
        "learning_rates": [0.1] * NUM_STEPS,
        "is_continued": False,
    }
    (directory / "order").write_text(json.dumps(order))
    monkeypatch.setenv("FEDERATION_WORK_ORDER", str(directory / "order"))
    toy_command.main([f"--mode={mode}"])


def live() -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape) for name, shape in PARAMETERS}


def take_over(directory: Path) -> dict[str, torch.Tensor]:
    parameters = live()
    read_result(directory / "result.json", NUM_STEPS)
    read_weights(directory / "weights.safetensors", TABLES, parameters)
    return parameters


def test_good_work_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window(tmp_path, monkeypatch)
    result = read_result(tmp_path / "result.json", NUM_STEPS)
    assert (result.num_steps, result.tokens, dict(result.metrics)) == (3, 6 + 7 + 5, {"lr": 0.5})
    found, expected = take_over(tmp_path), load_file(tmp_path / "weights.safetensors")
    assert all(np.array_equal(tensor.numpy(), expected[name]) for name, tensor in found.items())


BAD: list[tuple[str, type[FederationError], str]] = [
    ("no-json", CommandFailedError, "expected a JSON object, found something that is no JSON"),
    ("list-json", CommandFailedError, r"found JSON of another kind \(list\)"),
    ("huge-result", CommandFailedError, "bytes, more than 65536"),
    ("wrong-steps", CommandFailedError, "expected num_steps 3, as ordered, found 1"),
    ("no-tokens", CommandFailedError, "expected tokens of at least 1, found 0"),
    ("text-metric", CommandFailedError, "expected metrics with finite numbers"),
    ("no-result", CommandFailedError, "result.json: expected the executable to leave this file"),
    ("no-weights", CommandFailedError, "weights.safetensors: expected the executable to leave this file"),
    ("nan-weights", NonFiniteUpdateError, "found 1 NaN or infinite elements in embed"),
    ("bf16", ModelDiffersError, "expected fp32 tensors in one whole safetensors file, found dtype BF16"),
    ("fp16", ModelDiffersError, "found dtype F16"),
    ("missing", ModelDiffersError, r"embed: expected shape \(3, 5\), found nothing"),
    ("extra", ModelDiffersError, "expected the run's 6 tensors, found 7"),
    ("misshaped", ModelDiffersError, r"embed: expected shape \(3, 5\), found \(15,\)"),
    ("truncated", ModelDiffersError, "found a file that is cut short"),
    ("huge-header", ModelDiffersError, "found a file that is cut short"),
    ("sparse-huge", CommandFailedError, "weights.safetensors: expected the executable to leave this file"),
    ("weights-link", CommandFailedError, "weights.safetensors: expected the executable to leave this file"),
    ("weights-pipe", CommandFailedError, "found something else"),
]


@pytest.mark.parametrize(("mode", "kind", "sentence"), BAD, ids=[mode for mode, _, _ in BAD])
def test_bad_work_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, kind: type[FederationError], sentence: str
) -> None:
    window(tmp_path, monkeypatch, mode)
    with pytest.raises(kind, match=sentence) as caught:
        take_over(tmp_path)
    said = caught.value.diagnostics()
    assert caught.value.advice
    assert "CANARY" not in said
    assert str(tmp_path) not in said


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "1" * 10_000, '{"num_steps": true, "tokens": 1, "mean_loss": 1}', '{"num_steps": 3.0}',
     '{"num_steps": 3, "tokens": 1e300, "mean_loss": 1}', '{"num_steps": 3, "tokens": 4, "mean_loss": "low"}',
     '{"num_steps": 3, "tokens": 4, "mean_loss": 1, "metrics": {"x": NaN}}',
     '{"num_steps": 3, "tokens": 4, "mean_loss": 1, "metrics": {"a b": 1}}'],
)  # fmt: skip
def test_any_text_is_a_result_or_an_error_of_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(CommandFailedError, match=r"result\.json: expected"):
        read_result(tmp_path / "result.json", NUM_STEPS)


def test_a_nan_loss_is_read_and_left_to_the_loop(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"num_steps": 3, "tokens": 4, "mean_loss": NaN}')
    assert np.isnan(read_result(tmp_path / "result.json", NUM_STEPS).mean_loss)


def read_any(path: Path) -> None:
    if path.suffix == ".json":
        read_result(path, NUM_STEPS)
    else:
        read_weights(path, TABLES, live())


@pytest.mark.parametrize("target", ["result.json", "weights.safetensors"])
def test_a_directory_is_no_file(tmp_path: Path, target: str) -> None:
    (tmp_path / target).mkdir()
    with pytest.raises(CommandFailedError, match="found something else"):
        read_any(tmp_path / target)
