# SPDX-License-Identifier: Apache-2.0
"""`coordinator run create`: makes the manifest from run.toml and theta_0, and sends it with a signed command."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coordinator.operator_client import OperatorClient, new_id
from coordinator.round_trips import known_round_trips, too_short
from federation import wire
from federation.blobs.store import BlobStore
from federation.errors import ConfigError, DeadlineExceededError, UsageError
from federation.ids import short
from federation.initial_model import SETTINGS_FILE, load_initial_model
from federation.manifest import Manifest
from federation.merkle import BLOB_PIECE_BYTES
from federation.messages import Command, CommandKind, Query, QueryKind
from federation.run_config import availability_sentence, build_manifest, expected_step_seconds, load_run_config
from federation.utilisation import warnings_of


def _check_same_model(manifest: Manifest, model_dir: Path) -> None:
    """theta_0 must have been drawn for the model of this run.toml: else every job would fail, much later.

    Raises:
        ConfigError: a setting differs.
    """
    path = model_dir / SETTINGS_FILE
    if not path.exists():  # made by other means; names and shapes are checked against the fragment table all the same
        return
    drawn = json.loads(path.read_text()).get("model", {})
    for name, wanted in asdict(manifest.model).items():
        if drawn.get(name, wanted) != wanted:
            raise ConfigError(
                f"{model_dir}: {name}: expected {wanted} as in run.toml, found {drawn[name]}",
                advice="Draw the initial model again: `federation init-model run.toml --out DIR`.",
            )


def create_run(client: OperatorClient, config_path: Path, model_dir: Path, wait_seconds: float) -> dict[str, Any]:
    """Creates the run; nothing is created if anything is wrong.

    Raises:
        ConfigError: run.toml or the initial model break a rule.
        UsageError: the coordinator refuses.
    """
    config = load_run_config(config_path)
    description, theta = load_initial_model(model_dir)
    manifest = build_manifest(
        config, description.theta_blob, description.fragments, description.aliases, description.theta_digests
    )
    _check_same_model(manifest, model_dir)
    if manifest.consortium != client.consortium:
        raise ConfigError(
            f"{config_path}: run.consortium: expected {client.consortium} (the roster's), found {manifest.consortium}"
        )
    theta_blob = _stored(client.blobs, theta)
    if theta_blob != description.theta_blob:
        raise ConfigError(f"{model_dir}: theta_0: expected {short(description.theta_blob)}, found {short(theta_blob)}")
    digest = client.blobs.put(wire.manifest_to_bytes(manifest))
    command = Command(
        id=new_id(),
        kind=CommandKind.RUN_CREATE,
        subject=manifest.run,
        manifest_digest=digest,
        blobs=(digest, theta_blob),
    )
    reply = client.command(command, wait_seconds)
    known = known_round_trips(manifest.plan, _sites(client, wait_seconds))
    slow = warnings_of(manifest.plan, expected_step_seconds(config), known)
    return {
        "run": manifest.run,
        "manifest_digest": digest,
        "leaf": reply.leaf_index,
        "parameters": description.num_parameters,
        "availability": availability_sentence(manifest.plan),
        "warnings": [*too_short(manifest.plan, known), *slow],
    }


def _sites(client: OperatorClient, wait_seconds: float) -> list[dict[str, Any]]:
    """What sites reported; [] where nobody says so: the run is created already, and these are only for its warnings."""
    try:
        found: list[dict[str, Any]] = client.query(Query(id=new_id(), kind=QueryKind.SITES), wait_seconds)["sites"]
    except (UsageError, DeadlineExceededError):
        return []
    return found


def _stored(blobs: BlobStore, path: Path) -> str:
    """Stores a file as a blob, piece by piece; returns its digest."""
    try:
        with path.open("rb") as file, blobs.writer() as sink:
            while piece := file.read(BLOB_PIECE_BYTES):
                sink.write(piece)
            return sink.finish()
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file, found: {error.strerror}") from error
