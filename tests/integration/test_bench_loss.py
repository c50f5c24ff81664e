# SPDX-License-Identifier: Apache-2.0
"""`federation bench loss` from a generated corpus to a page, and once more from where it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from services import run_command

from federation.bench.loss_settings import METHODS
from federation.corpus import write_corpus

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

SETTINGS = """
sites = {alpha = ["de"], beta = ["fr"]}
seeds = [1, 2]
num_rounds = 4
warm_rounds = 1
outer_lrs = [1.0]
num_inner_steps = 4
tau = 1
warmup_steps = 1
hidden_size = 16
intermediate_size = 32
num_heads = 2
batch_size = 2
sequence_length = 16
evaluation_bytes = 256
min_language_bytes = 1000
"""
NUM_RUNS = 3 + 5 * 2 + 6 * 2
"""Common starts, tuning of all but data parallel, and the comparison."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("study")
    write_corpus(base / "texts", ("de", "fr"), 20_000)
    (base / "study.toml").write_text(SETTINGS)
    return base


@pytest.fixture(scope="module")
def document(base: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(study(base, "--report", base / "report", "--json"))
    return found


def study(base: Path, *options: str | Path, code: int = 0) -> str:
    arguments = ("--data", base / "texts", "--out", base / "out", "--settings", base / "study.toml")
    return run_command("federation", "bench", "loss", *arguments, *options, code=code)


def test_every_run_of_every_method_is_done(base: Path, document: dict[str, Any]) -> None:
    runs = sorted((base / "out" / "runs").glob("*.json"))
    assert len(runs) == NUM_RUNS
    assert list(document["methods"]) == list(METHODS)
    assert {item["num_samples"] for item in document["methods"].values()} == {2}
    assert {item["num_diverged"] for item in document["methods"].values()} == {0}
    assert document["tokens_per_run"] == 2 * 4 * 4 * 2 * 16
    assert all(len(tried) == 2 for tried in document["tuning"].values())


def test_methods_differ_and_cost_what_they_should(document: dict[str, Any]) -> None:
    methods = document["methods"]
    assert methods["fp32"]["relative_difference"] == 0
    assert 7.0 < methods["fp32"]["bits_per_byte"] < document["start_bits_per_byte"] < 8.1
    assert len({item["bits_per_byte"] for item in methods.values()}) == len(METHODS)
    up = {name: item["bytes_per_parameter_up"] for name, item in methods.items()}
    assert up["fp32"] == 4
    assert 0 == up["data-parallel"] < up["sparse"] < up["int4"] < up["int8"] < up["fp32"]
    assert methods["sparse"]["bytes_per_parameter_down"] > up["sparse"]


def test_the_report_is_a_page_a_plot_and_a_document(base: Path, document: dict[str, Any]) -> None:
    report = base / "report"
    text = (report / "loss.md").read_text()
    assert "federation bench loss --data texts --out out --workers 2 --settings study.toml" in text
    assert str(base) not in text
    assert "(loss.svg)" in text
    assert f"start from have {document['start_bits_per_byte']:.4f} bits per byte" in text
    assert (report / "loss.svg").read_bytes().startswith(b"<?xml")
    assert json.loads((report / "loss.json").read_text()) == document


def test_the_same_command_goes_on_and_repeats_nothing(base: Path, document: dict[str, Any]) -> None:
    runs = base / "out" / "runs"
    before = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    (runs / "int8-2.json").unlink()
    again = json.loads(study(base, "--json", "--workers", "1"))
    after = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"int8-2.json"}
    seconds = {"processor_seconds": 0}
    assert {**again, **seconds} == {**document, **seconds}


def test_a_table_for_people(base: Path, document: dict[str, Any]) -> None:
    said = study(base, "--only-report", "--methods", "int4,fp32")
    assert "DiLoCo int4" in said
    assert "sparse" not in said


@pytest.mark.parametrize(
    ("options", "settings", "sentence"),
    [
        (("--methods", "int4"), "", "--methods: expected fp32 and any of data-parallel, fp32"),
        (("--data", "nowhere"), "", "--data: expected a directory, found nowhere"),
        ((), "num_rounds = 5", "found another study in"),
        ((), 'sites = {alpha = ["de"], beta = ["el"]}', "found none of el"),
    ],
)
def test_what_cannot_be_studied_is_refused(
    options: tuple[str, ...], settings: str, sentence: str, base: Path, document: dict[str, Any]
) -> None:
    key = settings.partition(" =")[0]
    lines = [line for line in SETTINGS.splitlines() if not key or not line.startswith(f"{key} =")]
    (base / "other.toml").write_text("\n".join([*lines, settings]))
    assert sentence in study(base, "--settings", base / "other.toml", *options, code=2)
