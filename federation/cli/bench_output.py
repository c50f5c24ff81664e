# SPDX-License-Identifier: Apache-2.0
"""What the commands of `federation bench` have in common: options, a directory that is removed, JSON or a table."""

import json
import secrets
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import click
from rich.console import Console
from rich.table import Table

from federation.bench.model import GPT2_SMALL_PARAMETERS
from federation.codecs.registry import uplink_names
from federation.durable.real import RealFileSystem

Row = Sequence[str]

AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
DIRECTORY: Final = click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Disk to measure on.  [default: the system's for temporary files]",
)
PARAMETERS: Final = click.option(
    "--parameters",
    type=click.IntRange(1, 100_000_000_000),
    default=GPT2_SMALL_PARAMETERS,
    show_default="124439808, GPT-2 small",
    help="Of the model.",
)
CODEC: Final = click.option(
    "--codec",
    type=click.Choice(uplink_names()),
    default="int4",
    show_default=True,
    help="Of updates; commits use the one that belongs to it.",
)


@contextmanager
def scratch(directory: Path | None) -> Iterator[Path]:
    """A new directory on the disk to be measured; nothing is left of it, nor of what was started, at SIGTERM either."""
    base = (directory or Path(tempfile.gettempdir())).absolute() / f"federation-bench-{secrets.token_hex(4)}"
    fs = RealFileSystem(base.parent)
    fs.mkdir(base.name)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield base
    finally:
        signal.signal(signal.SIGTERM, before)
        fs.remove_tree(base.name)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def say(text: str) -> None:
    """What is being done, for who waits."""
    click.echo(text, err=True)


def show(document: dict[str, Any], as_json: bool, *tables: Table) -> None:
    """Prints one or the other."""
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for table in tables:
        Console().print(table)


def table_of(title: str, columns: Row, rows: Sequence[Row]) -> Table:
    """A table whose first column is words and whose others are figures."""
    table = Table(title=title, box=None)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    return table


def spread_of(figure: dict[str, Any], digits: int = 2) -> str:
    """Lowest to highest of a figure's samples."""
    return f"{figure['lowest']:.{digits}f} to {figure['highest']:.{digits}f}"
