# SPDX-License-Identifier: Apache-2.0
"""The reference trainer: model, theta_0, steps that repeat, evaluation, baselines."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from federation.corpus import write_corpus
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from federation.initial_model import parse_tensors
from federation.manifest import Alias, Manifest, ModelSettings
from federation.merkle import blob_digest
from federation.testing.manifests import inner_settings, manifest_of, plan_of
from federation.wire import manifest_to_bytes
from site_agent.inner_loop.seam import TrainerState, language_counter
from site_agent.json_records import read_record, write_record
from site_agent.trainer import baseline, data_sources, init
from site_agent.trainer.baseline import BaselineResult, BaselineSpec, SiteData
from site_agent.trainer.evaluate import evaluate, evaluate_at_once
from site_agent.trainer.init import MODEL_FILE, THETA_FILE, InitialModel, InitSettings, initialise
from site_agent.trainer.llama import HeldOutEvaluator, LlamaTrainer, make_repeatable, site_source
from site_agent.trainer.model import aliases, build_model

MODEL = ModelSettings(
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    max_positions=16,
    vocab_size=257,
    tie_embeddings=True,
)


@pytest.fixture(autouse=True)
def _restore_torch() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("text")
    write_corpus(directory, ("de", "el"), 15_000)
    return directory


def manifest_for(model: InitialModel) -> Manifest:
    plan = plan_of({"a": 4, "b": 4}, num_fragments=2, theta_digests=model.theta_digests)
    manifest = manifest_of(plan, model.fragments, inner=replace(inner_settings(lr=3e-3, total_steps=30), grad_clip=1.0))
    trainer = replace(manifest.trainer, batch_size=2, sequence_length=16, evaluation_bytes=330)
    return replace(manifest, model=MODEL, trainer=trainer, aliases=model.aliases)


def test_tied_embeddings_are_stored_once_and_noted() -> None:
    assert aliases(build_model(MODEL)) == (Alias(name="lm_head.weight", of="model.embed_tokens.weight"),)
    assert aliases(build_model(replace(MODEL, tie_embeddings=False))) == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vocab_size": 256}, "model.vocab_size: expected more than 256, found 256"),
        ({"hidden_size": 18}, "model.hidden_size: expected a multiple of"),
        ({"num_kv_heads": 3}, "model.num_kv_heads: expected a divisor of num_heads = 2, found 3"),
    ],
)
def test_numbers_that_make_no_model_are_refused(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_model(replace(MODEL, **changes))


def test_theta0_is_described_by_what_is_written(tmp_path: Path) -> None:
    write_record(RealFileSystem(tmp_path), "s.json", InitSettings(model=MODEL, num_fragments=2, seed=4))
    assert init.main([str(tmp_path / "s.json"), str(tmp_path / "out")]) == 0
    described = read_record(RealFileSystem(tmp_path / "out"), MODEL_FILE, InitialModel)
    data = (tmp_path / "out" / THETA_FILE).read_bytes()
    assert described is not None
    assert described.theta_blob == blob_digest(data)
    assert described.num_parameters == sum(t.size for t in parse_tensors(data, "x").values())
    again, _ = initialise(InitSettings(model=MODEL, num_fragments=2, seed=4))
    assert again == data


def test_theta0_can_be_given_and_must_be_this_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, described = initialise(InitSettings(model=MODEL, num_fragments=2, seed=4))
    (tmp_path / "given").write_bytes(data)
    settings = InitSettings(model=MODEL, num_fragments=2, seed=9, init_from=str(tmp_path / "given"))
    assert initialise(settings) == (data, described)
    wider = replace(settings, model=replace(MODEL, intermediate_size=32))
    write_record(RealFileSystem(tmp_path), "s.json", wider)
    assert init.main([str(tmp_path / "s.json"), str(tmp_path / "out")]) == 2
    assert "gate_proj.weight: expected shape [32, 16], found [24, 16]" in capsys.readouterr().err


def trainer(manifest: Manifest, data_dir: Path) -> LlamaTrainer:
    make_repeatable(1, 0)
    return LlamaTrainer(manifest, [site_source(manifest, data_dir, ("de", "el"), "a", 0)])


def local(made: LlamaTrainer) -> list[torch.Tensor]:
    return [shard.tensor.clone() for shard in made.local_shards()]


def test_a_restored_trainer_takes_the_same_steps_to_the_bit(data_dir: Path) -> None:
    manifest = manifest_for(initialise(InitSettings(model=MODEL, num_fragments=2))[1])
    first = trainer(manifest, data_dir)
    for _ in range(3):
        first.step(1e-3)
    state, parameters = first.state_dict(), local(first)
    expected = [first.step(1e-3) for _ in range(3)]
    second = trainer(manifest, data_dir)
    second.load_state_dict(state)
    for shard, value in zip(second.local_shards(), parameters, strict=True):
        shard.tensor.copy_(value)
    assert [second.step(1e-3) for _ in range(3)] == expected
    assert all(torch.equal(a, b) for a, b in zip(local(first), local(second), strict=True))
    assert expected[0].tokens == 32


def test_tokens_per_language_are_part_of_the_state(data_dir: Path) -> None:
    manifest = manifest_for(initialise(InitSettings(model=MODEL, num_fragments=2))[1])

    def counting() -> LlamaTrainer:
        make_repeatable(1, 0)
        data = data_sources.SiteData.of((), str(data_dir), ("de", "el"))
        return LlamaTrainer(manifest, [data.source(manifest, "a", 0)])

    first = counting()
    assert first.language_tokens() == {"de": 0, "el": 0}
    tokens = sum(first.step(1e-3).tokens for _ in range(2))
    assert sum(first.language_tokens().values()) == tokens == 64
    state = first.state_dict()
    values = json.loads(json.dumps(dict(state.values)))
    first.step(1e-3)
    second = counting()
    second.load_state_dict(TrainerState(tensors=state.tensors, values=values))
    assert sum(second.language_tokens().values()) == tokens
    second.step(1e-3)
    assert second.language_tokens() == first.language_tokens()
    del values["language_tokens"]  # a training checkpoint of a release that did not count
    second.load_state_dict(TrainerState(tensors=state.tensors, values=values))
    assert second.language_tokens() == {}


def test_a_trainer_that_does_not_count_says_nothing(data_dir: Path) -> None:
    manifest = manifest_for(initialise(InitSettings(model=MODEL, num_fragments=2))[1])
    assert language_counter(trainer(manifest, data_dir))() == {}
    assert language_counter(object())() == {}


class Uniform(torch.nn.Module):
    """Gives every token the same probability."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor) -> object:
        logits = torch.zeros(*input_ids.shape, 256)
        return type("Output", (), {"logits": logits})()


