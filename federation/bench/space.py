# SPDX-License-Identifier: Apache-2.0
"""Whether the disk has room for a benchmark. Where it has not, the coordinator pauses the run, and all wait in vain."""

from pathlib import Path
from typing import Final

from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from federation.state.api import STATE_BYTES
from federation.state.mapped_store import NUM_SETS

FP32_BYTES: Final = 4
_DURABLE_VERSIONS: Final = 2
"""Of (theta, m, r) on the coordinator's disk at the same time, at most."""

_MODELS_PER_JOB: Final = 4
"""theta_0, and a training checkpoint of theta, local parameters and error feedback."""


def coordinator_disk_bytes(num_parameters: int, num_sites: int, codec: str, num_rounds: int) -> int:
    """Roughly: theta_0, stored versions, payloads at both ends, blobs."""
    payload = payload_bytes(get_codec(codec), num_parameters)
    versions = STATE_BYTES * num_parameters * (NUM_SETS + _DURABLE_VERSIONS)
    return FP32_BYTES * num_parameters + versions + payload * num_sites * (num_rounds + 1) + 2 * payload


def federation_disk_bytes(num_parameters: int, num_sites: int, codec: str, num_rounds: int) -> int:
    """Roughly: what the coordinator needs, and the sites with jobs that hold the model; they keep commit blobs."""
    blobs = payload_bytes(get_codec(codec), num_parameters) * num_rounds
    site = FP32_BYTES * num_parameters * _MODELS_PER_JOB + blobs
    return coordinator_disk_bytes(num_parameters, num_sites, codec, num_rounds) + num_sites * site


def check_disk(base: Path, needed: int, num_parameters: int, num_sites: int) -> None:
    """Raises ConfigError if so many bytes are not free."""
    free = RealFileSystem(base).free_bytes()
    if free < needed:
        raise ConfigError(
            f"{base}: expected {needed / 1e9:.0f} GB of free disk for {num_parameters} parameters and "
            f"{num_sites} sites, found {free / 1e9:.0f} GB",
            advice="Choose another --directory, fewer --rounds, or a smaller model.",
        )
