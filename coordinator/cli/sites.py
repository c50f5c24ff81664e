# SPDX-License-Identifier: Apache-2.0
"""`coordinator site …` and `coordinator status`: who takes part, invited, drained, revoked."""

import base64
import json
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from coordinator.cli.certify import certify
from coordinator.cli.confirm import confirm_option
from coordinator.cli.invites import site_invite
from coordinator.cli.runs import answer, connected, operator_options, order_if_confirmed, steering
from coordinator.operator_client import new_id
from federation.durable.real import RealFileSystem
from federation.durations import count, in_words
from federation.errors import ConfigError
from federation.ids import check_slug
from federation.messages import Command, CommandKind, Query, QueryKind

Document = dict[str, Any]


@click.group()
def site() -> None:
    """Sites: invite, list, certify, drain and resume, revoke."""


site.add_command(steering("drain", CommandKind.SITE_DRAIN, "drained", "Takes a site out of new rounds of all runs."))
site.add_command(steering("resume", CommandKind.SITE_RESUME, "resumed", "Lets a drained site be invited again."))
site.add_command(site_invite)
site.add_command(certify)


@site.command("list")
@operator_options
def list_sites(operator_dir: Path, coordinator_dir: Path | None, wait_seconds: float, as_json: bool) -> None:
    """Lists sites, invites that wait for a newcomer, and key requests that wait for the consortium root."""
    with connected(operator_dir, coordinator_dir) as client:
        document = client.query(Query(id=new_id(), kind=QueryKind.SITES), wait_seconds)
    now = time.time()
    document["invites"] = [invite for invite in document["invites"] if invite["expires_at_us"] / 1e6 > now]
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    console = Console()
    console.print(sites_table(document["sites"], now))
    for invite in document["invites"]:
        if not invite["member"]:
            left = in_words(invite["expires_at_us"] / 1e6 - now)
            console.print(f"invite: {invite['kind']} {invite['party']}, by {invite['operator']}, expires in {left}")
    for request in document["requests"]:
        console.print(f"request: {request['kind']} {request['id']} waits for the root: `coordinator site requests`")


@site.command("requests")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory to fill.")
@operator_options
def requests(out: Path, operator_dir: Path, coordinator_dir: Path | None, wait_seconds: float, as_json: bool) -> None:
    """Fetches key requests that newcomers left when they enrolled, for the consortium root to sign.

    A request proves only that its sender holds the keys; who sent it is for the root's holders to find out.
    """
    with connected(operator_dir, coordinator_dir) as client:
        found = client.query(Query(id=new_id(), kind=QueryKind.SITES), wait_seconds)["requests"]
    files = _write_requests(RealFileSystem(out), found)
    names = " ".join(str(out / name) for name in files)
    sentence = f"Wrote {names}. Next: federation consortium sign ROOT {names} --out roster" if files else "None waits."
    answer({"files": [str(out / name) for name in files]}, as_json, sentence)


def _write_requests(fs: RealFileSystem, found: Iterable[Document]) -> list[str]:
    """One file each; a file that is there with other content is never overwritten."""
    written: list[str] = []
    for entry in found:
        name = f"{check_slug(entry['id'], 'request')}.req"
        data = base64.b64decode(entry["request"], validate=True)
        if not fs.create(name, data) and fs.read(name) != data:
            raise ConfigError(
                f"--out: expected no other {name}, found one in {fs.root}", advice="Choose another directory."
            )
        written.append(name)
    return written


@site.command("revoke")
@click.argument("name", metavar="NAME")
@confirm_option
@click.option("--command-id", default=None, help="Id of the command, to repeat one safely.")
@operator_options
def revoke(
    name: str,
    typed: str | None,
    command_id: str | None,
    operator_dir: Path,
    coordinator_dir: Path | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Takes nothing more from a site, at once and until it has other keys. Shows what follows; wants its name."""
    query = Query(id=new_id(), kind=QueryKind.SITES, subject=name)
    wanted = Command(id=command_id or new_id(), kind=CommandKind.SITE_REVOKE, subject=name)
    document = order_if_confirmed(
        partial(connected, operator_dir, coordinator_dir), query, "consequences", wanted, typed, wait_seconds
    )
    answer(document, as_json, f"{name}: revoked.")


@click.command()
@operator_options
def status(operator_dir: Path, coordinator_dir: Path | None, wait_seconds: float, as_json: bool) -> None:
    """Shows the coordinator at a glance: roster, ledger, runs, sites, and what somebody has to see to."""
    with connected(operator_dir, coordinator_dir) as client:
        document = client.query(Query(id=new_id(), kind=QueryKind.STATUS), wait_seconds)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        print_status(document, time.time())


def print_status(document: Document, now: float) -> None:
    """The status document for a terminal."""
    roster, ledger, network = document["roster"], document["ledger"], document["network"]
    seconds = roster["expires_at_us"] / 1e6 - now
    left = f"{in_words(seconds)} left" if seconds > 0 else "expired"
    console = Console()
    console.print(f"consortium {document['consortium']}, roster version {roster['version']}, {left}")
    console.print(f"ledger: {count(ledger['size'], 'leaf', 'leaves')}, root {ledger['root'][:16]}")
    address = network.get("address") or network.get("listen")
    if address:
        console.print(f"network: {address}")
    console.print(f"compiler: {document['compiler'] or 'none'}")
    for run in document["runs"]:
        console.print(f"run {run['run']}: {run['state']}, {run['commits']}/{count(run['rounds'], 'commit')}")
    console.print(sites_table(document["sites"], now))
    if any("round_trip" in entry for entry in document["sites"]):  # an older coordinator says nothing of it
        console.print(round_trips_table(document["sites"]))
    for problem in document["problems"]:
        console.print(problem, style="red")


def sites_table(sites: Iterable[Document], now: float) -> Table:
    """One line a site."""
    table = Table(box=None)
    for heading in ("site", "state", "last seen", "allocations", "waited for in"):
        table.add_column(heading)
    for entry in sites:
        allocations = ", ".join(f"{run} {state}" for run, state in entry["allocations"].items())
        rounds = ", ".join(f"{found['run']}/{found['round']}" for found in entry["waited_for"])
        table.add_row(entry["site"], entry["state"], _ago(entry["last_seen"], now), allocations, rounds)
    return table


def round_trips_table(sites: Iterable[Document]) -> Table:
    """How long messages and answers travel: as measured, as declared, as allowed for by the runs that are not over."""
    table = Table(box=None)
    for heading in ("courier's round trip", "measured", "declared", "in the manifest"):
        table.add_column(heading)
    for entry in sites:
        found = entry.get("round_trip") or {}
        measured, declared = found.get("measured_seconds"), found.get("declared_seconds")
        added = ", ".join(f"{run} {seconds} s" for run, seconds in found.get("added_seconds", {}).items())
        table.add_row(entry["site"], _seconds(measured, "not yet"), _seconds(declared, "no"), added or "in no run")
    return table


def _seconds(seconds: int | None, otherwise: str) -> str:
    return f"{seconds} s" if seconds else otherwise


def _ago(seen: float | None, now: float) -> str:
    return "never" if seen is None else f"{max(0.0, now - seen):.0f} s ago"
