# SPDX-License-Identifier: Apache-2.0
"""`coordinator init`, `operator init`, `roster install`: making directories and pinning trust."""

import time
from pathlib import Path
from typing import Final

import click

from coordinator.home import COORDINATOR_KEY, ROOT_FILE, ROSTERS, check_coordinator_directory, roster_path
from coordinator.identities import make_coordinator, make_operator
from coordinator.network_config import NETWORK_FILE
from coordinator.operator_client import OPERATOR_KEY
from federation.cli.lazy import LazyGroup
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, ObjectNotFoundError
from federation.ids import check_slug, slug_from
from federation.roster import TrustedRosters, peek_roster, root_fingerprint
from federation.roster_document import Role

DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--request", type=FILE, required=True, help="Where to write the request that the consortium root signs.")
@click.option("--listen", default="", metavar="ADDRESS:PORT", help="Where to serve the network.  [default: nowhere]")
@click.option(
    "--endpoint", default="", metavar="HOST:PORT", help="What invites name as its address.  [default: as --listen]"
)
def init(directory: Path, request: Path, listen: str, endpoint: str) -> None:
    """Makes a coordinator's keys and coordinator.toml in DIRECTORY and a request for the consortium root."""
    _refuse_existing(request)
    fs = _new(directory, COORDINATOR_KEY)
    if fs.exists(NETWORK_FILE):
        raise ConfigError(f"{directory}: expected no {NETWORK_FILE}, found one")
    _write_request(request, make_coordinator(fs, time.time(), listen=listen, endpoint=endpoint))
    click.echo(f"Made {directory} and {request}. Next: federation consortium sign ROOT {request.name} ... --out roster")


OPERATOR_COMMANDS: Final = {
    "invite": "coordinator.cli.invites:operator_invite",
    "enroll": "coordinator.cli.enroll:operator_enroll",
}


@click.group(cls=LazyGroup, lazy=OPERATOR_COMMANDS)
def operator() -> None:
    """Operators: people who steer runs with their own keys."""


@operator.command("init")
@click.argument("directory", type=DIRECTORY)
@click.option("--request", type=FILE, required=True, help="Where to write the request that the consortium root signs.")
@click.option("--id", "operator_id", default=None, help="Operator's id; the directory's name if it is not given.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([role.value for role in Role]),
    default=("operator",),
    show_default=True,
    help="What this key may do.",
)
def operator_init(directory: Path, request: Path, operator_id: str | None, roles: tuple[str, ...]) -> None:
    """Makes an operator's keys in DIRECTORY and a request for the consortium root."""
    name = check_slug(operator_id or slug_from(directory.resolve().name), "operator id")
    _refuse_existing(request)
    fs = _new(directory, OPERATOR_KEY)
    _write_request(request, make_operator(fs, name, tuple(Role(role) for role in roles)))
    click.echo(
        f"Made operator {name} in {directory} and {request}. Next: have the consortium root sign {request.name}."
    )


@click.group()
def roster() -> None:
    """Root-signed rosters: who belongs to the consortium."""


@roster.command("install")
@click.argument("directory", type=DIRECTORY)
@click.argument("document", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--root", default=None, help="Fingerprint of the consortium root; the first roster pins its own if not given."
)
def roster_install(directory: Path, document: Path, root: str | None) -> None:
    """Installs a roster version; a running coordinator takes it up by itself."""
    fs = RealFileSystem(directory)
    check_coordinator_directory(fs)
    data, now_us = document.read_bytes(), time.time_ns() // 1000
    pinned = _pinned(fs) or root or root_fingerprint(peek_roster(data))
    if root is not None and root != pinned:
        raise ConfigError(f"consortium root: expected {pinned}, as pinned here, found {root}")
    rosters = TrustedRosters.load([*(fs.read(f"{ROSTERS}/{n}") for n in fs.list(ROSTERS)), data], pinned, now_us)
    fs.write(roster_path(rosters.current.version), data)
    fs.write(ROOT_FILE, pinned.encode())
    click.echo(f"Roster version {rosters.current.version} is installed; consortium root {pinned}.")


def _new(directory: Path, key: str) -> RealFileSystem:
    fs = RealFileSystem(directory)
    if fs.exists(key):
        raise ConfigError(
            f"{directory}: has keys already", advice="Choose another directory; keys are never overwritten."
        )
    return fs


def _pinned(fs: RealFileSystem) -> str:
    try:
        return fs.read(ROOT_FILE).decode().strip()
    except ObjectNotFoundError:
        return ""


def _refuse_existing(request: Path) -> None:
    """A request that waits for its signature must not be lost, nor be taken for another party's."""
    if request.exists():
        raise ConfigError(f"--request: expected a new file, found {request}", advice="Choose another name for it.")


def _write_request(path: Path, data: bytes) -> None:
    RealFileSystem(path.resolve().parent).write(path.name, data)
