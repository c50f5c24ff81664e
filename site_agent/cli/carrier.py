# SPDX-License-Identifier: Apache-2.0
"""`site-agent carrier`: carries mailboxes between directories of one machine. It needs no key and no trust."""

import logging
from pathlib import Path
from typing import Final

import click

from federation import log
from federation.durable.real import RealFileSystem
from federation.durations import count
from federation.errors import ConfigError, FederationError
from federation.log import in_one_line
from federation.mailbox.carrier import carry_both
from federation.stopping import StopOnSignals
from site_agent import layout
from site_agent.cli.setup import AS_JSON, EXISTING_DIRECTORY, echo, require_site
from site_agent.site_config import SITE_FILE, load_site_config

LOG: Final = logging.getLogger("site_agent")

_COORDINATORS: Final = ("keys/coordinator.pem", "ledger")
"""The second one is for a carrier that may not look into keys/."""

_OTHERS: Final = {SITE_FILE: "a site's", "keys/operator.pem": "an operator's"}


@click.command()
@click.argument("directories", type=EXISTING_DIRECTORY, nargs=-1, required=True, metavar="SITE_DIR... COORDINATOR_DIR")
@click.option("--once", is_flag=True, help="Carry what is there, then end.")
@click.option("--poll-seconds", default=0.2, show_default=True, help="Between two looks when there is nothing.")
@AS_JSON
def carrier(directories: tuple[Path, ...], once: bool, poll_seconds: float, as_json: bool) -> None:
    """Carries messages and blobs both ways between sites and a coordinator on this machine."""
    *sites, coordinator = directories
    if not sites:
        raise ConfigError(
            "carrier: expected at least one site's directory and the coordinator's, found one directory",
            advice="Run `site-agent carrier SITE_DIR COORDINATOR_DIR`.",
        )
    for path in sites:
        require_site(path)
    routes = [Route(path, load_site_config(path).site, coordinator) for path in sites]
    _require_coordinator(coordinator)
    if once:
        brought = sum(route.carry() for route in routes)
        echo({"files": brought}, f"Carried {count(brought, 'file')}.", as_json)
        return
    log.configure()
    stop = StopOnSignals()
    while not stop.requested:
        if not sum(route.carry_or_log() for route in routes):
            stop.rest(poll_seconds)


class Route:
    """Between one site's directory and the coordinator's."""

    def __init__(self, site_dir: Path, site: str, coordinator: Path) -> None:
        self._site_dir, self._site, self._coordinator = site_dir, site, coordinator
        self._has_brought, self._complaint = False, ""

    def carry(self) -> int:
        """Both ways; how many files were brought. Raises StorageError."""
        here, there = RealFileSystem(self._site_dir), RealFileSystem(self._coordinator)
        return carry_both(here, layout.MAILBOX, there, f"mailbox/{self._site}")

    def carry_or_log(self) -> int:
        """As `carry`; a failure counts as nothing brought, and is logged once."""
        try:
            _require_coordinator(self._coordinator)
            brought = self.carry()
        except FederationError as error:
            if str(error) != self._complaint:
                LOG.warning("site %s: nothing could be carried, it is tried again: %s", self._site, in_one_line(error))
            self._complaint = str(error)
            return 0
        if brought and (not self._has_brought or self._complaint):
            LOG.info("site %s: carried %s; this goes on", self._site, count(brought, "file"))
            self._has_brought, self._complaint = True, ""
        return brought


def _require_coordinator(directory: Path) -> None:
    """Raises ConfigError if it is somebody else's: nothing would ever look at a mailbox there."""
    fs = RealFileSystem(directory)
    if any(fs.exists(name) for name in _COORDINATORS):
        return
    found = next((words for name, words in _OTHERS.items() if fs.exists(name)), "another one")
    raise ConfigError(
        f"{fs.root}: expected the coordinator's directory, found {found}",
        advice="Name it last: site-agent carrier SITE_DIR... COORDINATOR_DIR",
    )
