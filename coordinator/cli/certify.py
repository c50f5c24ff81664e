# SPDX-License-Identifier: Apache-2.0
"""`coordinator site certify`: enrolment without a network, on the coordinator's own machine."""

import json
import time
from pathlib import Path

import click

from coordinator.home import LEDGER, load_issuers, load_rosters
from coordinator.network_config import check_dialable, load_coordinator_config
from coordinator.rpc.enrolment import MAX_REQUEST_BYTES, EnrolmentDesk
from coordinator.rpc.membership import Membership
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, ObjectNotFoundError
from federation.invite import Enrolled
from federation.ledger.log import Ledger
from federation.roster import TrustedRosters
from federation.rounds import Federation, fold
from federation.rpc.enrolment import enrolled_to_bytes


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("request", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The reply to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def certify(directory: Path, request: Path, out: Path, as_json: bool) -> None:
    """Answers a key REQUEST that was brought by hand, with the issuers in the coordinator's DIRECTORY.

    The roster must name the asker with the keys of the request: have the consortium root sign it first. The reply holds
    no secret: bring it back, and `site-agent enroll SITE_DIR --reply FILE` takes it up. A running coordinator need not
    be stopped.
    """
    if out.exists():
        raise ConfigError(f"--out: expected a new file, found {out}", advice="Choose another name for it.")
    data = RealFileSystem(request.resolve().parent).read(request.name, max_bytes=MAX_REQUEST_BYTES)
    enrolled = _certified(directory, data, time.time())
    RealFileSystem(out.resolve().parent).write(out.name, enrolled_to_bytes(enrolled))
    document = {"reply": str(out), "consortium": enrolled.consortium, "member": enrolled.member}
    click.echo(json.dumps(document, indent=2) if as_json else f"Wrote {out}: certificates and all rosters.")


def _certified(directory: Path, request: bytes, now: float) -> Enrolled:
    fs = RealFileSystem(directory)
    issuers = load_issuers(fs)
    if issuers is None:
        raise ConfigError(
            f"{directory}: has no TLS issuer, so it cannot certify",
            advice="`coordinator init` of this release makes one; have its request signed into the next roster.",
        )
    membership = _membership(fs, load_rosters(fs, int(now * 1e6)))
    return EnrolmentDesk(fs, issuers, membership.consortium, _endpoint(directory)).certify(request, membership, now)


def _endpoint(directory: Path) -> str:
    """What the reply names as the coordinator's address: none rather than one that cannot be dialled."""
    endpoint = load_coordinator_config(directory).network.invited_to
    try:
        check_dialable(endpoint)
    except ConfigError:
        return ""
    return endpoint


def _membership(fs: RealFileSystem, rosters: TrustedRosters) -> Membership:
    """As the serving coordinator has it: from the roster files, and from the ledger, read without its key."""
    state = _state(fs, rosters)
    return Membership(
        consortium=rosters.current.consortium,
        roster=rosters.current,
        rosters=tuple(rosters.document(version) for version in rosters.versions),
        revoked=state.revoked,
        invites=state.invites,
        ledger_size=state.size,
    )


def _state(fs: RealFileSystem, rosters: TrustedRosters) -> Federation:
    entry = rosters.current.coordinator
    if entry is None:
        raise ConfigError("the roster names no coordinator")
    try:
        ledger = Ledger.open(fs, LEDGER, entry.ledger_origin, None, entry.ledger_public)
    except ObjectNotFoundError:  # not served yet
        return Federation()
    return fold(ledger.leaves())
