# SPDX-License-Identifier: Apache-2.0
"""The loss study's settings, statistics and report; what it trains is tested elsewhere."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from federation.bench.loss_page import page
from federation.bench.loss_report import study_document
from federation.bench.loss_runs import LossStudy
from federation.bench.loss_settings import METHODS, Choice, StudySettings, load_settings, run_toml
from federation.bench.loss_statistics import relative_difference, student_t
from federation.errors import ConfigError, UsageError
from federation.run_config import parse_run_config, resolve

# One-sided 95% quantiles of Student's t, as printed in tables.
TABLE = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 10: 1.812, 30: 1.697, 120: 1.658}


@pytest.mark.parametrize(("degrees", "value"), TABLE.items())
def test_quantiles_of_student_t(degrees: int, value: float) -> None:
    assert student_t(0.95, degrees) == pytest.approx(value, abs=6e-4)


def test_other_probabilities_of_student_t() -> None:
    assert student_t(0.975, 5) == pytest.approx(2.571, abs=6e-4)
    assert student_t(0.99, 4) == pytest.approx(3.747, abs=6e-4)


def test_the_bound_is_that_of_the_paired_differences() -> None:
    found = relative_difference([1.01, 2.04, 3.00], [1.0, 2.0, 3.0])
    pairs = (0.01, 0.02, 0.0)
    assert found.by_pair == pytest.approx(pairs)
    assert found.mean == pytest.approx(0.01)
    assert found.upper == pytest.approx(0.01 + 2.920 * statistics.stdev(pairs) / math.sqrt(3), rel=1e-3)


def test_pairs_that_differ_alike_have_no_spread() -> None:
    """The base's own spread does not count."""
    found = relative_difference([1.1, 2.2], [1.0, 2.0])
    assert (found.mean, found.upper) == (pytest.approx(0.1), pytest.approx(0.1))


def test_one_pair_has_no_bound() -> None:
    assert relative_difference([2.0], [1.0]).upper is None


def test_tuning_costs_every_method_the_same() -> None:
    settings = StudySettings()
    sizes = {len(settings.grid(method)) for method in METHODS.values() if not method.data_parallel}
    assert sizes == {6}
    assert settings.grid(METHODS["data-parallel"]) == []
    assert settings.tuning_seed not in settings.seeds
    assert len(settings.seeds) >= 6


@pytest.mark.parametrize("name", METHODS)
def test_every_run_is_one_that_a_federation_takes(name: str) -> None:
    method, settings = METHODS[name], StudySettings()
    text = run_toml(settings, method, Choice(lr=0.7, beta=0.9), seed=3, num_rounds=5)
    manifest = resolve(parse_run_config(text))
    plan = manifest.plan
    assert (manifest.codecs.up, manifest.codecs.down) == (method.codec, method.codec_down)
    assert manifest.codecs.error_feedback == method.feedback
    assert manifest.outer.momentum == (0.0 if method.feedback else 0.9)
    assert not method.feedback or manifest.codecs.error_feedback_beta == 0.9
    assert plan.num_rounds == 5 * plan.num_fragments
    assert (plan.num_fragments, plan.tau) == ((4, 4) if method.streaming else (1, 0))
    assert manifest.inner.total_steps == 5 * settings.num_inner_steps
    assert manifest.trainer.seed == 3


def test_settings_of_a_file_replace_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('sites = {x = ["de"], y = ["fr", "mt"]}\nseeds = [7, 8]\n')
    settings = load_settings(tmp_path / "s.toml")
    assert settings.languages == ("de", "fr", "mt")
    assert settings.seeds == (7, 8)
    assert settings.num_rounds == StudySettings().num_rounds


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('sites = {x = ["de"], y = ["de"]}', "sites: expected each language at one site"),
        ("seeds = [1000]", "seeds: expected different ones, also from tuning_seed"),
        ("seeds = []", "seeds: expected different ones"),
        ("tuning_share = 0", "tuning_share: expected 1 to 64, found 0"),
        ("num_round = 3", "num_round"),
    ],
)
def test_settings_that_make_no_study_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        load_settings(tmp_path / "s.toml")


# --- report -----------------------------------------------------------------------------------------------------------

SETTINGS = StudySettings(
    sites={"x": ("de",), "y": ("mt",)},
    seeds=(1, 2, 3),
    num_rounds=2,
    outer_lrs=(0.7, 1.0),
    momenta=(0.0,),
    warm_rounds=0,
)


def result_of(name: str, de: float, mt: float = 9.0, diverged: bool = False) -> dict[str, Any]:
    scores = [{"language": "de", "bits_per_byte": de}, {"language": "mt", "bits_per_byte": mt}]
    return {
        "name": name,
        "diverged": diverged,
        "num_parameters": 100,
        "tokens": 1000,
        "seconds": 1.5,
        "theta_digests": [],
        "scores": [] if diverged else [{**score, "num_bytes": 10} for score in scores],
        "text_bytes": {"de": 2_000_000, "mt": 999_999},
        "losses": [3.0, 2.0],
        "bytes_up": 400,
        "bytes_down": 200,
    }


