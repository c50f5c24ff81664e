# SPDX-License-Identifier: Apache-2.0
"""`site-agent enroll`: a channel certificate and all rosters, by invite, as a renewal, or through files."""

import time
from pathlib import Path

import click

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, RevokedError, UsageError
from federation.invite import read_invite
from federation.roster import TrustedRosters
from federation.rpc import credentials
from federation.rpc.credentials import Certificates
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.identity import LISTING_ADVICE, Listing, listing, load_identity, request_of
from site_agent.site_config import SiteConfig, load_site_config

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
MAX_REPLY_BYTES = 16 * 1024 * 1024


@click.command()
@click.argument("site_dir", type=SITE_DIR)
@click.option("--invite", "invite_file", type=FILE, default=None, help="Invite file that an operator sent you.")
@click.option("--root", default="", help="Fingerprint of the consortium root, as you were told by another way.")
@click.option(
    "--request",
    "request_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Without a network: write the request to this file.",
)
@click.option("--reply", "reply_file", type=FILE, default=None, help="Without a network: the answer that came back.")
@AS_JSON
def enroll(
    site_dir: Path,
    invite_file: Path | None,
    root: str,
    request_file: Path | None,
    reply_file: Path | None,
    as_json: bool,
) -> None:
    """Asks for this site's channel certificate and the rosters; with neither file, asks again (a renewal).

    Keys stay here. A wrong fingerprint, and everything else that does not fit, is refused, and nothing of it is kept.
    """
    if sum(given is not None for given in (invite_file, request_file, reply_file)) > 1:
        raise UsageError("enroll: expected one of --invite, --request, --reply, found several")
    fs, config = RealFileSystem(site_dir), load_site_config(site_dir)
    load_identity(fs, config.site)
    if request_file is not None:
        _write_request(fs, config, request_file, as_json)
        return
    credentials.check_root(fs, root, needed=invite_file is not None or reply_file is not None)
    try:
        rosters = _ask(fs, config, invite_file, reply_file, root)
    except RevokedError as error:
        raise RevokedError(str(error), advice=_new_keys(config.site)) from error
    _say(fs, config, rosters, site_dir, as_json)


def _ask(
    fs: RealFileSystem, config: SiteConfig, invite_file: Path | None, reply_file: Path | None, root: str
) -> TrustedRosters:
    from site_agent.courier import grpc

    if invite_file is not None:
        return grpc.enrol(fs, config, read_invite(invite_file), root)
    if reply_file is not None:
        return grpc.take_reply(fs, config, _read(reply_file), root)
    return grpc.renew(fs, config)


def _new_keys(site: str) -> str:
    return (
        f"Its keys are of no more use. Make a directory with new ones (`site-agent init NEW_DIR --site {site} "
        f"--request {site}.req`), ask an operator for an invite, have the consortium root sign the new request, "
        "then run `site-agent enroll NEW_DIR --invite FILE --root FINGERPRINT`."
    )


def _read(path: Path) -> bytes:
    return RealFileSystem(path.resolve().parent).read(path.name, max_bytes=MAX_REPLY_BYTES)


def _write_request(fs: RealFileSystem, config: SiteConfig, path: Path, as_json: bool) -> None:
    if path.exists():
        raise ConfigError(f"--request: expected a new file, found {path}", advice="Choose another name for it.")
    RealFileSystem(path.resolve().parent).write(path.name, request_of(fs, config.site))
    text = f"Wrote {path}. Next, at the coordinator: coordinator site certify DIR {path.name} --out {config.site}.reply"
    echo({"site": config.site, "request": str(path)}, text, as_json)


def _say(fs: RealFileSystem, config: SiteConfig, rosters: TrustedRosters, site_dir: Path, as_json: bool) -> None:
    days, endpoint = Certificates.read(fs).days_left(time.time()), credentials.read_text(fs, credentials.ENDPOINT)
    found = listing(fs, config.site, rosters.current)
    facts = {
        "site": config.site,
        "consortium": rosters.current.consortium,
        "root": rosters.fingerprint,
        "roster_version": rosters.current.version,
        "member": found is Listing.MEMBER,
        "certificate_days": days,
        "endpoint": endpoint,
    }
    lines = [
        f"Site {config.site} is enrolled with consortium {rosters.current.consortium}, root {rosters.fingerprint}.",
        f"Certificate for {days:.1f} days; it is renewed by itself. Roster version {rosters.current.version}.",
    ]
    if found is not Listing.MEMBER:
        lines.append(LISTING_ADVICE[found])
    lines.append(f"Next: site-agent courier set {site_dir} grpc" + ("" if endpoint else " --endpoint HOST:PORT"))
    echo(facts, "\n".join(lines), as_json)
