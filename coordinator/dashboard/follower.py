# SPDX-License-Identifier: Apache-2.0
"""Follows a coordinator's directory while the coordinator works in it. Reads only."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import ValidationError

from coordinator.bounded_lines import Tail, sites_of
from coordinator.dashboard.history import History
from coordinator.dashboard.losses import Losses
from coordinator.dashboard.times import Times
from coordinator.home import LEDGER, ROSTERS, load_rosters, roster_path
from coordinator.observation_store import STATUS, read_seen
from coordinator.observations import Observations, SiteSeen
from coordinator.phases import PHASES, read_change
from coordinator.site_views import NETWORK_STATUS
from coordinator.telemetry import TELEMETRY, parsed_line
from federation.durable import FileSystem
from federation.errors import ConfigError, FederationError, InvalidTransition
from federation.leaf_text import sentence
from federation.ledger.followed import FollowedLog
from federation.ledger.store import by_site
from federation.ledger_state import Federation
from federation.roster import TrustedRosters
from federation.rounds import apply
from federation.wire import leaf_from_bytes

MAX_SENTENCES: Final = 200_000
"""Newest leaves whose sentences are kept for search."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything that pages are made of, at one moment; but `history`, `losses` and `log` grow under whoever holds one.

    Attributes:
        number: grows with every change; equal numbers mean equal pages.
        faults: what is wrong with what was read, in sentences.
        heard_at: when (unix seconds) the coordinator was last known to work, 0 for never.
        sentences: one per leaf from `first_sentence` on.
    """

    number: int
    rosters: TrustedRosters
    state: Federation
    observations: Observations
    history: History
    losses: Losses
    log: FollowedLog
    faults: tuple[str, ...] = ()
    heard_at: float = 0.0
    sentences: list[tuple[int, str]] = field(default_factory=list)
    first_sentence: int = 0

    @property
    def times(self) -> Times:
        """When things happened."""
        return self.history.times

    @property
    def consortium(self) -> str:
        """Id of the consortium."""
        return self.rosters.current.consortium


class Follower:
    """Looks at the directory again and again; each look that finds something gives a new `View`."""

    def __init__(self, fs: FileSystem, clock: Callable[[], float] = time.time) -> None:
        """Reads the rosters, and everything else with the first `refresh`.

        Raises:
            ConfigError: no roster is installed, or it names no coordinator.
            RosterError: a roster breaks a rule.
        """
        self._fs, self._clock = fs, clock
        rosters = load_rosters(fs, int(clock() * 1e6))
        entry = rosters.current.coordinator
        if entry is None:
            raise ConfigError("the roster names no coordinator", advice="Install the roster of `coordinator init`.")
        log = FollowedLog(
            fs,
            LEDGER,
            origin=entry.ledger_origin,
            public=entry.ledger_public,
            witness_publics=lambda: self.view.rosters.witness_publics(),
        )
        self._tails: dict[tuple[str, str], Tail] = {}
        self._prints: dict[str, object] = {}
        self._folded = True
        self._faults: dict[str, str] = {}
        self.view = View(
            number=0,
            rosters=rosters,
            state=Federation(),
            observations=Observations(),
            history=History(),
            losses=Losses(),
            log=log,
        )

    def refresh(self) -> bool:
        """One look. Returns whether `view` is a new one."""
        view = self.view
        changed = self._see_roster()
        changed = self._see_leaves() or changed
        changed = self._see_reports() or changed
        changed = self._see_lines() or changed
        if changed:
            witnessed = by_site(view.consortium, self.view.log.witnessed())
            observations = replace(self.view.observations, witnessed=witnessed)
            self.view = replace(self.view, number=view.number + 1, observations=observations)
        return changed

    def _see_roster(self) -> bool:
        rosters = self.view.rosters
        if not self._fs.exists(roster_path(rosters.current.version + 1)):
            return False
        try:
            self.view = replace(self.view, rosters=load_rosters(self._fs, int(self._clock() * 1e6)))
        except FederationError as error:
            return self._fault("rosters", f"{ROSTERS}: {error}")
        return True

    def _see_leaves(self) -> bool:
        log, first = self.view.log, self.view.log.size
        known = (log.note, log.num_cosigned_bytes)
        added = log.refresh()
        changed = self._fault("ledger", log.fault)
        state = self.view.state
        for index, data in enumerate(added, start=first):
            state = self._fold(state, index, data)
        if not added:
            return changed or (log.note, log.num_cosigned_bytes) != known
        sentences = self.view.sentences
        surplus = max(0, len(sentences) - MAX_SENTENCES)
        del sentences[:surplus]
        start = self.view.first_sentence + surplus
        self.view = replace(self.view, state=state, first_sentence=start)
        return True

    def _fold(self, state: Federation, index: int, data: bytes) -> Federation:
        """The next state. From the first leaf on that cannot be folded the state stands still, and says so."""
        try:
            leaf = leaf_from_bytes(data)
            text = sentence(leaf.body)
        except FederationError as error:
            self.view.sentences.append((0, f"a leaf that this release cannot read: {error}"))
            self._fault("fold", f"leaf {index} cannot be read: {error}. What follows it is not shown.")
            self._folded = False
            return state
        self.view.sentences.append((leaf.at_us, text))
        if not self._folded:
            return state
        try:
            state = apply(state, leaf)
        except InvalidTransition as error:
            self._fault("fold", f"leaf {index} does not fit what came before: {error}. What follows it is not shown.")
            self._folded = False
            return state
        self.view.history.leaf(index, leaf, state)
        return state

    def _see_reports(self) -> bool:
        sites: dict[str, SiteSeen] = dict(self.view.observations.sites)
        names = self._fs.list(STATUS)
        gone = [site for site in sites if f"{site}.json" not in names]
        for site in gone:
            del sites[site]
        changed = bool(gone)
        for name in names:
            path = f"{STATUS}/{name}"
            if path == NETWORK_STATUS or not self._is_new(path):
                continue
            try:
                sites[name.removesuffix(".json")] = read_seen(self._fs, path)
                changed = True
            except (FederationError, ValidationError):  # replaced under our eyes, or of another release
                continue
        if changed:
            self.view = replace(self.view, observations=replace(self.view.observations, sites=sites))
        return changed

    def _is_new(self, path: str) -> bool:
        """Whether a file was replaced or written since the last look."""
        try:
            fingerprint = self._fs.fingerprint(path)
        except FederationError:
            return False
        if fingerprint is not None and self._prints.get(path) == fingerprint:
            return False
        self._prints[path] = fingerprint
        return True

    def _see_lines(self) -> bool:
        """Phases and step metrics that were appended."""
        changed = False
        for site, line in self._new_lines(PHASES):
            change = read_change(line)
            if change is not None:
                self.view.history.times.phase(site, change)
                changed = True
        for site, line in self._new_lines(TELEMETRY):
            record = parsed_line(line)
            if record is not None:
                changed = self.view.losses.add(site, record, self.view.state.runs) or changed
        return changed

    def _new_lines(self, directory: str) -> Iterator[tuple[str, bytes]]:
        for site in sites_of(self._fs, directory):
            tail = self._tails.setdefault((directory, site), Tail(self._fs, directory, site))
            yield from ((site, line) for line in tail.new())

    def _fault(self, what: str, text: str) -> bool:
        """Notes what is wrong with one part, "" for nothing; returns whether that is news."""
        self._faults[what] = text
        faults = tuple(value for value in self._faults.values() if value)
        if faults == self.view.faults:
            return False
        self.view = replace(self.view, faults=faults)
        return True
