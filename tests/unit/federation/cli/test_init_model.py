# SPDX-License-Identifier: Apache-2.0
"""`federation init-model`: the trainer package makes the model in a process of its own."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from federation.cli.init_model import init_model
from federation.errors import ConfigError, JobFailedError, UsageError

RUN = """\
[run]
id = "tiny"
consortium = "test"
num_rounds = 4
[schedule]
num_inner_steps = 4
num_fragments = 2
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 2
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 8
seed = 7
[[sites]]
id = "a"
"""


@pytest.fixture
def run_toml(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(init_model, [str(argument) for argument in arguments])


@pytest.mark.processes
def test_makes_a_model_that_fits_the_run(run_toml: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "deep" / "init"
    result = call(run_toml, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "theta0.safetensors"]
    answer = json.loads(result.output)
    assert answer["seed"] == 7
    assert answer["files"]["theta0.safetensors"] == (out / "theta0.safetensors").stat().st_size
    assert len(json.loads((out / "model.json").read_text())["fragments"]) == 2

    taken = tmp_path / "taken"
    assert call(run_toml, "--out", taken, "--from", out / "theta0.safetensors", "--seed", 8).exit_code == 0
    assert (taken / "theta0.safetensors").read_bytes() == (out / "theta0.safetensors").read_bytes()


def test_never_overwrites(run_toml: Path, tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "mine").write_text("mine")
    result = call(run_toml, "--out", tmp_path / "init")
    assert isinstance(result.exception, UsageError)
    assert "expected the name of a new directory" in str(result.exception)
    assert (tmp_path / "init" / "mine").read_text() == "mine"


def test_a_bad_file_leaves_nothing(run_toml: Path, tmp_path: Path) -> None:
    run_toml.write_text(RUN.replace("num_fragments = 2", "num_fragments = 3"))
    result = call(run_toml, "--out", tmp_path / "init")
    assert isinstance(result.exception, ConfigError)
    assert "a divisor of num_inner_steps = 4, found 3 (line 7)" in str(result.exception)
    assert not (tmp_path / "init").exists()


@pytest.mark.processes
def test_the_trainers_own_refusal_is_the_operators_too(run_toml: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = call(run_toml, "--out", tmp_path / "init", "--from", tmp_path / "nothing.safetensors")
    assert isinstance(result.exception, ConfigError)
    assert "nothing.safetensors" in str(result.exception)
    assert not (tmp_path / "init").exists()


def test_a_trainer_that_breaks_leaves_nothing(run_toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.cli.init_model.INIT_MODULE", "no_such_trainer")
    result = call(run_toml, "--out", tmp_path / "init")
    assert isinstance(result.exception, JobFailedError)
    assert "No module named no_such_trainer" in str(result.exception)
    assert "extra `train`" in result.exception.advice
    assert not (tmp_path / "init").exists()