def study_of(tmp_path: Path, results: list[dict[str, Any]], *methods: str) -> LossStudy:
    (tmp_path / "runs").mkdir()
    for result in results:
        (tmp_path / "runs" / f"{result['name']}.json").write_text(json.dumps(result))
    return LossStudy(settings=SETTINGS, data=tmp_path, out=tmp_path, methods=("fp32", *methods), say=lambda _: None)


def tuned(method: str, *losses: float) -> list[dict[str, Any]]:
    names = (f"tuning-{method}-lr-{lr:g}-beta-0" for lr in (0.7, 1.0))
    return [result_of(name, loss, diverged=math.isinf(loss)) for name, loss in zip(names, losses, strict=True)]


def test_only_languages_with_enough_text_count(tmp_path: Path) -> None:
    base = [result_of(f"fp32-{seed}", 2.0) for seed in SETTINGS.seeds]
    int8 = [result_of(f"int8-{seed}", 2.0 + 0.01 * seed, mt=5.0) for seed in SETTINGS.seeds]
    document = study_document(study_of(tmp_path, [*base, *int8], "int8"))
    assert document["counted_languages"] == ["de"]
    found = document["methods"]["int8"]
    assert found["relative_difference"] == pytest.approx(0.01)
    assert found["relative_difference_by_seed"] == pytest.approx([0.005, 0.01, 0.015])
    assert found["relative_difference_upper_95"] == pytest.approx(0.01 + 2.92 * 0.005 / math.sqrt(3), rel=1e-3)
    assert found["within_target"] is False
    assert found["languages"]["mt"]["relative_difference"] == pytest.approx(5 / 9 - 1)
    assert found["bytes_per_parameter_up"] == pytest.approx(400 / (100 * 2 * 2))
    assert document["processor_seconds"] == 9.0


def test_the_best_pair_of_tuning_is_chosen_and_never_one_that_broke_down(tmp_path: Path) -> None:
    study = study_of(tmp_path, [*tuned("fp32", 3.0, 2.9), *tuned("int8", 3.0, math.inf)], "int8")
    assert study.choice(METHODS["fp32"]) == Choice(lr=1.0, beta=0.0)
    assert study.choice(METHODS["int8"]) == Choice(lr=0.7, beta=0.0)


def test_a_seed_counts_when_both_of_its_runs_are_there(tmp_path: Path) -> None:
    runs = [result_of("fp32-1", 2.0), result_of("fp32-3", 2.0), result_of("int8-2", 3.0), result_of("int8-3", 2.0)]
    document = study_document(study_of(tmp_path, runs, "int8"))
    assert document["methods"]["int8"]["seeds"] == [3]
    assert document["methods"]["int8"]["relative_difference_upper_95"] is None
    assert document["methods"]["int8"]["within_target"] is None


def test_a_run_that_broke_down_is_told_and_not_averaged(tmp_path: Path) -> None:
    base = [result_of(f"fp32-{seed}", 2.0) for seed in SETTINGS.seeds]
    int4 = [result_of(f"int4-{seed}", 2.0, diverged=seed == 2) for seed in SETTINGS.seeds]
    document = study_document(study_of(tmp_path, [*base, *int4], "int4"))
    assert document["methods"]["int4"]["num_diverged"] == 1
    assert "relative_difference" not in document["methods"]["int4"]
    assert "1 of 3 broke down" in page(document, "federation bench loss", has_plot=False)


def test_the_page_tells_command_result_and_tuning(tmp_path: Path) -> None:
    runs = [result_of(f"{name}-{seed}", 2.0) for name in ("fp32", "int8") for seed in SETTINGS.seeds]
    document = study_document(study_of(tmp_path, [*runs, *tuned("fp32", 3.0, 2.9), *tuned("int8", 2.8, 3.1)], "int8"))
    text = page(document, "federation bench loss --data texts", has_plot=True)
    assert "federation bench loss --data texts" in text
    assert "![" in text
    assert "start from have" not in text
    assert "| DiLoCo int8 | 2.0000 | +0.00% | +0.00% | ≤ +0.50% | yes | 1.000 | 0.500 |" in text
    assert "lr 0.7, β 0: **2.8000**" in text
    assert all(len(line) <= 120 or line.startswith("|") for line in text.splitlines())


def test_a_report_needs_a_base(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a finished run of fp32, found none"):
        study_document(study_of(tmp_path, []))


def test_without_enough_text_of_any_language_there_is_no_average(tmp_path: Path) -> None:
    few = {**result_of("fp32-1", 2.0), "text_bytes": {"de": 10, "mt": 20}}
    with pytest.raises(UsageError, match="1000000 bytes of training text or more, found at most 20"):
        study_document(study_of(tmp_path, [few]))


def test_the_plot_is_an_svg_and_always_the_same(tmp_path: Path) -> None:
    from federation.bench.loss_plot import plot

    runs = [result_of(f"{name}-{seed}", 2.0 + seed / 100) for name in ("fp32", "int8") for seed in SETTINGS.seeds]
    document = study_document(study_of(tmp_path, runs, "int8"))
    first = plot(document)
    assert first.startswith(b"<?xml")
    assert b"DiLoCo int8" in first
    assert plot(document) == first
