# SPDX-License-Identifier: Apache-2.0
"""`coordinator run export`: the model after a round, rebuilt from published blobs and checked against the ledger."""

from pathlib import Path
from typing import Any

from coordinator.exports.destination import check
from coordinator.operator_client import OperatorClient, new_id
from federation import model_export, wire
from federation.durable.real import RealFileSystem
from federation.durations import count
from federation.errors import UsageError
from federation.messages import Query, QueryKind
from federation.model_export import Commit

Document = dict[str, Any]


def export_model(
    client: OperatorClient, run: str, number: int, out: Path, overwrite: bool, wait_seconds: float
) -> Document:
    """Fetches the chain of blobs, applies it to theta_0, and writes safetensors.

    Raises:
        UsageError: there is no such run or round, `out` is a directory, or a file that is not to be replaced.
        DigestMismatchError: the blobs do not lead to the digests that the ledger records; nothing is written.
    """
    if out.is_dir():
        raise UsageError(f"--out: expected a file, found directory {out}")
    check(out, overwrite, is_file=True)
    query = Query(id=new_id(), kind=QueryKind.MODEL, subject=run, number=number)
    document = client.query(query, wait_seconds)
    manifest = wire.manifest_from_bytes(client.blobs.read(document["manifest_digest"]))
    chains = [
        [Commit(blob=version["blob"], theta_digest=version["theta"]) for version in chain]
        for chain in document["chains"]
    ]
    fs = RealFileSystem(out.resolve().parent)
    model_export.export_model(client.blobs, manifest, chains, fs, out.name)
    parameters = sum(table.num_elements for table in manifest.fragments)
    commits = sum(bool(commit.blob) for chain in chains for commit in chain)
    return {"run": run, "out": str(out), "commits": commits, "parameters": parameters, "chains": document["chains"]}


def model_sentence(document: Document) -> str:
    """What `export_model` did, for people."""
    size = f"{count(document['parameters'], 'parameter')}, {count(document['commits'], 'commit')}"
    return f"Wrote {document['out']}: {size}."
