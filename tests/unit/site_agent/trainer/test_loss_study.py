# SPDX-License-Identifier: Apache-2.0
"""One process of the loss study: what it trains, keeps, forgets and does not repeat."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from federation.bench.loss_settings import METHODS, Choice, StudySettings, run_toml
from federation.corpus import write_corpus
from federation.initial_model import parse_tensors
from federation.run_config import parse_run_config
from federation.wire import manifest_to_bytes
from site_agent.trainer import loss_study
from site_agent.trainer.baseline import BaselineSpec, SiteData, train_baseline
from site_agent.trainer.init import InitSettings, initialise
from site_agent.trainer.loss_study import SimulatedSite, StudyRun, StudySpec, perform

SITES = {"a": ("de",), "b": ("el",)}
SETTINGS = StudySettings(
    sites=SITES,
    num_inner_steps=4,
    tau=2,
    warmup_steps=1,
    inner_lr=3e-3,
    hidden_size=16,
    intermediate_size=24,
    num_heads=2,
    batch_size=2,
    sequence_length=16,
    evaluation_bytes=320,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("text")
    write_corpus(directory, ("de", "el"), 15_000)
    return directory


def spec_of(data: Path, out: Path, *runs: StudyRun) -> StudySpec:
    sites = tuple(SiteData(site=site, data_dir=str(data), languages=languages) for site, languages in SITES.items())
    return StudySpec(runs=runs, sites=sites, out_dir=str(out))


def run_of(method: str, choice: Choice | None = None, rounds: int = 3, **changes: object) -> StudyRun:
    text = run_toml(SETTINGS, METHODS[method], choice or Choice(), seed=5, num_rounds=rounds)
    run = StudyRun(name=method, run_toml=text, seed=5, data_parallel=METHODS[method].data_parallel)
    return replace(run, **changes)


@pytest.mark.parametrize("method", ["fp32", "streaming"])
def test_what_is_forgotten_was_not_needed(
    method: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(method, Choice(lr=0.7, beta=0.5), rounds=5)
    lean, _ = perform(run, spec_of(data, tmp_path))
    monkeypatch.setattr(loss_study, "forget", lambda history, keep: None)
    whole, _ = perform(run, spec_of(data, tmp_path))
    assert lean.theta_digests == whole.theta_digests
    assert len(set(lean.theta_digests)) == (4 if method == "streaming" else 1)
    assert lean.scores == whole.scores


def test_vectors_of_old_rounds_are_dropped(data: Path, tmp_path: Path) -> None:
    run = run_of("streaming", rounds=4)
    simulation = loss_study.begin(run, spec_of(data, tmp_path))
    seen = []

    def forget(history: list[loss_study.RoundResult], keep: int) -> None:
        real(history, keep=keep)
        seen.append(sum(result.theta.size > 0 for result in history))

    real = loss_study.forget
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_study, "forget", forget)
        simulation.train()
    assert max(seen) == SETTINGS.num_fragments
    assert len(seen) == 4 * SETTINGS.num_fragments


def test_data_parallel_is_the_baseline_of_the_demo(data: Path, tmp_path: Path) -> None:
    run = run_of("data-parallel")
    found, model = perform(run, spec_of(data, tmp_path))
    manifest, _ = loss_study.make_manifest(parse_run_config(run.run_toml), run.seed)
    theta0, _ = initialise(InitSettings(model=manifest.model, num_fragments=1, seed=run.seed))
    for name, content in (("manifest", manifest_to_bytes(manifest)), ("theta0", theta0)):
        (tmp_path / name).write_bytes(content)
    sites = spec_of(data, tmp_path).sites
    spec = BaselineSpec(
        name="dp",
        manifest_path=str(tmp_path / "manifest"),
        theta0_path=str(tmp_path / "theta0"),
        sites=sites,
        evaluation=sites,
        num_steps=12,
        result_path=str(tmp_path / "result.json"),
    )
    expected = train_baseline(spec, manifest)
    assert found.tokens == expected.tokens == 12 * 2 * 2 * 16
    assert found.losses == pytest.approx([np.mean(expected.losses[i : i + 4]) for i in (0, 4, 8)], rel=1e-12)
    # The study scores in larger batches, which sums in another order.
    for one, other in zip(found.scores, expected.scores, strict=True):
        assert (one.language, one.num_bytes) == (other.language, other.num_bytes)
        assert one.bits_per_byte == pytest.approx(other.bits_per_byte, rel=1e-5)
    assert parse_tensors(model, "model")["model.norm.weight"].shape == (16,)


def test_seeds_theta0_and_data_are_paired(data: Path, tmp_path: Path) -> None:
    """Up to the first commit, methods of one seed do the same."""
    spec = spec_of(data, tmp_path)
    results = [perform(run_of(method, Choice(lr=1.0), rounds=2), spec)[0] for method in ("fp32", "int4", "sparse")]
    assert len({result.losses[0] for result in results}) == 1
    assert len({result.losses[1] for result in results}) == 3
    assert len({result.tokens for result in results}) == 1
    assert [result.bytes_up for result in results] == sorted((r.bytes_up for r in results), reverse=True)


def test_a_run_starts_from_the_model_that_another_one_kept(data: Path, tmp_path: Path) -> None:
    begun = replace(run_of("data-parallel", rounds=2), name="start", keep_model=True)
    after = replace(run_of("fp32"), init_from=str(tmp_path / "start.safetensors"))
    assert main(tmp_path, spec_of(data, tmp_path, begun, after)) == 0
    kept = parse_tensors((tmp_path / "start.safetensors").read_bytes(), "start")
    manifest, (theta0,) = loss_study.make_manifest(parse_run_config(after.run_toml), 5, after.init_from)
    entry = next(e for e in manifest.fragments[0].entries if e.name == "model.embed_tokens.weight")
    stop = entry.offset + kept[entry.name].size
    assert np.array_equal(theta0[entry.offset : stop], kept[entry.name].reshape(-1))
    assert (tmp_path / "fp32.json").exists()
    assert not (tmp_path / "fp32.safetensors").exists()


def test_a_finished_run_is_not_repeated(data: Path, tmp_path: Path) -> None:
    (tmp_path / "fp32.json").write_text("as it was")
    assert main(tmp_path, spec_of(data, tmp_path, run_of("fp32"), run_of("int8"))) == 0
    assert (tmp_path / "fp32.json").read_text() == "as it was"
    assert json.loads((tmp_path / "int8.json").read_text())["diverged"] is False


def test_a_run_that_breaks_down_says_so(data: Path, tmp_path: Path) -> None:
    run = run_of("fp32", Choice(lr=10.0, beta=0.99), rounds=12)
    run = replace(run, run_toml=run.run_toml.replace("lr = 0.003", "lr = 10.0"))
    result, _ = perform(run, spec_of(data, tmp_path))
    assert result.diverged
    assert (result.scores, result.theta_digests) == ((), ())


def test_data_that_are_missing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").mkdir()
    assert main(tmp_path, spec_of(tmp_path / "text", tmp_path, run_of("fp32"))) == 2
    assert "expected text of language de, found no de*.txt" in capsys.readouterr().err


class Elsewhere:
    """A parameter whose memory the CPU does not see."""

    requires_grad, device = True, SimpleNamespace(type="elsewhere")

    def __init__(self) -> None:
        self.there = torch.zeros(3)

    def detach(self) -> "Elsewhere":
        return self

    def cpu(self) -> torch.Tensor:
        return self.there.clone()

    def copy_(self, values: torch.Tensor) -> None:
        self.there.copy_(values)


class FarTrainer:
    """Each step adds one to its parameter."""

    def __init__(self) -> None:
        self.parameter = Elsewhere()
        self.model = SimpleNamespace(named_parameters=lambda: [("p", self.parameter)])

    def step(self, lr: float) -> tuple[float, int]:
        self.parameter.there += 1
        return 0.0, 1


def test_parameters_on_an_accelerator_follow_what_is_written() -> None:
    trainer = FarTrainer()
    site = SimulatedSite(trainer)  # type: ignore[arg-type]
    site.step(0.1)
    values = site.parameters()["p"]
    assert values.tolist() == [1, 1, 1]
    site.parameters()["p"][1] = 5
    site.step(0.1)
    assert site.parameters()["p"].tolist() == [2, 6, 2]


def main(directory: Path, spec: StudySpec) -> int:
    path = directory / "spec.json"
    path.write_text(json.dumps(asdict(spec)))
    return loss_study.main([str(path)])
