# SPDX-License-Identifier: Apache-2.0
"""`federation verify DIR`: the audit of a coordinator's directory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from federation.verify.present import document, lines
from federation.verify.verifier import Progress, verify_directory


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--root", default="", metavar="FINGERPRINT", help="The consortium root's, from another source than DIR.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A checkpoint that a site keeps (SITE_DIR/state/ledger/checkpoint or cosigned.seg); repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(context: click.Context, directory: Path, root: str, checkpoints: tuple[Path, ...], as_json: bool) -> None:
    """Check everything that the ledger in the coordinator's directory DIR says against the evidence in it.

    DIR may be a copy, damaged, or in use; nothing in it is changed and no key is needed. Every committed round is
    computed again from the signed updates.

    Exit code: 0 TRUE, 1 FALSE, 3 INCOMPLETE or UNANCHORED, 2 for wrong usage.
    """
    with _progress() as progress:
        report = verify_directory(directory, root=root, checkpoints=checkpoints, progress=progress)
    click.echo(json.dumps(document(report), indent=2) if as_json else "\n".join(lines(report)))
    context.exit(report.exit_code)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading")

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"{what} leaves", completed=done, total=max(total, done))

        yield show
