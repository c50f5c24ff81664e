# SPDX-License-Identifier: Apache-2.0
"""A site's data as its jobs use them: both ways of naming them, mixtures, held-out data, one kind of tokens."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from megatron_files import write_megatron

from federation.corpus import write_corpus
from federation.errors import ConfigError
from federation.manifest import Manifest
from federation.testing.manifests import manifest_of, plan_of, table_of
from federation.text_split import Split
from site_agent.data_sets import DataFormat, DataSet, VocabularyError
from site_agent.jobs import WorkOrder
from site_agent.trainer.data import BEGIN_OF_TEXT, load_split
from site_agent.trainer.data_sources import HeldOutTokens, SiteData, data_of, source_of
from site_agent.trainer.evaluate import evaluate_at_once
from site_agent.trainer.llama import site_source


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("text")
    write_corpus(directory, ("de", "el"), 15_000)
    return directory


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write_megatron(tmp_path / "web", [[[n, n + 1, n + 2, n + 3]] for n in range(400)])


def manifest(vocab_size: int = 257) -> Manifest:
    made = manifest_of(plan_of({"a": 4}), [table_of([("w", (2, 2))])])
    settings = replace(made.trainer, batch_size=2, sequence_length=16, evaluation_bytes=330)
    return replace(made, trainer=settings, model=replace(made.model, vocab_size=vocab_size))


def order(tmp_path: Path, **changes: object) -> WorkOrder:
    made = WorkOrder(
        run="r",
        site="a",
        allocation="a1",
        fencing=1,
        manifest_path="",
        theta0_path="",
        run_dir=str(tmp_path / "run"),
        data_dir="",
        languages=(),
        seed=3,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def named(name: str, path: Path, language: str, **more: object) -> DataSet:
    made = DataSet(name=name, path=str(path), format=DataFormat.TEXT, language=language)
    return replace(made, **more)  # type: ignore[arg-type]


def batches(source: object) -> torch.Tensor:
    return torch.cat([torch.cat(source.next_batch(7), dim=1) for _ in range(20)])  # type: ignore[attr-defined]


def test_the_simple_way_is_what_it_always_was(texts: Path, tmp_path: Path) -> None:
    asked = order(tmp_path, data_dir=str(texts), languages=("de", "el"))
    before = site_source(manifest(), texts, ("de", "el"), "a", 3)
    assert torch.equal(batches(source_of(manifest(), asked)), batches(before))
    held_out = data_of(asked).held_out(330)
    assert held_out.keys() == {"de", "el"}
    assert all(np.array_equal(held_out[x], load_split(texts, x, Split.HELD_OUT, 330)) for x in held_out)


def test_named_sets_of_the_same_files_in_the_same_order_are_the_same_data(texts: Path, tmp_path: Path) -> None:
    files = {x: next(texts.glob(f"{x}*")) for x in ("de", "el")}
    sets = tuple(named(f"corpus-{x}", path, x) for x, path in files.items())
    simple = source_of(manifest(), order(tmp_path, data_dir=str(texts), languages=("de", "el")))
    assert torch.equal(batches(source_of(manifest(), order(tmp_path, data_sets=sets))), batches(simple))


def test_a_mixture_by_weight(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x" * 60 + "\n" + "y" * 60 + "\n" + "z" * 60)
    rare = named("rare", tmp_path / "x.txt", "fr", weight=1.0)
    common = named("common", next(texts.glob("de*")), "de", weight=19.0)
    labels = source_of(manifest(), order(tmp_path, data_sets=(common, rare))).next_batch(2000)[1].numpy()
    assert np.isin(labels, [ord(c) for c in "xyz\n"]).all(axis=1).mean() == pytest.approx(0.05, abs=0.015)


def test_held_out_data_of_a_language_come_from_its_sets_in_their_order(texts: Path, tmp_path: Path) -> None:
    lines = [f"Satz {n}" for n in range(100)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    small, large = named("a", tmp_path / "a.txt", "de"), named("b", next(texts.glob("de*")), "de")
    alone = SiteData.of([small]).held_out(10_000)["de"]
    both = SiteData.of([small, large]).held_out(300)["de"]
    assert isinstance(alone, np.ndarray)
    assert isinstance(both, np.ndarray)
    assert (both.size, bytes(both[: alone.size])) == (300, bytes(alone))


def test_token_ids_follow_one_another_without_a_mark(tokens: Path, tmp_path: Path) -> None:
    data = named("web", tokens, "de", format=DataFormat.MEGATRON)
    inputs, labels = source_of(manifest(1000), order(tmp_path, data_sets=(data,))).next_batch(50)
    assert inputs.dtype == labels.dtype == torch.int64
    assert inputs.shape == labels.shape == (50, 16)
    assert torch.equal(inputs[:, 1:], labels[:, :-1])
    assert not (inputs[:, 0] == BEGIN_OF_TEXT).all()
    with pytest.raises(VocabularyError):
        source_of(manifest(300), order(tmp_path, data_sets=(data,))).next_batch(200)


def test_the_world_size_moves_no_token(tokens: Path, tmp_path: Path) -> None:
    data = named("web", tokens, "de", format=DataFormat.MEGATRON)
    asked = order(tmp_path, data_sets=(data,))
    alone = source_of(manifest(1000), asked).next_batch(12)[1]
    parts = [source_of(manifest(1000), asked).next_batch(12, rank, 3)[1] for rank in range(3)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), alone)


def test_token_ids_are_scored_by_the_bytes_behind_them(tokens: Path) -> None:
    data = named("web", tokens, "de", format=DataFormat.MEGATRON, bytes_per_token=4.0)
    assert SiteData.of([replace(data, bytes_per_token=0.0)]).held_out(330) == {}
    held_out = SiteData.of([data]).held_out(270)
    assert isinstance(held_out["de"], HeldOutTokens)
    (score,) = evaluate_at_once(Uniform(), held_out, sequence_length=16, batch_size=3)
    assert (score.language, score.num_bytes) == ("de", 16 * 4 * 4)
    assert score.bits_per_byte == pytest.approx(10 / 4)


class Uniform(torch.nn.Module):
    """Gives each of 1024 tokens the same probability."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor) -> object:
        return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 1024)})()


def test_bytes_and_token_ids_do_not_mix(tokens: Path, texts: Path) -> None:
    sets = [named("a", tokens, "de", format=DataFormat.MEGATRON), named("b", texts, "de")]
    with pytest.raises(VocabularyError, match="expected token ids throughout, or bytes throughout"):
        SiteData.of(sets)


def test_what_is_missing_stops_a_job_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data set gone, gone: expected files that end in"):
        source_of(manifest(), order(tmp_path, data_sets=(named("gone", tmp_path / "gone", "de"),)))
