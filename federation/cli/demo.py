# SPDX-License-Identifier: Apache-2.0
"""`federation demo`: trains one model at several sites on this machine and proves it, in a few minutes."""

import json
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from federation.demo import couriers, stages
from federation.demo.children import Children, environment
from federation.demo.live import View
from federation.demo.report import print_result, result_document
from federation.demo.settings import DemoPaths, DemoSettings
from federation.durable.real import RealFileSystem
from federation.no_network import network_namespace_prefix


@click.command()
@click.option("--sites", "num_sites", default=3, show_default=True, help="Sites, each with languages of its own.")
@click.option("--rounds", "num_rounds", default=16, show_default=True, help="Rounds to commit.")
@click.option("--data", type=click.Path(path_type=Path), help="Directory of <lang>*.txt or .txt.gz to train on.")
@click.option("--seed", default=0, show_default=True, help="Of generated text, first parameters and data order.")
@click.option("--keep", type=click.Path(path_type=Path), help="New directory to keep everything in; see README.")
@click.option("--slurm", is_flag=True, help="Run the sites' jobs under the Slurm of this machine.")
@click.option("--partition", default="", help="With --slurm: where jobs run.  [default: Slurm's]")
@click.option("--account", default="", help="With --slurm: what pays for them.  [default: Slurm's]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; progress goes to standard error.")
def demo(
    num_sites: int,
    num_rounds: int,
    data: Path | None,
    seed: int,
    keep: Path | None,
    slurm: bool,
    partition: str,
    account: str,
    as_json: bool,
) -> None:
    """Train one small model at several sites of this machine that share no data, and prove what happened.

    A consortium root, a coordinator, site agents and their training jobs are processes of their own. Sites enrol and
    exchange over gRPC on loopback; the last one has no network at all, and a carrier copies its spool directory.
    Half-way the first site changes to the spool too.
    """
    settings = DemoSettings(
        num_sites=num_sites,
        num_rounds=num_rounds,
        data=data,
        seed=seed,
        slurm=slurm,
        partition=partition,
        account=account,
    )
    settings.check()
    # A demo that is told to end must end its processes too: leaving the `with` block below does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(stderr=as_json, highlight=False)
    with _directory(keep) as paths, Children(paths.logs, environment()) as children:
        result = _run(settings, paths, children, console)
        RealFileSystem(paths.base).write("result.json", json.dumps(result, indent=2).encode())
        if as_json:
            json.dump(result, sys.stdout, indent=2)
            sys.stdout.write("\n")
        else:
            print_result(result, console)
            if keep is None:
                console.print("Nothing was kept; `--keep DIR` keeps ledger, model and logs.")


def _run(settings: DemoSettings, paths: DemoPaths, children: Children, console: Console) -> dict[str, Any]:
    clock = _Clock()
    is_walled = not settings.slurm and network_namespace_prefix()
    guarded = "an empty network namespace" if is_walled else "a guard against sockets"
    languages = stages.give_data(settings, paths)
    console.print(f"Setting up {settings.num_sites} sites (the last in {guarded}), a coordinator, a consortium root …")
    demo = stages.Demo(settings=settings, paths=paths, children=children, languages=languages)
    stages.set_up(demo)
    parties = [couriers.start_coordinator(demo)]
    couriers.enrol(demo)
    clock.lap("set-up")
    parties += couriers.start_agents(demo)
    stages.start_run(demo)
    switch = couriers.MidRunSwitch(demo, console.print, parties)
    console.print(f"Training {settings.num_rounds} rounds; logs are in {paths.logs}")
    with View(settings, languages, console).showing() as view:
        for document in stages.watch(demo):
            view.update(document)
            switch.look(document)
    document = stages.final_document(demo)
    clock.lap("federation")
    stages.export(demo)
    children.stop(*reversed(parties))
    stages.clear_queue(demo)
    console.print("Training each site alone, and data parallel, for comparison …")
    for child in stages.start_baselines(demo, document).values():
        children.wait(child)
    clock.lap("baselines")
    console.print("Verifying: every round is computed again from the signed updates …")
    verdict = stages.verify(demo)
    clock.lap("verify")
    return result_document(demo, document, verdict, switch.couriers(), clock.laps)


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now


@contextmanager
def _directory(keep: Path | None) -> Iterator[DemoPaths]:
    """The demo's directory; a temporary one goes away when the demo succeeded, and stays for a look when it did not."""
    scratch = None if keep else Path(tempfile.gettempdir()) / f"federation-demo-{secrets.token_hex(4)}"
    yield stages.new_directory(keep, scratch or Path())
    if scratch is not None:
        RealFileSystem(scratch.parent).remove_tree(scratch.name)
