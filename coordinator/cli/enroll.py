# SPDX-License-Identifier: Apache-2.0
"""`coordinator operator enroll`: an operator's certificate and rosters, so that commands work from another machine."""

import json
import time
from pathlib import Path

import click

from coordinator.operator_client import load_operator_key
from federation.durable.real import RealFileSystem
from federation.invite import read_invite
from federation.roster import TrustedRosters
from federation.roster_document import Role
from federation.rpc import credentials
from federation.rpc.credentials import Certificates


@click.command("enroll")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--invite",
    "invite_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Invite file that another operator made; without one, certificate and rosters are asked for again.",
)
@click.option("--root", default="", help="Fingerprint of the consortium root, as you were told by another way.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([role.value for role in Role]),
    help="What this key may do; the roster decides.  [default: as in `operator init`]",
)
@click.option("--http-proxy", default="", metavar="http://HOST:PORT", help="HTTP CONNECT proxy to go out through.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def operator_enroll(
    directory: Path, invite_file: Path | None, root: str, roles: tuple[str, ...], http_proxy: str, as_json: bool
) -> None:
    """Redeems an invite for the operator of DIRECTORY; from then on commands go over the network."""
    from coordinator.rpc import operator_courier

    fs = RealFileSystem(directory)
    load_operator_key(fs)
    credentials.check_root(fs, root, needed=invite_file is not None)
    if invite_file is None:
        rosters = operator_courier.renew(fs)
    else:
        wanted = tuple(Role(role) for role in roles)
        rosters = operator_courier.enrol(fs, read_invite(invite_file), root, wanted, http_proxy)
    _say(fs, operator_courier.party_of(fs).id, rosters, as_json)


def _say(fs: RealFileSystem, operator: str, rosters: TrustedRosters, as_json: bool) -> None:
    days, roster = Certificates.read(fs).days_left(time.time()), rosters.current
    member = any(entry.operator == operator for entry in roster.operators)
    facts = {
        "operator": operator,
        "consortium": roster.consortium,
        "root": rosters.fingerprint,
        "roster_version": roster.version,
        "member": member,
        "certificate_days": days,
        "endpoint": credentials.read_text(fs, credentials.ENDPOINT),
    }
    lines = [
        f"Operator {operator} is enrolled with consortium {roster.consortium}, root {rosters.fingerprint}.",
        f"Certificate for {days:.1f} days. Roster version {roster.version}.",
    ]
    if not member:
        lines.append(
            "That roster does not name this operator yet: another operator fetches the request with `coordinator site "
            "requests`, the consortium root signs it, and the new roster is installed at the coordinator."
        )
    click.echo(json.dumps(facts, sort_keys=True) if as_json else "\n".join(lines))
