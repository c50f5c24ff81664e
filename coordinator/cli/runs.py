# SPDX-License-Identifier: Apache-2.0
"""`coordinator run|round …`: signed commands and queries of an operator. The CLI never opens the store."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from coordinator.cli.confirm import confirm, confirm_option
from coordinator.cli.create import create_run
from coordinator.cli.export import export_model, model_sentence
from coordinator.cli.export_metrics import export_metrics, metrics_sentence, refuse_mixed_options
from coordinator.cli.show import print_run, print_runs
from coordinator.cli.watch import watch_run
from coordinator.exports.formats import FORMATS
from coordinator.operator_client import OperatorClient, connect, goes_over_network, new_id
from federation.durable.real import RealFileSystem
from federation.messages import Command, CommandKind, Query, QueryKind

F = TypeVar("F", bound=Callable[..., Any])


def operator_options(function: F) -> F:
    """The options of every command that speaks to the coordinator."""
    directory = click.Path(exists=True, file_okay=False, path_type=Path)
    decorators = (
        click.option(
            "--as", "operator_dir", type=directory, required=True, help="Directory of the operator who signs."
        ),
        click.option(
            "--coordinator",
            "coordinator_dir",
            type=directory,
            envvar="FEDERATION_COORDINATOR",
            help="Coordinator's directory; the one beside the operator's if not given.",
        ),
        click.option("--wait", "wait_seconds", default=30.0, show_default=True, help="Seconds to wait for the reply."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@contextmanager
def connected(operator_dir: Path, coordinator_dir: Path | None) -> Iterator[OperatorClient]:
    """The operator's client, its directory locked meanwhile."""
    client, lock = connect(operator_dir, coordinator_dir)
    with lock:
        yield client


@click.group()
def run() -> None:
    """Runs: create, steer, look at, export."""


