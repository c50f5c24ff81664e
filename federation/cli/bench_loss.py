# SPDX-License-Identifier: Apache-2.0
"""`federation bench loss`."""

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from federation.bench.loss_page import PLOT_FILE, page
from federation.bench.loss_plot import PLOT_ADVICE, can_plot, plot
from federation.bench.loss_report import study_document
from federation.bench.loss_runs import LossStudy
from federation.bench.loss_settings import BASE, METHODS, load_settings
from federation.cli.bench_output import AS_JSON, say, show, table_of
from federation.durable.real import RealFileSystem
from federation.errors import UsageError

DIRECTORY_TYPE: Final = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Directory of <lang>*.txt or .txt.gz.")
@click.option("--out", required=True, type=DIRECTORY_TYPE, help="Directory of the study; finished runs stay there.")
@click.option("--report", type=DIRECTORY_TYPE, help="Directory for loss.md, loss.svg and loss.json.  [default: --out]")
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True, help="Processes, a thread each.")
@click.option("--methods", default=",".join(METHODS), show_default=True, help="Those to run and to report on.")
@click.option("--settings", type=click.Path(path_type=Path), help="TOML file with settings that differ.")
@click.option("--nice", type=click.IntRange(0, 19), default=10, show_default=True, help="Of the workers.")
@click.option("--only-report", is_flag=True, help="Train nothing; report on what is finished.")
@AS_JSON
def loss(
    data: Path,
    out: Path,
    report: Path | None,
    workers: int,
    methods: str,
    settings: Path | None,
    nice: int,
    only_report: bool,
    as_json: bool,
) -> None:
    """What each method of exchange costs in loss, on real text, with paired seeds.

    Every run is simulated in one process with the bits of a real federation. A study takes an hour or more of
    processor time; the same command goes on where it was stopped.
    """
    # Who ends this command ends its workers: leaving the `with` block around them does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    study = LossStudy(
        settings=load_settings(settings),
        data=data,
        out=out,
        methods=_methods(methods),
        num_workers=workers,
        niceness=nice,
        say=say,
    )
    if not only_report:
        study.run()
    document = study_document(study)
    command = _command(data, out, workers, methods, settings)
    _write(RealFileSystem((report or out).absolute()), document, command)
    show(document, as_json, _table(document))


def _write(fs: RealFileSystem, document: dict[str, Any], command: str) -> None:
    fs.write("loss.json", json.dumps(document, indent=1).encode() + b"\n")
    if can_plot():
        fs.write(PLOT_FILE, plot(document))
    else:
        say(f"{PLOT_FILE} is not written. {PLOT_ADVICE}")
    fs.write("loss.md", page(document, command, can_plot()).encode())


def _command(data: Path, out: Path, workers: int, methods: str, settings: Path | None) -> str:
    """The command for a page: directories by their last name."""
    words = ["federation", "bench", "loss", "--data", data.name, "--out", out.name, "--workers", str(workers)]
    words += [] if methods == ",".join(METHODS) else ["--methods", methods]
    words += ["--settings", settings.name] if settings else []
    return shlex.join(words)


_COLUMNS: Final = ("", "bits/byte", "vs fp32", "upper 95%", "target", "met", "seeds", "bytes up", "down")


def _table(document: dict[str, Any]) -> Table:
    rows = [_row(item) for item in document["methods"].values()]
    title = f"{document['num_parameters']} parameters, {document['tokens_per_run']} tokens, held-out text"
    return table_of(title, _COLUMNS, rows)


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    seeds = str(item["num_samples"])
    if "bits_per_byte" not in item:
        return (item["title"], "n/a", "", "", "", "", seeds, "", "")
    return (
        item["title"],
        f"{item['bits_per_byte']:.4f}",
        _percent(item["relative_difference"]),
        _percent(item["relative_difference_upper_95"]),
        _percent(item["target"]),
        {True: "yes", False: "no", None: ""}[item["within_target"]],
        seeds,
        f"{item['bytes_per_parameter_up']:.3f}",
        f"{item['bytes_per_parameter_down']:.3f}",
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.2f}%"


def _methods(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METHODS]
    if unknown or BASE not in names:
        raise UsageError(f"--methods: expected {BASE} and any of {', '.join(METHODS)}, found {text}")
    return tuple(name for name in METHODS if name in names)
