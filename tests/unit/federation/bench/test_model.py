# SPDX-License-Identifier: Apache-2.0
"""theta_0 of benchmarks is what every reader of an initial model takes it for."""

from pathlib import Path

import numpy as np
import pytest

from federation.bench.model import GPT2_SMALL_PARAMETERS, gpt2_small, model_of, num_elements, write_initial_model
from federation.chunks import CHUNK_ELEMENTS, fragment_digest
from federation.fragments import Parameter
from federation.initial_model import MODEL_FILE, THETA_FILE, InitialModel, parse_tensors, to_fragments
from federation.merkle import blob_digest

SMALL: tuple[Parameter, ...] = (("wte.weight", (31, 7)), *((f"h.{i}.weight", (5, i + 1)) for i in range(4)))


def test_gpt2_small_has_its_parameters() -> None:
    assert num_elements(gpt2_small()) == GPT2_SMALL_PARAMETERS == 124_439_808
    assert len(gpt2_small()) == 148
    assert len({name for name, _ in gpt2_small()}) == 148


@pytest.mark.parametrize("count", [1, 11, 12, 100_000, 1_000_000_007])
def test_a_model_has_as_many_parameters_as_asked_for(count: int) -> None:
    assert num_elements(model_of(count)) == count


def test_the_usual_size_is_gpt2_small() -> None:
    assert model_of(GPT2_SMALL_PARAMETERS) == gpt2_small()


def written(directory: Path, parameters: tuple[Parameter, ...], num_fragments: int) -> InitialModel:
    model = write_initial_model(directory, parameters, num_fragments)
    data = (directory / THETA_FILE).read_bytes()
    vectors = to_fragments(parse_tensors(data, "theta_0"), model.fragments, "theta_0")
    assert model.theta_digests == tuple(fragment_digest(vector) for vector in vectors)
    assert model.theta_blob == blob_digest(data)
    assert 0.01 < float(np.std(np.concatenate(vectors))) < 0.03
    return model


@pytest.mark.parametrize("num_fragments", [1, 2, 4])
def test_the_file_holds_what_the_description_says(tmp_path: Path, num_fragments: int) -> None:
    model = written(tmp_path, SMALL, num_fragments)
    assert (len(model.fragments), model.num_parameters) == (num_fragments, num_elements(SMALL))
    assert (tmp_path / MODEL_FILE).exists()


def test_more_than_one_chunk(tmp_path: Path) -> None:
    written(tmp_path, model_of(CHUNK_ELEMENTS + 12_345), 1)
