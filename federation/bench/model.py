# SPDX-License-Identifier: Apache-2.0
"""Models that benchmarks exchange, and theta_0 of any size, written as a stream."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from federation.chunks import CHUNK_ELEMENTS, ChunkGrid, Float32Vector, FragmentHasher, little_endian_bytes
from federation.durable.real import RealFileSystem
from federation.fragments import Parameter, build_fragments
from federation.initial_model import MODEL_FILE, THETA_FILE, InitialModel
from federation.manifest import FragmentTable
from federation.merkle import BLOB_PIECE_BYTES, PieceHasher

GPT2_SMALL_PARAMETERS: Final = 124_439_808
"""Trainable parameters of GPT-2 small, tied head counted once."""

_VOCABULARY, _POSITIONS, _WIDTH, _LAYERS = 50_257, 1_024, 768, 12
_THETA_SCALE: Final = 0.02
_STRIDE: Final = 7_919


def gpt2_small() -> tuple[Parameter, ...]:
    """Names and shapes of GPT-2 small: 148 tensors, 124,439,808 parameters."""
    layers = (parameter for layer in range(_LAYERS) for parameter in _block(layer))
    ends = (("wte.weight", (_VOCABULARY, _WIDTH)), ("wpe.weight", (_POSITIONS, _WIDTH)))
    return (*ends, *layers, ("ln_f.weight", (_WIDTH,)), ("ln_f.bias", (_WIDTH,)))


def _block(layer: int) -> Iterator[Parameter]:
    d = _WIDTH
    shapes = {"ln_1": (d,), "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "ln_2": (d,)}
    shapes |= {"mlp.c_fc": (d, 4 * d), "mlp.c_proj": (4 * d, d)}
    for name, shape in shapes.items():
        yield f"h.{layer}.{name}.weight", shape
        yield f"h.{layer}.{name}.bias", shape[-1:]


def model_of(num_parameters: int) -> tuple[Parameter, ...]:
    """A model of exactly so many parameters: GPT-2 small's tensors, or as many layers of one vector each as fit 12."""
    if num_parameters == GPT2_SMALL_PARAMETERS:
        return gpt2_small()
    each, rest = divmod(num_parameters, _LAYERS)
    sizes = [each + (layer < rest) for layer in range(_LAYERS)]
    return tuple((f"h.{layer}.weight", (size,)) for layer, size in enumerate(sizes) if size)


def num_elements(parameters: Sequence[Parameter]) -> int:
    """Elements of all of them."""
    return sum(math.prod(shape) for _, shape in parameters)


def write_initial_model(directory: Path, parameters: Sequence[Parameter], num_fragments: int) -> InitialModel:
    """Writes `theta0.safetensors` and `model.json`, in memory of a few chunks; returns what the latter says."""
    fs = RealFileSystem(directory)
    tables = build_fragments(parameters, num_fragments)
    blob, digests = PieceHasher(BLOB_PIECE_BYTES), [FragmentHasher() for _ in tables]
    with fs.writer() as writer:
        header = _header(tables)
        blob.update(header)
        writer.write(header)
        for index, part in _values(tables):
            data = little_endian_bytes(part)
            digests[index].update(part)
            blob.update(data)
            writer.write(data)
        writer.publish(THETA_FILE)
    model = InitialModel(
        num_parameters=num_elements(parameters),
        theta_blob=blob.hexdigest(),
        theta_digests=tuple(digest.hexdigest() for digest in digests),
        fragments=tables,
        aliases=(),
    )
    fs.write(MODEL_FILE, json.dumps(asdict(model)).encode())
    return model


def _header(tables: Sequence[FragmentTable]) -> bytes:
    """The header of a safetensors file whose tensors lie in the order of the tables, without gaps."""
    entries, at = {}, 0
    for entry in (entry for table in tables for entry in table.entries):
        end = at + 4 * math.prod(entry.shape)
        entries[entry.name] = {"dtype": "F32", "shape": list(entry.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _values(tables: Sequence[FragmentTable]) -> Iterator[tuple[int, Float32Vector]]:
    """Index of the fragment and the real elements of each chunk: normal values, turned round by another angle each."""
    drawn = np.random.default_rng(0).standard_normal(CHUNK_ELEMENTS, np.float32)
    drawn *= np.float32(_THETA_SCALE)
    number = 0
    for index, table in enumerate(tables):
        grid = ChunkGrid(table.num_elements)
        for chunk in range(grid.num_chunks):
            number += 1
            yield index, np.roll(drawn, number * _STRIDE)[: grid.num_real(chunk)]
