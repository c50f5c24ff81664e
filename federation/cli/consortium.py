# SPDX-License-Identifier: Apache-2.0
"""`federation consortium`: make a root, sign rosters with it, look at them."""

import json
import time
from pathlib import Path
from typing import Any

import click

from federation import dsse
from federation.consortium import SignedRoster, init_root, load_root, load_root_rosters, sign_roster
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, LimitExceededError, ProtocolError
from federation.key_requests import open_request
from federation.limits import DEFAULT_LIMITS
from federation.roster import peek_roster, root_fingerprint, root_publics
from federation.roster_changes import day
from federation.roster_document import Roster

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def consortium() -> None:
    """The consortium's root: who belongs to it is what its keys have signed."""


@consortium.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--consortium", "name", metavar="ID", help="Id of the consortium.  [default: ROOT's name]")
@click.option("--signers", default=1, show_default=True, help="How many signing keys to make.")
@click.option("--threshold", default=1, show_default=True, help="How many of them must sign a roster.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(root: Path, name: str | None, signers: int, threshold: int, as_json: bool) -> None:
    """Make a new root directory ROOT with fresh keys, and print its fingerprint.

    Give the fingerprint to sites and auditors over a channel that the coordinator cannot touch. Afterwards hand each
    signer a copy of ROOT with only their key under signers/, and keep ROOT off the coordinator's machine.
    """
    made = init_root(root, root.absolute().name if name is None else name, signers=signers, threshold=threshold)
    facts = {"consortium": made.consortium, "threshold": threshold, "signers": signers, "root": made.fingerprint}
    lines = [
        f"consortium {made.consortium}: {threshold} of {signers} keys in {root}",
        f"root fingerprint: {made.fingerprint}",
    ]
    _print(facts, lines, as_json)


@consortium.command()
@click.argument("root", type=_DIRECTORY)
@click.argument("inputs", type=_FILE, nargs=-1)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="roster", show_default=True)
@click.option("--signer", default=0, help="Whose key to use, from 1.  [default: the first that has not signed]")
@click.option("--valid-days", default=365, show_default=True, help="Days until the roster expires.")
@click.option("--remove", "removals", multiple=True, metavar="KIND:ID", help="site:ID or operator:ID; repeatable.")
@click.option("--restart", is_flag=True, help="Forget an unfinished roster and begin another one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sign(
    root: Path,
    inputs: tuple[Path, ...],
    out: Path,
    signer: int,
    valid_days: int,
    removals: tuple[str, ...],
    restart: bool,
    as_json: bool,
) -> None:
    """Sign the next roster with ROOT's key.

    INPUTS are requests (*.req), which are merged into the next version, or one unfinished roster, which gets one more
    signature. Without any, the same members get a new expiry. Check with each requester, over another channel, that
    the request is theirs.
    """
    signed = sign_roster(
        root,
        [_read(path) for path in inputs],
        now=time.time(),
        signer=signer,
        valid_days=valid_days,
        removals=removals,
        restart=restart,
    )
    RealFileSystem(out.absolute().parent).write(out.name, signed.document)
    facts = {
        "version": signed.roster.version,
        "complete": signed.complete,
        "missing": signed.missing,
        "signers": signed.signers,
        "changes": signed.changes,
        "root": root_fingerprint(signed.roster),
        "out": str(out),
    }
    _print(facts, _signed_lines(signed, root, out), as_json)


@consortium.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(path: Path, as_json: bool) -> None:
    """Show a root directory, a roster or a request. Nothing is trusted by being shown."""
    if path.is_dir():
        facts = _root_facts(path)
    else:
        data = _read(path)
        facts = _request_facts(data) if dsse.peek_type(data) == dsse.REQUEST_TYPE else _roster_facts(data)
    _print(facts, [f"{key}: {_text(value)}" for key, value in facts.items()], as_json)


def _signed_lines(signed: SignedRoster, root: Path, out: Path) -> list[str]:
    version, done = signed.roster.version, len(signed.signers)
    needed = done + signed.missing
    lines = [f"  {change}" for change in signed.changes]
    if signed.complete:
        return [*lines, f"roster version {version}: complete with {done} signatures, written to {out}"]
    return [
        *lines,
        f"roster version {version}: {done} of {needed} signatures, {signed.missing} missing, written to {out}",
        f"next: federation consortium sign {root} {out} --out {out} --signer N",
    ]


def _root_facts(path: Path) -> dict[str, Any]:
    root = load_root(path)
    rosters = load_root_rosters(path, time.time())
    facts: dict[str, Any] = {
        "consortium": root.consortium,
        "root": root.fingerprint,
        "threshold": root.threshold,
        "signers": len(root.publics),
    }
    return facts | (_members(rosters.current) if rosters else {"version": 0})


def _roster_facts(data: bytes) -> dict[str, Any]:
    roster = peek_roster(data)
    signed = len(dsse.signers(data, root_publics(roster)))
    return {
        "consortium": roster.consortium,
        "root": root_fingerprint(roster),
        "threshold": roster.threshold,
        "signers": len(roster.root_keys),
        "signatures": signed,
        "complete": signed >= roster.threshold,
    } | _members(roster)


def _members(roster: Roster) -> dict[str, Any]:
    return {
        "version": roster.version,
        "expires": day(roster.expires_at_us),
        "coordinator": roster.coordinator.ledger_origin if roster.coordinator else "",
        "sites": [entry.site for entry in roster.sites],
        "operators": [f"{entry.operator} ({', '.join(entry.roles)})" for entry in roster.operators],
    }


def _request_facts(data: bytes) -> dict[str, Any]:
    request = open_request(data)
    return {
        "request": str(request.kind),
        "id": request.id,
        "roles": [str(role) for role in request.roles],
        "keys": [f"{key.use} {key.public.hex()}" for key in request.keys],
    }


def _read(path: Path) -> bytes:
    limit = DEFAULT_LIMITS.max_envelope_bytes
    with path.open("rb") as file:
        data = file.read(limit + 1)
    try:
        dsse.peek_type(data)
    except (ProtocolError, LimitExceededError) as error:
        raise ConfigError(f"{path}: expected a request or a roster, found: {error}") from error
    return data


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _print(facts: dict[str, Any], lines: list[str], as_json: bool) -> None:
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(lines))
