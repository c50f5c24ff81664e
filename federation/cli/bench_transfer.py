# SPDX-License-Identifier: Apache-2.0
"""`federation bench transfer`."""

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from federation.bench.transfer import PIECE_BYTES, TransferBench
from federation.cli.bench_output import AS_JSON, DIRECTORY, scratch, show, table_of
from federation.demo.children import Children, environment


@click.command()
@click.option("--megabytes", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Of one payload.")
@click.option("--samples", type=click.IntRange(2, 100), default=6, show_default=True, help="The first one is dropped.")
@DIRECTORY
@AS_JSON
def transfer(megabytes: int, samples: int, directory: Path | None, as_json: bool) -> None:
    """One payload from a site agent to a coordinator over loopback TLS, digests and fsync included.

    References of the same run: a bare gRPC stream over TLS of 1 MiB messages, and one process that writes and fsyncs
    the same number of bytes.
    """
    num_bytes = -(-megabytes * 1_000_000 // PIECE_BYTES) * PIECE_BYTES
    with scratch(directory) as base, Children(base / "logs", environment()) as children:
        found = TransferBench(base=base, children=children, num_bytes=num_bytes, num_samples=samples).run()
    show(found, as_json, _table(found))


def _table(found: dict[str, Any]) -> Table:
    rows = (
        ("agent to coordinator", "transfer_bytes_per_second", "transfer"),
        ("bare gRPC stream", "bare_stream_bytes_per_second", "stream"),
        ("write and fsync", "write_and_fsync_bytes_per_second", "write"),
    )
    speeds = [_speed(name, found[key], found["seconds"][kind]) for name, key, kind in rows]
    others = [
        ("transfer / slower reference", f"{found['transfer_over_slower_reference']:.2f}", ""),
        ("agent, peak MB", f"{found['agent_peak_bytes'] / 1e6:.0f}", ""),
        ("coordinator, peak MB", f"{found['coordinator_peak_bytes'] / 1e6:.0f}", ""),
    ]
    title = f"{found['num_bytes'] / 1e6:.0f} MB, median of {found['num_samples']} samples"
    return table_of(title, ("", "MB/s", "seconds, lowest to highest"), [*speeds, *others])


def _speed(name: str, rate: float, seconds: list[float]) -> tuple[str, str, str]:
    return name, f"{rate / 1e6:.0f}", f"{min(seconds):.2f} to {max(seconds):.2f}"
