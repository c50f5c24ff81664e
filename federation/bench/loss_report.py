# SPDX-License-Identifier: Apache-2.0
"""The loss study's result as one document: every method against DiLoCo fp32, seed by seed and language by language."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from federation.bench.figures import Document, machine
from federation.bench.loss_runs import LossStudy, as_document, compared_name, counted_languages
from federation.bench.loss_settings import BASE, METHODS, Method
from federation.bench.loss_statistics import Difference, relative_difference
from federation.errors import UsageError


def study_document(study: LossStudy) -> Document:
    """Everything that `--json` prints; the keys are described in docs/benchmarks.md.

    Seeds count of which both the base's run and the method's are finished.

    Raises:
        UsageError: no seed of the base is finished.
    """
    base = _finished(study, METHODS[BASE])
    if not base:
        raise UsageError(
            f"--out: expected a finished run of {BASE}, found none in {study.out}",
            advice="Leave out --only-report, and the study goes on.",
        )
    example = next(iter(base.values()))
    counted = counted_languages(example, study.settings)
    return {
        "benchmark": "loss",
        "machine": machine(),
        "setting": study.settings.model_dump(mode="json"),
        "num_parameters": example["num_parameters"],
        "tokens_per_run": example["tokens"],
        "text_bytes": example["text_bytes"],
        "counted_languages": counted,
        "start_bits_per_byte": _start(study, list(base)),
        "methods": {name: _method(study, METHODS[name], base, counted) for name in study.methods},
        "tuning": {name: _tuning(study, METHODS[name]) for name in study.methods if study.tuning(METHODS[name])},
        "processor_seconds": processor_seconds(study),
    }


def processor_seconds(study: LossStudy) -> float:
    """Of all finished runs of the study."""
    names = [study.warm_name(seed) for seed in (study.settings.tuning_seed, *study.settings.seeds)]
    for name in study.methods:
        names += [run["name"] for run in study.tuning_runs(METHODS[name])]
        names += [compared_name(METHODS[name], seed) for seed in study.settings.seeds]
    return round(math.fsum(result["seconds"] for name in names if (result := study.result(name))), 1)


def _start(study: LossStudy, seeds: Sequence[int]) -> float | None:
    """Mean over these seeds of the models that all methods start from; None without such training before."""
    found = [study.macro_average(study.result(study.warm_name(seed))) for seed in seeds]
    return _mean(found) if study.settings.warm_rounds else None


def _finished(study: LossStudy, method: Method) -> dict[int, Document]:
    """Results by seed."""
    found = {seed: study.result(compared_name(method, seed)) for seed in study.settings.seeds}
    return {seed: result for seed, result in found.items() if result is not None}


def _method(study: LossStudy, method: Method, base: dict[int, Document], counted: Sequence[str]) -> Document:
    results = {seed: result for seed, result in _finished(study, method).items() if seed in base}
    head: Document = {
        "title": method.title,
        "codec_up": method.codec,
        "codec_down": method.codec_down,
        "target": method.target,
        "num_samples": len(results),
        "num_diverged": sum(result["diverged"] for result in results.values()),
    }
    if study.settings.grid(method):
        head |= {"chosen": as_document(study.choice(method)), "beta_of": beta_of(method)}
    if not results or head["num_diverged"]:
        return head
    pairs = [(result, base[seed]) for seed, result in results.items()]
    difference = _difference(pairs, counted)
    upper = difference.upper
    within = None if method.target is None or upper is None else upper <= method.target
    return head | {
        "seeds": list(results),
        "bits_per_byte": _mean([_score(result, counted) for result in results.values()]),
        "relative_difference": difference.mean,
        "relative_difference_upper_95": upper,
        "relative_difference_by_seed": list(difference.by_pair),
        "within_target": within,
        "languages": {language: _language(pairs, language) for language in study.settings.languages},
        "bytes_per_parameter_up": _bytes(study, results.values(), "bytes_up"),
        "bytes_per_parameter_down": _bytes(study, results.values(), "bytes_down"),
        "training_loss": _curve(study, method, list(results.values())),
    }


def beta_of(method: Method) -> str:
    """What β is for a method."""
    return "error feedback" if method.feedback else "outer momentum"


def _language(pairs: Sequence[tuple[Document, Document]], language: str) -> Document:
    difference = _difference(pairs, [language])
    return {
        "bits_per_byte": _mean([_score(result, [language]) for result, _ in pairs]),
        "relative_difference": difference.mean,
        "relative_difference_upper_95": difference.upper,
    }


def _difference(pairs: Sequence[tuple[Document, Document]], languages: Sequence[str]) -> Difference:
    values, reference = ([_score(item, languages) for item in column] for column in zip(*pairs, strict=True))
    return relative_difference(values, reference)


def _score(result: Document, languages: Sequence[str]) -> float:
    scores = {score["language"]: score["bits_per_byte"] for score in result["scores"]}
    return _mean([scores[language] for language in languages])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _bytes(study: LossStudy, results: Any, key: str) -> float:
    """Per parameter, site and exchange of the whole model."""
    exchanges = study.settings.num_rounds * len(study.settings.sites)
    return _mean([result[key] / (result["num_parameters"] * exchanges) for result in results])


def _curve(study: LossStudy, method: Method, results: Sequence[Document]) -> Document:
    """Mean training loss over seeds, nats per byte, and the tokens behind each point; a point per H inner steps."""
    windows = study.settings.num_fragments if method.streaming else 1
    means = [_mean(column) for column in zip(*(result["losses"] for result in results), strict=True)]
    points = [_mean(means[start : start + windows]) for start in range(0, len(means), windows)]
    tokens = results[0]["tokens"] / len(points)
    return {"tokens": [round(tokens * (n + 1)) for n in range(len(points))], "nats_per_byte": points}


def _tuning(study: LossStudy, method: Method) -> list[Document]:
    return [
        {**asdict(choice), "bits_per_byte": loss if math.isfinite(loss) else None}
        for choice, loss in study.tuning(method)
    ]
