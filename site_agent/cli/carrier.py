# SPDX-License-Identifier: Apache-2.0
"""`site-agent carrier`: carries mailboxes between directories, here or over ssh. It needs no key of ours, no trust."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from federation import log
from federation.durations import count
from federation.errors import ConfigError
from federation.ids import check_slug
from federation.stopping import StopOnSignals
from site_agent.carrier.login_rest import LoginRest, credential_of
from site_agent.carrier.over_ssh import RemoteMailboxes
from site_agent.carrier.process import Programs
from site_agent.carrier.remote import RemoteAddress, Transport
from site_agent.carrier.routes import AnyRoute, RemoteRoute, Route, require_coordinator
from site_agent.carrier.rsync import RsyncTransport
from site_agent.carrier.sftp import SftpTransport
from site_agent.carrier.ssh import SshSession, SshSettings
from site_agent.cli.setup import AS_JSON, EXISTING_DIRECTORY, echo, require_site
from site_agent.site_config import load_site_config

__all__ = ["Route", "carrier"]

LOCAL_POLL_SECONDS = 0.2
REMOTE_POLL_SECONDS = 30.0
_TRANSPORTS: dict[str, type[RsyncTransport] | type[SftpTransport]] = {"rsync": RsyncTransport, "sftp": SftpTransport}


@dataclass(frozen=True, kw_only=True)
class _Remote:
    """The options of the form over ssh; `address` "" for the local form."""

    address: str
    site: str
    via: str
    identity: Path | None
    options: tuple[str, ...]
    bandwidth: int


@click.command()
@click.argument(
    "directories", type=EXISTING_DIRECTORY, nargs=-1, required=True, metavar="[SITE_DIR...] COORDINATOR_DIR"
)
@click.option(
    "--remote", default="", metavar="[USER@]HOST[:PORT]:PATH", help="The site's directory on another machine."
)
@click.option("--site", default="", metavar="ID", help="With --remote: the site's id in the roster.")
@click.option(
    "--via", type=click.Choice(list(_TRANSPORTS)), default="rsync", show_default=True, help="With --remote: by what."
)
@click.option(
    "--identity",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="With --remote: the private key file; its certificate lies beside it.",
)
@click.option("--ssh-option", "options", multiple=True, metavar="WORD=VALUE", help="With --remote: of ssh_config(5).")
@click.option(
    "--bandwidth-limit",
    "bandwidth",
    type=click.IntRange(min=0),
    default=0,
    metavar="BYTES",
    help="With --remote: bytes per second; 0 for none.",
)
@click.option("--once", is_flag=True, help="Carry what is there, then end.")
@click.option(
    "--poll-seconds",
    type=click.FloatRange(min=0.01),
    default=None,
    help="Between two looks when there is nothing.  [default: 0.2; with --remote 30]",
)
@AS_JSON
def carrier(
    directories: tuple[Path, ...],
    remote: str,
    site: str,
    via: str,
    identity: Path | None,
    options: tuple[str, ...],
    bandwidth: int,
    once: bool,
    poll_seconds: float | None,
    as_json: bool,
) -> None:
    """Carries messages and blobs both ways between sites and a coordinator.

    With --remote, between this machine and one site's directory on another, over ssh, from outside the site: the other
    side needs rsync, or an sftp subsystem, and no more. Nothing is ever asked for: a login that a human must renew is
    said in the log, and is the exit code 77 with --once, which is not tried again at each call.
    """
    *sites, coordinator = directories
    asked = _Remote(address=remote, site=site, via=via, identity=identity, options=options, bandwidth=bandwidth)
    poll = poll_seconds or (REMOTE_POLL_SECONDS if remote else LOCAL_POLL_SECONDS)
    with ExitStack() as stack:
        stop = None if once else StopOnSignals()
        is_stopping = (lambda: stop.requested) if stop is not None else (lambda: False)
        routes: Sequence[AnyRoute]
        if remote:
            routes = [_remote_route(asked, sites, coordinator, poll, is_stopping, stack)]
        else:
            routes = _local_routes(asked, sites, coordinator)
        if stop is None:
            brought = sum(route.carry_once() for route in routes)
            echo({"files": brought}, f"Carried {count(brought, 'file')}.", as_json)
            return
        log.configure()
        _go_on(routes, stop, poll)


def _go_on(routes: Sequence[AnyRoute], stop: StopOnSignals, poll_seconds: float) -> None:
    while not stop.requested:
        if not sum(route.carry_or_log() for route in routes):
            stop.rest(max(poll_seconds, *(route.wait_seconds for route in routes)))


def _local_routes(asked: _Remote, sites: Sequence[Path], coordinator: Path) -> list[AnyRoute]:
    if asked.site or asked.identity or asked.options or asked.bandwidth:
        raise ConfigError("carrier: expected --site, --identity, --ssh-option and --bandwidth-limit with --remote only")
    if not sites:
        raise ConfigError(
            "carrier: expected at least one site's directory and the coordinator's, found one directory",
            advice="Run `site-agent carrier SITE_DIR COORDINATOR_DIR`.",
        )
    for path in sites:
        require_site(path)
    routes: list[AnyRoute] = [Route(path, load_site_config(path).site, coordinator) for path in sites]
    require_coordinator(coordinator)
    return routes


def _remote_route(
    asked: _Remote,
    sites: Sequence[Path],
    coordinator: Path,
    poll_seconds: float,
    is_stopping: Callable[[], bool],
    stack: ExitStack,
) -> RemoteRoute:
    if sites or not asked.site:
        raise ConfigError(
            "carrier: expected --remote with --site and one directory, the coordinator's",
            advice="Run `site-agent carrier --remote USER@HOST:/path/to/site --site ID COORDINATOR_DIR`.",
        )
    site, address = check_slug(asked.site, "--site"), RemoteAddress.parse(asked.address)
    require_coordinator(coordinator)
    # Outside the coordinator's directory: the path of a socket may have about 90 characters.
    private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carrier-")))
    programs = Programs(private, is_stopping)
    settings = SshSettings(
        address=address,
        identity=str(asked.identity.absolute()) if asked.identity else "",
        options=asked.options,
        persist_seconds=max(120, round(3 * poll_seconds)),
    )
    session = SshSession(settings, programs, private)
    transport: Transport = _TRANSPORTS[asked.via](address, session, programs, asked.bandwidth)
    mailboxes = RemoteMailboxes(session, transport, coordinator, site)
    stack.callback(session.close)
    rest = LoginRest(coordinator, site, credential_of(asked.address, settings.identity, asked.options), time.time)
    return RemoteRoute(site, coordinator, mailboxes, rest)
