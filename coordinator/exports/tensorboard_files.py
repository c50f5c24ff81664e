# SPDX-License-Identifier: Apache-2.0
"""A run as a TensorBoard log: scalars with the ledger's times.

The format's messages and checksum are tensorboardX's, which needs nothing that is not here anyway (numpy, protobuf);
`tensorboard` itself would bring a web server. Its own writer is not used: it opens files, and names them by the host.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from coordinator.exports.destination import Folder, Output
from coordinator.run_tables import RunTables

FILE_VERSION: Final = "brain.Event:2"


class Scalar(NamedTuple):
    """One point of one curve. `wall_time`: unix seconds."""

    tag: str
    step: int
    wall_time: float
    value: float


def write_tensorboard(tables: RunTables, about: dict[str, Any], folder: Folder) -> None:
    """One event file, its points by tag and then in the order of the run."""
    points = list(scalars(tables))
    begun = min((point.wall_time for point in points), default=0.0)
    with folder.file(f"events.out.tfevents.{int(begun):010d}.{tables.run}") as output:
        _write_event(output, Event(wall_time=begun, file_version=FILE_VERSION))
        for point in points:
            value = Summary.Value(tag=point.tag, simple_value=point.value)
            _write_event(output, Event(wall_time=point.wall_time, step=point.step, summary=Summary(value=[value])))


def scalars(tables: RunTables) -> Iterator[Scalar]:
    """loss/SITE, norm/SITE and cosine/SITE, bits_per_byte/LANGUAGE, round/seconds and round/aggregate_norm.

    Steps: inner steps of the site for losses, commits for scores, the round's number for the others.
    """
    yield from _losses(tables)
    yield from _of_updates(tables)
    yield from _scores(tables)
    yield from _of_rounds(tables)


def _losses(tables: RunTables) -> Iterator[Scalar]:
    for row in _rows(tables, "steps", "site", "num_steps", "received_at", "loss"):
        yield from _scalar(f"loss/{row[0]}", *row[1:])


def _of_updates(tables: RunTables) -> Iterator[Scalar]:
    for site, number, at, outcome, stands, norm, cosine in _rows(
        tables, "updates", "site", "round", "at", "outcome", "stands", "norm", "cosine"
    ):
        if stands and outcome == "admitted":
            yield from _scalar(f"norm/{site}", number, at, norm)
            yield from _scalar(f"cosine/{site}", number, at, cosine)


def _scores(tables: RunTables) -> Iterator[Scalar]:
    """The mean over the sites that evaluated a model in force; of one site and model the newest score counts."""
    found: dict[tuple[str, int], dict[str, tuple[float, int]]] = {}
    for language, commits, site, score, at, reverted in _rows(
        tables, "scores", "language", "commits", "site", "bits_per_byte", "at", "reverted"
    ):
        if score is not None and not reverted:
            found.setdefault((language, commits), {})[site] = (score, at)
    for (language, commits), sites in sorted(found.items()):
        mean = sum(score for score, _ in sites.values()) / len(sites)
        yield from _scalar(f"bits_per_byte/{language}", commits, max(at for _, at in sites.values()), mean)


def _of_rounds(tables: RunTables) -> Iterator[Scalar]:
    for number, opened, ended, norm in _rows(tables, "rounds", "round", "opened_at", "ended_at", "aggregate_norm"):
        if ended is not None:
            yield from _scalar("round/seconds", number, ended, (ended - opened) / 1e6)
            yield from _scalar("round/aggregate_norm", number, ended, norm)


def _scalar(tag: str, step: int, at_us: int | None, value: float | None) -> Iterator[Scalar]:
    if value is not None and at_us is not None:
        yield Scalar(tag, step, at_us / 1e6, value)


def _rows(tables: RunTables, table: str, *columns: str) -> Iterator[tuple[Any, ...]]:
    found = tables.table(table)
    return zip(*(found.column(name) for name in columns), strict=True)


def _write_event(output: Output, event: Event) -> None:
    """A TFRecord: length, its checksum, the bytes, their checksum; all little-endian."""
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    output.write(length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data)))
