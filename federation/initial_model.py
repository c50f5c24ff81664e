# SPDX-License-Identifier: Apache-2.0
"""theta_0 as safetensors: read into flat fragments, and a model written back for those who use it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from federation.blobs.store import BlobStore
from federation.errors import ConfigError
from federation.fragments import flatten, scatter
from federation.manifest import Alias, FragmentTable, Manifest
from federation.tensor_file import open_theta

Vector = npt.NDArray[np.float32]

THETA_FILE: Final = "theta0.safetensors"
MODEL_FILE: Final = "model.json"
SETTINGS_FILE: Final = "init-settings.json"


@dataclass(frozen=True, kw_only=True)
class InitialModel:
    """`model.json`: what a manifest needs to know of theta_0.

    Attributes:
        num_parameters: trainable parameters, each storage once.
        theta_blob: blob digest of the safetensors file.
        theta_digests: digest of each fragment.
        fragments: the fragment table.
        aliases: names that share another one's storage.
    """

    num_parameters: int
    theta_blob: str
    theta_digests: tuple[str, ...]
    fragments: tuple[FragmentTable, ...]
    aliases: tuple[Alias, ...]


_DESCRIPTION: TypeAdapter[InitialModel] = TypeAdapter(InitialModel)


def load_initial_model(directory: Path) -> tuple[InitialModel, Path]:
    """What `federation init-model` wrote: the description, and where theta_0's safetensors file is.

    Raises:
        ConfigError: a file is missing or is not what it should be.
    """
    advice = "Make it with `federation init-model run.toml --out DIR`."
    theta = directory / THETA_FILE
    try:
        description = _DESCRIPTION.validate_json((directory / MODEL_FILE).read_bytes())
        theta.stat()
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: expected an initial model, found: {error.strerror}", advice=advice
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise ConfigError(f"{directory / MODEL_FILE}: {where}: {first['msg']}", advice=advice) from error
    return description, theta


def parse_tensors(data: bytes, what: str) -> dict[str, Vector]:
    """The fp32 tensors of a safetensors file.

    Raises:
        ConfigError: the bytes are no safetensors, or hold another dtype than float32.
    """
    try:
        tensors: dict[str, Vector] = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{what}: expected safetensors of float32 tensors, found {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise ConfigError(f"{what}: {name}: expected float32, found {tensor.dtype}")
    return tensors


def to_fragments(tensors: Mapping[str, Vector], tables: Sequence[FragmentTable], what: str) -> list[Vector]:
    """One flat fp32 vector per fragment.

    Raises:
        ConfigError: a name or shape differs from the table.
    """
    for table in tables:
        for entry in table.entries:
            found = tensors.get(entry.name)
            if found is None or found.shape != entry.shape:
                shape = "nothing" if found is None else str(found.shape)
                raise ConfigError(f"{what}: {entry.name}: expected shape {entry.shape}, found {shape}")
    return [flatten(table, lambda name: tensors[name]) for table in tables]


def read_fragments(blobs: BlobStore, manifest: Manifest) -> list[Vector]:
    """theta_0 of a run from its blob, one flat vector per fragment: for those who hold the whole model in memory.

    Raises:
        ConfigError: the blob is not the model that the manifest describes.
        ObjectNotFoundError, CorruptObjectError: the blob is missing or damaged.
    """
    theta = open_theta(blobs, manifest)
    return [theta[fragment][0 : table.num_elements] for fragment, table in enumerate(manifest.fragments)]


def model_bytes(manifest: Manifest, vectors: Sequence[Vector]) -> bytes:
    """The model as safetensors, tied names included."""
    tensors: dict[str, Vector] = {}
    for table, vector in zip(manifest.fragments, vectors, strict=True):
        tensors.update(scatter(table, vector))  # contiguous, and a scalar keeps its shape
    for alias in manifest.aliases:
        tensors[alias.name] = tensors[alias.of].copy()
    data: bytes = save(tensors, metadata={"run": manifest.run, "consortium": manifest.consortium})
    return data
