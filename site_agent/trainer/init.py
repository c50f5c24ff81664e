# SPDX-License-Identifier: Apache-2.0
"""Draws theta_0 once, on one machine: `python -m site_agent.trainer.init SETTINGS.json OUT_DIR`.

Writes `theta0.safetensors` and `model.json`. Sites never draw parameters from a seed: torch gives other numbers on
another machine, so every site reads this file.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from federation.chunks import fragment_digest
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, FederationError
from federation.fragments import build_fragments, check_table, flatten
from federation.initial_model import MODEL_FILE, THETA_FILE, InitialModel, parse_tensors
from federation.manifest import Alias, FragmentTable, ModelSettings
from federation.merkle import blob_digest
from site_agent.inner_loop.seam import Float32Array
from site_agent.json_records import read_record, write_record
from site_agent.trainer.model import aliases, build_model, trainable_parameters


@dataclass(frozen=True, kw_only=True)
class InitSettings:
    """What to draw.

    Attributes:
        num_fragments: P, for the fragment table.
        seed: of torch's generator.
        init_from: safetensors file with the parameters to take instead of drawing any, "" to draw.
    """

    model: ModelSettings
    num_fragments: int
    seed: int = 0
    init_from: str = ""


def initialise(settings: InitSettings) -> tuple[bytes, InitialModel]:
    """theta_0 as safetensors bytes, and its description.

    Raises:
        ConfigError: the settings make no model, or the given file is not this model.
    """
    torch.manual_seed(settings.seed)
    model = build_model(settings.model)
    drawn = {name: p.detach().numpy() for name, p in trainable_parameters(model)}
    fragments = build_fragments([(name, value.shape) for name, value in drawn.items()], settings.num_fragments)
    values = _given(settings, fragments, aliases(model)) if settings.init_from else drawn
    data = save({name: np.ascontiguousarray(value) for name, value in values.items()})
    digests = tuple(fragment_digest(flatten(table, values.__getitem__)) for table in fragments)
    description = InitialModel(
        num_parameters=sum(value.size for value in values.values()),
        theta_blob=blob_digest(data),
        theta_digests=digests,
        fragments=fragments,
        aliases=aliases(model),
    )
    return data, description


def _given(
    settings: InitSettings, fragments: tuple[FragmentTable, ...], known_aliases: tuple[Alias, ...]
) -> dict[str, Float32Array]:
    path = Path(settings.init_from)
    try:
        tensors = parse_tensors(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: expected a safetensors file, found: {error.strerror}") from error
    other_names = {alias.name for alias in known_aliases}
    values = {name: value for name, value in tensors.items() if name not in other_names}
    check_table(fragments, [(name, value.shape) for name, value in values.items()])
    return values


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    if len(arguments) != 2:
        print("usage: python -m site_agent.trainer.init SETTINGS.json OUT_DIR", file=sys.stderr)
        return 2
    source, out = Path(arguments[0]), Path(arguments[1])
    try:
        settings = read_record(RealFileSystem(source.parent), source.name, InitSettings)
        if settings is None:
            raise ConfigError(f"{source}: expected settings of a model, found no file")
        data, description = initialise(settings)
        fs = RealFileSystem(out)
        fs.write(THETA_FILE, data)
        write_record(fs, MODEL_FILE, description)
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
