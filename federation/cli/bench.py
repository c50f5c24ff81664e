# SPDX-License-Identifier: Apache-2.0
"""`federation bench`: figures that anybody can measure again on their own machine."""

import json
import secrets
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from federation.bench.transfer import PIECE_BYTES, TransferBench
from federation.demo.children import Children, environment
from federation.durable.real import RealFileSystem


@click.group()
def bench() -> None:
    """Measure speed and memory; each figure stands beside one of the same run."""


@bench.command()
@click.option("--megabytes", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Of one payload.")
@click.option("--samples", type=click.IntRange(2, 100), default=6, show_default=True, help="The first one is dropped.")
@click.option("--directory", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Disk to measure on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def transfer(megabytes: int, samples: int, directory: Path | None, as_json: bool) -> None:
    """One payload from a site agent to a coordinator over loopback TLS, digests and fsync included.

    References of the same run: a bare gRPC stream over TLS of 1 MiB messages, and one process that writes and fsyncs
    the same number of bytes.
    """
    num_bytes = -(-megabytes * 1_000_000 // PIECE_BYTES) * PIECE_BYTES
    scratch = (directory or Path(tempfile.gettempdir())) / f"federation-bench-{secrets.token_hex(4)}"
    fs = RealFileSystem(scratch.parent)
    fs.mkdir(scratch.name)
    try:
        with Children(scratch / "logs", environment()) as children:
            found = TransferBench(base=scratch, children=children, num_bytes=num_bytes, num_samples=samples).run()
    finally:
        fs.remove_tree(scratch.name)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        Console().print(_table(found))


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"{found['num_bytes'] / 1e6:.0f} MB, median of {found['num_samples']} samples", box=None)
    table.add_column("")
    table.add_column("MB/s", justify="right")
    table.add_column("seconds, lowest to highest", justify="right")
    rows = (
        ("agent to coordinator", "transfer_bytes_per_second", "transfer"),
        ("bare gRPC stream", "bare_stream_bytes_per_second", "stream"),
        ("write and fsync", "write_and_fsync_bytes_per_second", "write"),
    )
    for name, key, kind in rows:
        seconds = found["seconds"][kind]
        table.add_row(name, f"{found[key] / 1e6:.0f}", f"{min(seconds):.2f} to {max(seconds):.2f}")
    table.add_row("transfer / slower reference", f"{found['transfer_over_slower_reference']:.2f}", "")
    table.add_row("agent, peak MB", f"{found['agent_peak_bytes'] / 1e6:.0f}", "")
    table.add_row("coordinator, peak MB", f"{found['coordinator_peak_bytes'] / 1e6:.0f}", "")
    return table
