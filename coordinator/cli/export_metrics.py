# SPDX-License-Identifier: Apache-2.0
"""`coordinator run export --metrics`: a run's tables, made here from the ledger's own leaves.

The order: 1 the output can be written 2 the coordinator answers 3 the ledger's key signed the checkpoint 4 the leaves
have its size and root 5 they fold 6 the files appear. Telemetry is no evidence and is taken as it comes.
"""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from coordinator.exports import formats
from coordinator.metrics_blob import LEAF, PHASES, TELEMETRY, read_blob, site_and_lines
from coordinator.operator_client import OperatorClient, new_id
from coordinator.phases import PhaseChange, read_change
from coordinator.run_tables import RunTables, run_tables
from coordinator.telemetry import StepMetrics, parsed_lines, step_metrics
from federation import notes
from federation.durations import count
from federation.errors import DigestMismatchError, MalformedPayloadError
from federation.ids import is_digest, short
from federation.merkle import Frontier, leaf_hash
from federation.messages import Query, QueryKind
from federation.notes import Checkpoint
from federation.wire import leaf_from_bytes

Document = dict[str, Any]


def export_metrics(
    client: OperatorClient, run: str, format_name: str, out: Path | None, overwrite: bool, wait_seconds: float
) -> Document:
    """Fetches leaves and telemetry, makes the tables, and writes them.

    Raises:
        ConfigError: there is no such run or format, or the output is in the way.
        BadSignatureError, DigestMismatchError: the leaves are not those of the ledger's checkpoint; nothing is written.
        DiskFullError, StorageError: the output cannot be written.
    """
    wanted = formats.format_named(format_name)
    out = out or wanted.default_out(run)
    formats.check_out(wanted, out, overwrite)  # 1
    document = client.query(Query(id=new_id(), kind=QueryKind.METRICS, subject=run), wait_seconds)  # 2
    digest = document["export"]
    if not is_digest(digest):
        raise MalformedPayloadError(f"export: expected a digest in the reply, found {digest!r:.80}")
    try:
        checkpoint = _checkpoint(client, document["ledger"]["checkpoint"])
        tables = read_tables(client, digest, run, checkpoint)
    finally:
        client.blobs.delete(digest)
    formats.write(wanted, tables, _about(document, checkpoint), out, overwrite)  # 6
    return {
        "run": run,
        "format": wanted.name,
        "out": str(out),
        "rows": {table.name: table.num_rows for table in tables.tables},
        "leaves": checkpoint.size,
        "root": checkpoint.root.hex(),
    }


def _checkpoint(client: OperatorClient, note: str) -> Checkpoint:
    ledger = client.roster.coordinator
    assert ledger is not None  # `connect` refuses a roster without one
    return notes.open_checkpoint(note.encode(), ledger.ledger_origin, ledger.ledger_public)  # 3


def _about(document: Document, checkpoint: Checkpoint) -> Document:
    """Where the tables come from, so that a reader can find them again."""
    return {
        "run": document["run"],
        "state": document["state"],
        "commits": document["commits"],
        "manifest_digest": document["manifest_digest"],
        "ledger": {"size": checkpoint.size, "root": checkpoint.root.hex(), **document["ledger"]},
        "software": f"hpc-federation {version('hpc-federation')}",
    }


def read_tables(client: OperatorClient, digest: str, run: str, checkpoint: Checkpoint) -> RunTables:
    """A run's tables from a blob; nothing in it is decoded before its root is known to hold.

    Raises:
        MalformedPayloadError, LimitExceededError: it is no such blob.
        DigestMismatchError: its leaves are not those of the checkpoint.
        UnknownLeafError: a leaf of a later release.
        UsageError: no leaf speaks of the run.
    """
    records = partial(read_blob, partial(client.blobs.read_range, digest))
    frontier = Frontier()
    for record in records():
        if record.kind == LEAF:
            frontier.append(leaf_hash(record.data))
    _check(frontier, checkpoint)  # 4
    steps: dict[str, list[StepMetrics]] = {}
    phases: dict[str, list[PhaseChange]] = {}
    for record in records():
        if record.kind == TELEMETRY:
            site, lines = site_and_lines(record)
            steps.setdefault(site, []).extend(_steps(lines, run))
        elif record.kind == PHASES:
            site, lines = site_and_lines(record)
            phases.setdefault(site, []).extend(_phases(lines, run))
    leaves = (leaf_from_bytes(record.data) for record in records() if record.kind == LEAF)
    return run_tables(run, leaves, steps, phases)  # 5


def _check(frontier: Frontier, checkpoint: Checkpoint) -> None:
    if (frontier.size, frontier.root()) != (checkpoint.size, checkpoint.root):
        raise DigestMismatchError(
            f"export: expected {checkpoint.size} leaves with root {short(checkpoint.root.hex())}, found "
            f"{frontier.size} with {short(frontier.root().hex())}",
            advice="The coordinator sent other leaves than it signed; tell the consortium. Nothing was written.",
        )


def _steps(lines: bytes, run: str) -> Iterator[StepMetrics]:
    for line in parsed_lines(lines):
        metrics = step_metrics(line)
        if metrics is not None and metrics.run == run:
            yield metrics


def _phases(lines: bytes, run: str) -> Iterator[PhaseChange]:
    for line in lines.splitlines():
        change = read_change(line)
        if change is not None and change.run == run:
            yield change


def metrics_sentence(document: Document) -> str:
    """What `export_metrics` did, for people."""
    rows = ", ".join(f"{number} {name}" for name, number in document["rows"].items())
    leaves = count(document["leaves"], "leaf", "leaves")
    return f"Wrote {document['out']}: {rows}. From {leaves} under the ledger's checkpoint {short(document['root'])}."


def refuse_mixed_options(context: click.Context, metrics: bool) -> None:
    """An option of the model's with --metrics, or the other way round, is a mistake. Raises click.UsageError."""
    misplaced = {"number": "--round"} if metrics else {"format_name": "--format"}
    for parameter, option in misplaced.items():
        if context.get_parameter_source(parameter) is not ParameterSource.DEFAULT:
            place = "without --metrics only" if metrics else "with --metrics only"
            raise click.UsageError(f"{option}: expected {place}", context)
