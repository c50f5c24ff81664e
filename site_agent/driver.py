# SPDX-License-Identifier: Apache-2.0
"""The agent of one site: receive, look, decide, act, tell. `tick(now)` is one whole pass.

Nothing here reads a clock, sleeps, or knows where its directory lies but through its arguments, so that a simulator
can run it with its own time, disk and jobs. Everything that matters is on disk before it is acted upon; a killed agent
is simply constructed again.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.ids import COORDINATOR
from federation.ledger.copy import LedgerCopy
from federation.mailbox.mailbox import MAX_BLOB_WAIT_SECONDS, Mailbox
from federation.messages import SiteFacts, SiteStatus
from federation.roster import TrustedRosters
from federation.rounds import Federation
from site_agent import derived, layout
from site_agent.agent_state import AgentState
from site_agent.courier.round_trip import RoundTripMeter
from site_agent.decider import decide
from site_agent.entries import Entry, EpochBegan
from site_agent.entry_text import sentence
from site_agent.executor import Executor
from site_agent.identity import SiteIdentity
from site_agent.inbox import Inbox
from site_agent.instructions import ReportStatus
from site_agent.journal import Journal
from site_agent.launcher.api import Launcher
from site_agent.manifests import ManifestJudge
from site_agent.observations import AgentSettings, Observations
from site_agent.observer import Observer
from site_agent.orders import JobSettings, OrderDesk
from site_agent.pending import pending
from site_agent.site_facts import FactsDesk, FixedFacts
from site_agent.telemetry import TelemetrySender
from site_agent.views import ViewFile, view_of

LOG: Final = logging.getLogger("site_agent")

NO_FACTS: Final = FixedFacts()
MAX_DECISIONS_PER_TICK: Final = 32
"""Rounds of deciding in one pass. Each one decides something that was open; more than this is a bug, not work."""


class Agent:
    """One site's agent over its directory. One process at a time (`federation.directory_lock`)."""

    def __init__(
        self,
        *,
        fs: FileSystem,
        root: Path,
        settings: AgentSettings,
        identity: SiteIdentity,
        rosters: TrustedRosters,
        judge: ManifestJudge,
        launchers: Mapping[str, Launcher],
        jobs: JobSettings,
        new_epoch: bool = False,
        max_blob_wait_seconds: int = MAX_BLOB_WAIT_SECONDS,
        software: str = "",
        new_judge: Callable[[], ManifestJudge | None] = lambda: None,
        fixed_facts: FixedFacts = NO_FACTS,
    ) -> None:
        """Puts the agent together and reads everything back.

        Args:
            fs: of the agent's directory.
            root: absolute path of that directory, as jobs see it.
            settings: the site's id and patience.
            identity: keys.
            rosters: trusted rosters; the newest must name a coordinator.
            judge: the site's policy.
            launchers: per trainer name.
            jobs: what every job gets.
            new_epoch: the process before this one did not end cleanly and might still sign.
            max_blob_wait_seconds: how long a message may wait for its blobs.
            software: what status reports call this release.
            new_judge: asked in each pass; the judge of a policy that has changed since, None if it has not.
            fixed_facts: what site.toml says that status reports tell.

        Raises:
            RosterError: no coordinator in the roster.
            CorruptObjectError: journal, ledger copy or mailbox are damaged.
        """
        self.fs, self.settings, self.rosters, self.software = fs, settings, rosters, software
        self.journal = Journal(fs, layout.JOURNAL)
        if new_epoch or not self.journal.state.epoch:
            self.journal.append([EpochBegan(epoch=self.journal.state.epoch + 1)])
        consortium = rosters.current.consortium
        self.blobs = BlobStore(fs, layout.BLOBS)
        self.copy = _open_copy(fs, rosters)
        self.mailbox = Mailbox(
            fs,
            layout.MAILBOX,
            self.blobs,
            settings.site,
            COORDINATOR,
            consortium,
            identity.update,
            epoch=self.journal.state.epoch,
            max_blob_wait_seconds=max_blob_wait_seconds,
        )
        self.inbox = Inbox(fs, self.mailbox, self.copy, rosters)
        self._new_judge = new_judge
        self.observer = Observer(fs, self.blobs, self.copy, judge, launchers)
        self.executor = Executor(
            fs=fs,
            blobs=self.blobs,
            settings=settings,
            identity=identity,
            consortium=consortium,
            mailbox=self.mailbox,
            copy=self.copy,
            journal=self.journal,
            orders=OrderDesk(fs, root, self.blobs, settings.site, jobs),
            observer=self.observer,
            launchers=launchers,
            trainer_of=self.observer.trainer_of,
            roster_version=lambda: rosters.current.version,
            software=software,
            facts=self._facts,
        )
        self.facts = FactsDesk(fs, fixed_facts, lambda: self.observer.judge)
        self._seen = Observations()
        self.telemetry = TelemetrySender(fs, self.mailbox)
        self.round_trips = RoundTripMeter(fs, self.mailbox.last_sequence)
        self.view = ViewFile(fs)
        self.last_status: SiteStatus | None = None
        self.seen: Observations | None = None

    @property
    def state(self) -> AgentState:
        """The journal, folded."""
        return self.journal.state

    @property
    def federation(self) -> Federation:
        """The ledger, folded."""
        return self.inbox.federation

    @property
    def fault(self) -> str:
        """Why the ledger cannot be followed any further, "" if it can."""
        return self.inbox.fault

    def tick(self, now: float) -> bool:
        """One pass at `now` (unix seconds). Returns whether anything happened: if so, another one is due at once."""
        now_us = int(now * 1_000_000)
        if (judge := self._new_judge()) is not None:
            self.observer.adopt(judge)
        busy = self.inbox.receive(now_us)
        self.inbox.check_cosigned(self.state)
        seen, decided = self._decide(now_us)
        self._seen = seen
        instructions = pending(self.settings, self.state, self.federation, seen, now_us)
        busy = self.executor.carry_out(instructions, now_us) or busy or decided
        self.last_status = next((i.status for i in instructions if isinstance(i, ReportStatus)), None)
        self.seen = seen
        self.view.show(view_of(self.settings, self.state, self.federation, seen, now_us))
        self.telemetry.send(self.state, now_us)
        self._tell()
        self.round_trips.note(self.mailbox.last_sequence, self.mailbox.peer_received_through, now)
        return busy

    def awaited(self) -> tuple[str, ...]:
        """Files that a job is to leave for the rounds that it trains; cheap to look for between two passes."""
        found = []
        for run in derived.runs_of(self.federation, self.settings.site):
            for opened, _ in derived.my_open_rounds(run, self.settings.site):
                number = self.state.issued.get((run.id, opened.number))
                key = (run.id, opened.number, opened.fragment, opened.base_digest)
                if number is not None and key not in self.state.signed:
                    found.append(layout.allocation_paths(run.id, number).update(opened.number))
        return tuple(found)

    def close(self) -> None:
        """Releases files; everything is durable already."""
        self.journal.close()
        self.copy.close()

    def observe(self, now_us: int) -> Observations:
        """What the agent sees now."""
        seen = self.observer.observe(
            self.state,
            self.federation,
            heard_at_us=self.inbox.heard_at_us,
            fault=self.inbox.fault,
            now_us=now_us,
            suggested=self.inbox.suggested,
        )
        return replace(seen, round_trip_seconds=self.round_trips.usual_seconds)

    def _decide(self, now_us: int) -> tuple[Observations, bool]:
        """Decides until nothing is open; each decision is durable before the next one looks at it."""
        for count in range(MAX_DECISIONS_PER_TICK):
            seen = self.observe(now_us)
            entries = decide(self.settings, self.state, self.federation, seen, now_us)
            if not entries:
                return seen, count > 0
            self.journal.append(entries)
            _log(entries)
        raise AssertionError(f"the decider decides without end, last: {entries}")

    def _facts(self, report: SiteStatus, now_us: int) -> SiteFacts:
        return self.facts.facts(report, self.state, self.federation, self._seen, now_us)

    def _tell(self) -> None:
        size = self.copy.size
        checkpoint = (size, self.copy.root()) if size else (0, "")
        self.mailbox.acknowledge(roster_version=self.rosters.current.version, checkpoint=checkpoint)
        self.mailbox.prune()


def _open_copy(fs: FileSystem, rosters: TrustedRosters) -> LedgerCopy:
    entry = rosters.coordinator()
    return LedgerCopy(fs, layout.LEDGER, entry.ledger_origin, entry.ledger_public, rosters.witness_publics)


def _log(entries: list[Entry]) -> None:
    for entry in entries:
        LOG.info("%s", sentence(entry))
