# SPDX-License-Identifier: Apache-2.0
"""`coordinator dashboard …`: serves the dashboard, and makes links to it."""

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.dashboard.links import ADDRESS, DEFAULT_SECONDS, MAX_SECONDS, Grant, make_token, may_give
from coordinator.dashboard.settings import is_address
from coordinator.home import check_coordinator_directory
from coordinator.network_config import load_coordinator_config
from coordinator.operator_client import OPERATOR_ID, beside, goes_over_network, known_roster, load_operator_key
from federation.durable.real import RealFileSystem
from federation.durations import in_words
from federation.errors import ConfigError, ObjectNotFoundError
from federation.log import configure, open_security_log
from federation.roster_document import Role

if TYPE_CHECKING:
    from coordinator.dashboard.server import DashboardServer

DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
LISTEN = "127.0.0.1:8444"


@click.group()
def dashboard() -> None:
    """The consortium's view of its runs: read-only, in a browser."""


@dashboard.command("serve")
@click.argument("directory", type=DIRECTORY)
@click.option(
    "--listen", default=None, metavar="ADDRESS:PORT", help=f"[default: as coordinator.toml says, else {LISTEN}]"
)
@click.option("--verbose", is_flag=True, help="Log more.")
@click.option("--parent", type=int, default=0, hidden=True, help="Ends when that process is no more its parent.")
def serve(directory: Path, listen: str | None, verbose: bool, parent: int) -> None:
    """Serves the dashboard of the coordinator's DIRECTORY, which it only reads; `coordinator serve` need not run."""
    server_class = _server_class()
    fs = RealFileSystem(directory)
    check_coordinator_directory(fs)
    configure("DEBUG" if verbose else "INFO")
    open_security_log(directory / "dashboard" / "security.log")
    config = load_coordinator_config(directory)
    section = config.dashboard
    if listen is not None or not section.listen:
        section = section.with_listen(listen or LISTEN)
    server = server_class(fs=fs, config=config, section=section)
    click.echo(f"dashboard of {server.follower.view.consortium}: {server.url}")
    if other := server.other():
        click.echo(f"another dashboard of this directory answers at {other}; new links lead to this one")
    if server.fingerprint:
        click.echo(f"its own certificate, SHA-256: {server.fingerprint}")
    server.run(parent)


def _server_class() -> "type[DashboardServer]":
    """The web server: no other command waits for its import, and not everybody has installed it."""
    try:
        from coordinator.dashboard.server import DashboardServer
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the dashboard needs the package {error.name}, which is not installed here",
            advice="Install it: pip install 'hpc-federation[dashboard]'",
        ) from error
    return DashboardServer


@dashboard.command("link")
@click.option("--as", "operator_dir", type=DIRECTORY, required=True, help="Directory of the operator who signs.")
@click.option("--url", default=None, help="Address of the dashboard.  [default: as coordinator.toml says]")
@click.option("--role", type=click.Choice(["viewer", "auditor"]), default="viewer", show_default=True)
@click.option("--minutes", default=DEFAULT_SECONDS // 60, show_default=True, help="Then it is void.")
@click.option(
    "--coordinator",
    "coordinator_dir",
    type=DIRECTORY,
    envvar="FEDERATION_COORDINATOR",
    help="Coordinator's directory; the one beside the operator's if not given.",
)
def link(operator_dir: Path, url: str | None, role: str, minutes: int, coordinator_dir: Path | None) -> None:
    """Prints a link that lets one person in, once. It is a secret; nobody else has to be asked to make one."""
    if not 1 <= minutes <= MAX_SECONDS // 60:
        raise ConfigError(f"--minutes: expected 1 to {MAX_SECONDS // 60}, found {minutes}")
    fs = RealFileSystem(operator_dir)
    key = load_operator_key(fs)
    roster = known_roster(operator_dir, coordinator_dir)
    operator = fs.read(OPERATOR_ID).decode().strip()
    entry = next((e for e in roster.operators if e.operator == operator), None)
    if entry is None or not may_give(entry, Role(role)):
        raise ConfigError(
            f"{operator} may not give the role {role}: roster version {roster.version} says otherwise",
            advice="An auditor's key opens an auditor's pages; anybody in the roster may let others view.",
        )
    grant = Grant(
        consortium=roster.consortium,
        operator=operator,
        role=Role(role),
        expires_at_us=int((time.time() + 60 * minutes) * 1e6),
        nonce=secrets.token_hex(16),
    )
    if url is not None and not is_address(url):
        raise ConfigError(f"--url: expected an address as https://HOST:8444, without a path, found {url!r:.80}")
    address = url or _url_of(operator_dir, coordinator_dir)
    click.echo(f"{address.rstrip('/')}/enter#{make_token(grant, key)}")
    click.echo(f"Good for one person within {in_words(60 * minutes)}, as {role}.", err=True)


def _url_of(operator_dir: Path, coordinator_dir: Path | None) -> str:
    """As the running dashboard of a coordinator's directory on this machine says."""
    if coordinator_dir is None and goes_over_network(operator_dir, None):
        raise ConfigError("--url: expected the address of the dashboard", advice="For example https://HOST:8444")
    fs = RealFileSystem(coordinator_dir or beside(operator_dir))
    try:
        return fs.read(ADDRESS).decode().strip()
    except ObjectNotFoundError:
        raise ConfigError(
            "no dashboard runs there, so its address is not known",
            advice="Start it with `coordinator dashboard serve`, or give --url.",
        ) from None