@run.command("create")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--init",
    "model_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Directory that `federation init-model` wrote.",
)
@operator_options
def create(
    config: Path,
    model_dir: Path,
    operator_dir: Path,
    coordinator_dir: Path | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Creates a run from run.toml and theta_0; its state is DRAFT until operators approve it."""
    with connected(operator_dir, coordinator_dir) as client:
        document = create_run(client, config, model_dir, wait_seconds)
    lines = [f"Run {document['run']} is created.", document["availability"]]
    lines += [f"Warning: {warning}" for warning in document["warnings"]]
    answer(document, as_json, "\n".join(lines))


@run.command("export")
@click.argument("run_id", metavar="NAME")
@click.option("--round", "number", default=-1, help="Round whose model is wanted; the newest if not given.")
@click.option("--metrics", is_flag=True, help="Not the model: what the ledger and the sites say about the run.")
@click.option("--format", "format_name", default="csv", show_default=True, help=f"Of metrics: {', '.join(FORMATS)}.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File, of most metrics a directory.  [default: model.safetensors, or named after the run]",
)
@operator_options
@click.pass_context
def export(
    context: click.Context,
    run_id: str,
    number: int,
    metrics: bool,
    format_name: str,
    overwrite: bool,
    out: Path | None,
    operator_dir: Path,
    coordinator_dir: Path | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Writes the model after a round as safetensors, rebuilt from the published blobs and checked by digest.

    With --metrics: tables of rounds, updates, scores and inner steps, made from the ledger's leaves, whose root is
    checked, and from telemetry.
    """
    refuse_mixed_options(context, metrics)
    with connected(operator_dir, coordinator_dir) as client:
        if metrics:
            document = export_metrics(client, run_id, format_name, out, overwrite, wait_seconds)
        else:
            document = export_model(client, run_id, number, out or Path("model.safetensors"), overwrite, wait_seconds)
    answer(document, as_json, metrics_sentence(document) if metrics else model_sentence(document))


@run.command("list")
@operator_options
def list_runs(operator_dir: Path, coordinator_dir: Path | None, wait_seconds: float, as_json: bool) -> None:
    """Lists all runs."""
    with connected(operator_dir, coordinator_dir) as client:
        document = client.query(Query(id=new_id(), kind=QueryKind.RUNS), wait_seconds)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        print_runs(document)


@run.command("show")
@click.argument("run_id", metavar="NAME")
@operator_options
def show(run_id: str, operator_dir: Path, coordinator_dir: Path | None, wait_seconds: float, as_json: bool) -> None:
    """Shows one run: state, sites, rounds, scores."""
    with connected(operator_dir, coordinator_dir) as client:
        document = client.query(Query(id=new_id(), kind=QueryKind.RUN, subject=run_id), wait_seconds)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        print_run(document)


@run.command("watch")
@click.argument("run_id", metavar="NAME")
@click.option(
    "--every",
    "every_seconds",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@operator_options
def watch(
    run_id: str,
    every_seconds: float,
    operator_dir: Path,
    coordinator_dir: Path | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Follows a run until it ends (or Ctrl-C), also while the coordinator is away; with --json one document a line.

    A letter in a site's lane is what it did then: q queued, . waited for others, t trained, u uploaded, T both; + its
    update was admitted, ! it was not; - it was in a round, not known how far.
    """

    if goes_over_network(operator_dir, coordinator_dir):
        _watch_stream(operator_dir, run_id, every_seconds, wait_seconds, as_json)
        return

    def look() -> dict[str, Any]:
        with connected(operator_dir, coordinator_dir) as client:
            return client.query(Query(id=new_id(), kind=QueryKind.RUN, subject=run_id), wait_seconds)

    watch_run(look, lambda: time.sleep(every_seconds), as_json)


def _watch_stream(operator_dir: Path, run_id: str, every_seconds: float, wait_seconds: float, as_json: bool) -> None:
    from coordinator.rpc.operator_courier import Watching

    with closing(Watching(RealFileSystem(operator_dir), run_id, every_seconds, wait_seconds)) as watching:
        watch_run(watching.look, lambda: None, as_json)


def steering(name: str, kind: CommandKind, said: str, explanation: str) -> click.Command:
    """A command line that sends a command about one run or site and says what it did."""

    @click.command(name, help=explanation)
    @click.argument("subject", metavar="NAME")
    @click.option("--command-id", default=None, help="Id of the command, to repeat one safely.")
    @operator_options
    def command(
        subject: str,
        command_id: str | None,
        operator_dir: Path,
        coordinator_dir: Path | None,
        wait_seconds: float,
        as_json: bool,
    ) -> None:
        with connected(operator_dir, coordinator_dir) as client:
            wanted = Command(id=command_id or new_id(), kind=kind, subject=subject)
            reply = client.command(wanted, wait_seconds)
        document = {"command": wanted.id, "subject": subject, "leaf": reply.leaf_index, "sentence": reply.sentence}
        answer(document, as_json, f"{subject}: {said}.")

    return command


def _numbered(name: str, kind: CommandKind, option: str, said: str, explanation: str) -> click.Command:
    @click.command(name, help=explanation)
    @click.argument("subject", metavar="NAME")
    @click.option(option, "number", type=int, required=True, help="Round number.")
    @click.option("--command-id", default=None, help="Id of the command, to repeat one safely.")
    @operator_options
    def command(
        subject: str,
        number: int,
        command_id: str | None,
        operator_dir: Path,
        coordinator_dir: Path | None,
        wait_seconds: float,
        as_json: bool,
    ) -> None:
        with connected(operator_dir, coordinator_dir) as client:
            wanted = Command(id=command_id or new_id(), kind=kind, subject=subject, number=number)
            reply = client.command(wanted, wait_seconds)
        document = {"command": wanted.id, "subject": subject, "number": number, "leaf": reply.leaf_index}
        answer(document, as_json, f"{subject}: {said} {number}.")

    return command


def answer(document: dict[str, Any], as_json: bool, sentence: str) -> None:
    """Prints a document as JSON, or a sentence."""
    click.echo(json.dumps(document, indent=2) if as_json else sentence)


for _command in (
    steering("approve", CommandKind.RUN_APPROVE, "approved", "Approves a run's manifest."),
    steering("start", CommandKind.RUN_START, "started", "Starts an approved run: rounds may open."),
    steering("pause", CommandKind.RUN_PAUSE, "paused", "Pauses a run: open rounds finish, no new one opens."),
    steering("resume", CommandKind.RUN_RESUME, "resumed", "Resumes a paused run."),
    steering("evaluate", CommandKind.RUN_EVALUATE, "evaluation requested", "Asks all sites for an evaluation now."),
    _numbered(
        "rollback",
        CommandKind.RUN_ROLLBACK,
        "--to-round",
        "rolled back to round",
        "Makes the model after a round current again; later rounds are void, -1 means theta_0.",
    ),
):
    run.add_command(_command)


def order_if_confirmed(
    connect_again: Callable[[], AbstractContextManager[OperatorClient]],
    query: Query,
    consequences: str,
    wanted: Command,
    typed: str | None,
    wait_seconds: float,
) -> dict[str, Any]:
    """Shows what a command leads to and, once its subject's name was typed, gives it. Returns what to print as JSON.

    The operator's directory is free while a person thinks.

    Args:
        query, consequences: what to ask for, and the key of its answer that holds the sentences.
        typed: the name from the command line; None asks for it.

    Raises:
        UsageError: another name; nothing was ordered.
    """
    with connect_again() as client:
        shown = client.query(query, wait_seconds)
    confirm(wanted.subject, shown[consequences], typed)
    with connect_again() as client:
        reply = client.command(wanted, wait_seconds)
    return {"command": wanted.id, "subject": wanted.subject, "leaf": reply.leaf_index, "sentence": reply.sentence}


@run.command("abort")
@click.argument("run_id", metavar="NAME")
@confirm_option
@click.option("--command-id", default=None, help="Id of the command, to repeat one safely.")
@operator_options
def abort(
    run_id: str,
    typed: str | None,
    command_id: str | None,
    operator_dir: Path,
    coordinator_dir: Path | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Ends a run for good; open rounds are abandoned. Shows what follows from it and wants the run's name."""
    query = Query(id=new_id(), kind=QueryKind.RUN, subject=run_id)
    wanted = Command(id=command_id or new_id(), kind=CommandKind.RUN_ABORT, subject=run_id)
    document = order_if_confirmed(
        partial(connected, operator_dir, coordinator_dir), query, "abort", wanted, typed, wait_seconds
    )
    answer(document, as_json, f"{run_id}: aborted.")


@click.group("round")
def round_group() -> None:
    """Rounds."""


round_group.add_command(
    _numbered(
        "abandon", CommandKind.ROUND_ABANDON, "--round", "abandoned round", "Ends an open round without a commit."
    )
)
