# SPDX-License-Identifier: Apache-2.0
"""The cut into fragments, and the way between named parameters and flat vectors."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest

from federation.errors import ConfigError
from federation.fragments import build_fragments, check_table, flatten, scatter
from federation.manifest import FragmentTable

Parameters = list[tuple[str, tuple[int, ...]]]


def llama(num_layers: int) -> Parameters:
    parameters: Parameters = [("model.embed_tokens.weight", (257, 8)), ("model.norm.weight", (8,))]
    for layer in range(num_layers):
        parameters.append((f"model.layers.{layer}.self_attn.q_proj.weight", (8, 8)))
        parameters.append((f"model.layers.{layer}.mlp.up_proj.weight", (16, 8)))
    return [*parameters, ("lm_head.weight", (257, 8))]


def names(table: FragmentTable) -> list[str]:
    return [entry.name for entry in table.entries]


def test_layers_are_strided_over_fragments() -> None:
    tables = build_fragments(llama(12), 3)
    for index, table in enumerate(tables):
        layers = [int(name.split(".")[2]) for name in names(table) if ".layers." in name]
        assert sorted(set(layers)) == [index, index + 3, index + 6, index + 9]


def test_layers_ascend_by_number_not_by_text() -> None:
    (table,) = build_fragments(llama(12), 1)
    layers = [int(name.split(".")[2]) for name in names(table) if ".layers." in name]
    assert layers == sorted(layers)


@pytest.mark.parametrize("name", ["transformer.h.5.attn.weight", "layers.5.w", "h.5.w", "model.layers.5.w"])
def test_layer_names_of_known_models(name: str) -> None:
    tables = build_fragments([(name, (4,)), ("a", (100,)), ("b", (100,))], 3)
    assert name in names(tables[5 % 3])


def test_the_rest_goes_to_the_lightest_fragment_largest_first() -> None:
    parameters = [("m.layers.0.w", (50,)), ("m.layers.1.w", (10,)), ("small", (5,)), ("large", (60,))]
    tables = build_fragments(parameters, 2)
    assert [names(t) for t in tables] == [["small", "m.layers.0.w"], ["large", "m.layers.1.w"]]


def test_fragments_are_balanced() -> None:
    sizes = [t.num_elements for t in build_fragments(llama(8), 4)]
    assert sum(sizes) == sum(prod(shape) for _, shape in llama(8))
    assert max(sizes) - min(sizes) <= 257 * 8


def test_order_of_parameters_does_not_matter() -> None:
    assert build_fragments(llama(5), 2) == build_fragments(llama(5)[::-1], 2)


def test_offsets_are_contiguous() -> None:
    for table in build_fragments(llama(4), 2):
        offset = 0
        for entry in table.entries:
            assert entry.offset == offset
            offset += prod(entry.shape)
        assert offset == table.num_elements


@pytest.mark.parametrize(
    ("parameters", "num_fragments", "message"),
    [
        ([("a", (2,)), ("a", (2,))], 1, "found twice"),
        ([("a", (0, 3))], 1, "sizes of at least 1"),
        ([("a", (2,))], 2, "found none for 1"),
        ([("a", (2,))], 0, "at least 1"),
        ([("a", (10**7, 10**7))], 1, "at most"),
    ],
)
def test_what_cannot_be_cut(parameters: Parameters, num_fragments: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_fragments(parameters, num_fragments)


def test_flatten_and_scatter_are_inverse() -> None:
    values = {
        name: np.arange(prod(shape), dtype=np.float32).reshape(shape) + index
        for index, (name, shape) in enumerate([*llama(3), ("scalar", ())])
    }
    for table in build_fragments([(name, value.shape) for name, value in values.items()], 2):
        vector = flatten(table, values.__getitem__)
        assert vector.size == table.num_elements
        for name, view in scatter(table, vector).items():
            assert view.shape == values[name].shape
            assert np.array_equal(view, values[name])


def test_scatter_gives_views() -> None:
    (table,) = build_fragments([("a", (2, 2))], 1)
    vector = np.zeros(4, np.float32)
    scatter(table, vector)["a"][1, 0] = 5
    assert vector.tolist() == [0, 0, 5, 0]


def test_flatten_takes_transposed_memory_by_value() -> None:
    (table,) = build_fragments([("a", (2, 3))], 1)
    value = np.arange(6, dtype=np.float32).reshape(3, 2).T
    assert flatten(table, lambda _: value).tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("wrong", [np.zeros((2, 2), np.float64), np.zeros(4, np.float32)])
def test_flatten_refuses_other_shapes_and_dtypes(wrong: np.ndarray) -> None:
    (table,) = build_fragments([("a", (2, 2))], 1)
    with pytest.raises(ConfigError, match=r"parameter a: expected float32\[2, 2\]"):
        flatten(table, lambda _: wrong)


def test_scatter_refuses_another_length() -> None:
    (table,) = build_fragments([("a", (2, 2))], 1)
    with pytest.raises(ConfigError, match="expected 4 elements, found 5"):
        scatter(table, np.zeros(5, np.float32))


def test_a_matching_model_passes_the_check() -> None:
    check_table(build_fragments(llama(4), 2), llama(4)[::-1])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ([("b", (3,))], "a is missing in the model"),
        ([("a", (2,)), ("b", (3,)), ("c", (1,))], "c is not in the table"),
        ([("a", (2, 1)), ("b", (3,))], r"a: expected shape \[2\], found \[2, 1\]"),
    ],
)
def test_a_model_that_differs_is_named(model: Parameters, message: str) -> None:
    tables = build_fragments([("a", (2,)), ("b", (3,))], 1)
    with pytest.raises(ConfigError, match=message):
        check_table(tables, model)


def test_a_long_list_of_differences_is_cut() -> None:
    with pytest.raises(ConfigError, match="and 6 more"):
        check_table(build_fragments(llama(4), 2), [])


def test_a_hostile_table_is_refused() -> None:
    parameters = [("a", (2,)), ("b", (3,))]
    (good,) = build_fragments(parameters, 1)
    first, second = good.entries
    cases = {
        "expected offset 2": replace(good, entries=(first, replace(second, offset=1))),
        "found twice": replace(good, entries=(first, replace(second, name="a"))),
        "sizes of at least 1": replace(good, entries=(first, replace(second, shape=(-3,)))),
        "expected 5 elements, found 6": replace(good, num_elements=6),
    }
    for message, table in cases.items():
        with pytest.raises(ConfigError, match=message):
            check_table([table], parameters)
    with pytest.raises(ConfigError, match="found twice"):
        check_table([good, good], parameters)