def test_a_uniform_model_needs_eight_bits_per_byte() -> None:
    texts = {"fr": np.arange(70, dtype=np.uint8), "de": np.arange(10, dtype=np.uint8)}
    scores = evaluate_at_once(Uniform(), texts, sequence_length=16, batch_size=3)
    assert [(s.language, s.num_bytes) for s in scores] == [("de", 10), ("fr", 64)]
    assert all(math.isclose(s.bits_per_byte, 8.0, rel_tol=1e-6) for s in scores)


def test_evaluation_comes_in_batches_and_moves_no_generator(data_dir: Path) -> None:
    manifest = manifest_for(initialise(InitSettings(model=MODEL, num_fragments=2))[1])
    made = trainer(manifest, data_dir)
    texts = {"de": np.arange(100, dtype=np.uint8)}
    before = torch.get_rng_state()
    items = list(evaluate(made.model, texts, sequence_length=16, batch_size=2))
    assert items[:-1] == [None] * 3
    parameters = {shard.name: shard.tensor.numpy() for shard in made.local_shards()}
    evaluator = HeldOutEvaluator(manifest, texts)
    assert list(evaluator.evaluate(parameters))[-1] == items[-1]
    assert torch.equal(torch.get_rng_state(), before)
    assert made.model.training


def test_baselines_train_score_and_write_their_result(data_dir: Path, tmp_path: Path) -> None:
    data, model = initialise(InitSettings(model=MODEL, num_fragments=2))
    manifest = manifest_for(model)
    (tmp_path / "theta0").write_bytes(data)
    (tmp_path / "manifest").write_bytes(manifest_to_bytes(manifest))
    sites = tuple(SiteData(site=s, data_dir=str(data_dir), languages=(lang,)) for s, lang in (("a", "de"), ("b", "el")))
    spec = BaselineSpec(
        name="together",
        manifest_path=str(tmp_path / "manifest"),
        theta0_path=str(tmp_path / "theta0"),
        sites=sites,
        evaluation=sites,
        num_steps=8,
        result_path=str(tmp_path / "result.json"),
    )
    alone = replace(spec, name="alone", sites=sites[:1], num_steps=0, result_path=str(tmp_path / "alone.json"))
    results = []
    for one in (spec, alone):
        write_record(RealFileSystem(tmp_path), "spec.json", one)
        assert baseline.main([str(tmp_path / "spec.json")]) == 0
        results.append(read_record(RealFileSystem(tmp_path), Path(one.result_path).name, BaselineResult))
    together, untrained = results
    assert together is not None
    assert untrained is not None
    assert (together.tokens, len(together.losses), together.sites) == (2 * 8 * 32, 8, ("a", "b"))
    assert untrained.scores[0].bits_per_byte > together.scores[0].bits_per_byte
    assert [(s.language, s.num_bytes) for s in together.scores] == [("de", 320), ("el", 320)]


def test_a_baseline_without_a_specification_is_the_operators_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert baseline.main([str(tmp_path / "none.json")]) == 2
    assert "expected a baseline's specification" in capsys.readouterr().err
