# SPDX-License-Identifier: Apache-2.0
"""What `run list` and `run show` print."""

import time

from rich.table import Table
from rich.text import Text

from coordinator.cli.picture.whole import picture
from coordinator.cli.picture.words import Document, name
from federation.cli.lines import wrapped
from federation.cli.screen import print_lines, terminal
from federation.terminal_text import one_line


def print_runs(document: Document) -> None:
    """One line a run."""
    console = terminal()
    if not document["runs"]:
        for line in wrapped("No runs yet. `coordinator run create run.toml --init DIR` makes one.", console.width):
            console.print(line)
        return
    table = Table(box=None)
    for heading in ("run", "state", "commits", "sites", "why"):
        table.add_column(heading)
    for run in document["runs"]:
        commits, sites = f"{run['commits']}/{run['rounds']}", ", ".join(map(name, run["sites"]))
        cells = (name(run["run"]), one_line(run["state"], 20), commits, sites, one_line(run["reason"]))
        table.add_row(*map(Text, cells))
    console.print(table)


def print_run(document: Document) -> None:
    """State, sites, newest rounds and scores."""
    print_lines(terminal(), lambda width, height: picture(document, time.time(), width, height))
