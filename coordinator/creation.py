# SPDX-License-Identifier: Apache-2.0
"""What must be durable before a run exists in the ledger: its manifest, theta_0, and version 0 of every fragment."""

from federation import wire
from federation.aggregate import initial_state
from federation.blobs.store import BlobStore
from federation.errors import DigestMismatchError, UsageError
from federation.ids import short
from federation.state.api import StateStore
from federation.tensor_file import open_theta


def prepare_run(blobs: BlobStore, states: StateStore, manifest_digest: str) -> None:
    """Checks theta_0 against the manifest and writes version 0 of each fragment; safe to repeat.

    Raises:
        UsageError: theta_0 is missing or is not what the manifest says.
    """
    manifest = wire.manifest_from_bytes(blobs.read(manifest_digest))
    if not blobs.has(manifest.theta_blob):
        raise UsageError(f"run {manifest.run}: theta_0, blob {short(manifest.theta_blob)}, did not arrive")
    try:
        initial_state(states, manifest.run, manifest, open_theta(blobs, manifest))
    except DigestMismatchError as error:
        for fragment in range(len(manifest.fragments)):
            states.delete(manifest.run, fragment, 0)
        raise UsageError(f"run {manifest.run}: {error}") from error
