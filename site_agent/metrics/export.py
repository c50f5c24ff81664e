# SPDX-License-Identifier: Apache-2.0
"""Takes an agent's metrics to where they are read: a file at all times, and a port where site.toml names one.

Metrics are for people: what goes wrong here is said once in the log, and never holds up the agent.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.errors import FederationError
from federation.exposition import Sample, exposition
from federation.log import in_one_line
from site_agent import layout
from site_agent.courier.choice import CourierKind, read_choice, read_status
from site_agent.credentials_watch import read_credentials
from site_agent.driver import Agent
from site_agent.metrics.projection import AgentSnapshot, samples
from site_agent.metrics.server import MetricsServer
from site_agent.metrics.spool_meter import ENTRIES_PER_LOOK, SpoolMeter
from site_agent.observations import Observations
from site_agent.site_config import SiteConfig

LOG: Final = logging.getLogger("site_agent")

WRITE_SECONDS: Final = 15.0
"""Between two writes of the file; a scrape gets what was written last."""

CREDENTIAL_SECONDS: Final = 60.0
"""Between two looks at what expires."""

ENTRIES_OF_A_TICK: Final = 20 * ENTRIES_PER_LOOK
"""Of the spool, for an agent that makes one pass and ends."""


@dataclass(kw_only=True)
class _Expiries:
    found: Mapping[str, float]
    looked_at: float = -inf


class MetricsExport:
    """The metrics of one agent's directory."""

    def __init__(self, fs: RealFileSystem, config: SiteConfig, *, listens: bool) -> None:
        """
        Args:
            fs: of the agent's directory.
            config: site.toml.
            listens: open the port that `config` names, if any; one that cannot be opened is told in the log.
        """
        self._fs, self._config = fs, config
        self._meter = SpoolMeter(fs.real_path(layout.SPOOL))
        self._expiries = _Expiries(found={})
        self._written_at = -inf
        self._complained = ""
        self._server = self._listen() if listens else None

    @property
    def port(self) -> int:
        """Where scrapes are answered; 0 for nowhere."""
        return self._server.port if self._server is not None else 0

    def look(self, agent: Agent, now: float, monotonic: float) -> None:
        """Writes anew if that is due.

        Args:
            agent: after a pass.
            now: unix seconds.
            monotonic: seconds of a clock that never goes back.
        """
        if monotonic - self._written_at >= WRITE_SECONDS:
            self._written_at = monotonic
            self._write(agent, now, monotonic, ENTRIES_PER_LOOK)

    def write(self, agent: Agent, now: float, monotonic: float) -> None:
        """Writes at once, for an agent that ends now."""
        self._write(agent, now, monotonic, ENTRIES_OF_A_TICK)

    def close(self) -> None:
        """Closes the port; the file stays, and says when it was written."""
        if self._server is not None:
            self._server.close()

    def _write(self, agent: Agent, now: float, monotonic: float, max_entries: int) -> None:
        if agent.seen is None:
            return  # no pass was made yet
        try:
            found = self._samples(agent, agent.seen, now, monotonic, max_entries)
            self._fs.place(layout.METRICS, exposition(found).body)
        except FederationError as error:
            self._complain(error)
            return
        if self._server is not None:
            self._server.show(found)

    def _samples(
        self, agent: Agent, seen: Observations, now: float, monotonic: float, max_entries: int
    ) -> tuple[Sample, ...]:
        dials = read_choice(self._fs) is CourierKind.GRPC
        snapshot = AgentSnapshot(
            settings=agent.settings,
            state=agent.state,
            federation=agent.federation,
            seen=seen,
            judge=agent.observer.judge,
            now=now,
            software=agent.software,
            outstanding=len(agent.mailbox.outstanding),
            free_bytes=self._free_bytes(),
            spool_bytes=self._meter.look(max_entries),
            credentials=self._credentials(now, monotonic, dials=dials),
            courier=read_status(self._fs) if dials else None,
        )
        return tuple(samples(snapshot))

    def _free_bytes(self) -> int | None:
        with suppress(OSError):
            return self._fs.free_bytes()
        return None

    def _credentials(self, now: float, monotonic: float, *, dials: bool) -> Mapping[str, float]:
        if monotonic - self._expiries.looked_at >= CREDENTIAL_SECONDS:
            site_dir = Path(self._fs.root)
            found = read_credentials(self._fs, site_dir, self._config.credentials, now, dials=dials)
            known = {c.name: c.expires_at for c in found if c.expires_at is not None}
            self._expiries = _Expiries(found=known, looked_at=monotonic)
        return self._expiries.found

    def _listen(self) -> MetricsServer | None:
        address = self._config.metrics.address()
        if address is None:
            return None
        try:
            server = MetricsServer(*address)
        except FederationError as error:
            self._complain(error)
            return None
        LOG.info("metrics: http://%s:%d/metrics", address[0], server.port)
        return server

    def _complain(self, error: FederationError) -> None:
        """Once, until it is something else."""
        sentence = in_one_line(error)
        if sentence != self._complained:
            self._complained = sentence
            LOG.warning("metrics: %s", sentence)
