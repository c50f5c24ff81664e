# SPDX-License-Identifier: Apache-2.0
"""`coordinator run export`: the model after a round, rebuilt from published blobs and checked against the ledger."""

from pathlib import Path
from typing import Any

from coordinator.operator_client import OperatorClient, new_id
from federation import wire
from federation.durable.real import RealFileSystem
from federation.initial_model import Vector, model_bytes, read_fragments
from federation.manifest import Manifest
from federation.messages import Query, QueryKind
from federation.published import apply_commit

Document = dict[str, Any]


def export_model(client: OperatorClient, run: str, number: int, out: Path, wait_seconds: float) -> Document:
    """Fetches the chain of blobs, applies it to theta_0, and writes safetensors.

    Raises:
        UsageError: there is no such run or round.
        DigestMismatchError: a blob does not lead to the digest that the ledger records; nothing is written.
    """
    query = Query(id=new_id(), kind=QueryKind.MODEL, subject=run, number=number)
    document = client.query(query, wait_seconds)
    manifest = wire.manifest_from_bytes(client.blobs.read(document["manifest_digest"]))
    vectors = read_fragments(client.blobs, manifest)
    commits = 0
    for fragment, chain in enumerate(document["chains"]):
        for version in chain:
            if version["blob"]:
                vectors[fragment] = _applied(client, manifest, fragment, vectors[fragment], version)
                commits += 1
    RealFileSystem(out.resolve().parent).write(out.name, model_bytes(manifest, vectors))
    parameters = sum(table.num_elements for table in manifest.fragments)
    return {"run": run, "out": str(out), "commits": commits, "parameters": parameters, "chains": document["chains"]}


def _applied(client: OperatorClient, manifest: Manifest, fragment: int, theta: Vector, version: Document) -> Vector:
    data = client.blobs.read(version["blob"])
    return apply_commit(manifest, fragment, theta, data, version["theta"])
