# SPDX-License-Identifier: Apache-2.0
"""When things happened in the newest rounds: from the ledger's leaves, and from what sites reported meanwhile.

State knows when a round opened and how it ended, not when. Nothing decides by these times, and what sites reported is
lost with this process; so they are kept here, bounded, and read from the ledger anew when somebody first asks.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from coordinator.forecast import MAX_COMMITS
from coordinator.observations import Progress, SiteSeen
from federation import leaves as lv
from federation.rounds import Run, RunState

NUM_ROUNDS: Final = 50
"""Newest rounds of a run that are kept."""

NUM_ALLOCATION_STATES: Final = 24
"""Newest changes of a site's allocation that are kept."""

_LEAVES_AT_ONCE: Final = 1000

Document = dict[str, Any]


class Leaves(Protocol):
    """The ledger, as far as it is read here."""

    @property
    def size(self) -> int:
        """Number of leaves."""

    def leaves(self, start: int, stop: int) -> Iterable[lv.Leaf]:
        """Leaves from `start` up to `stop`."""


@dataclass(kw_only=True)
class RoundTimes:
    """One round, in microseconds since 1970 by the coordinator's clock; 0: not yet, or not known.

    Attributes:
        sentence: the arithmetic of the seal, or why the round was abandoned.
        verdicts_at_us: per site, of the verdict that stands.
        phases: per site, when it first reported each phase.
    """

    sealed_at_us: int = 0
    ended_at_us: int = 0
    sentence: str = ""
    verdicts_at_us: dict[str, int] = field(default_factory=dict)
    phases: dict[str, Progress] = field(default_factory=dict)


class RunTimes:
    """One run's newest rounds and commits."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.rounds: dict[int, RoundTimes] = {}
        self.commits_at_us: deque[int] = deque(maxlen=MAX_COMMITS)
        self.going_since_us = 0
        """When the run last started or resumed."""

        self.allocations: dict[str, deque[tuple[float, str]]] = {}
        self._next = -1
        self._ended = False

    def follow(self, run: Run, ledger: Leaves) -> None:
        """Takes in leaves that are new since the last call; the first one goes back as far as rounds are kept."""
        if self._next < 0:
            kept = run.commit_leaves[-NUM_ROUNDS:]
            self._next = kept[0] if len(kept) == NUM_ROUNDS else run.created_leaf
        while not self._ended and self._next < ledger.size:
            for leaf in ledger.leaves(self._next, min(self._next + _LEAVES_AT_ONCE, ledger.size)):
                self._next += 1
                if getattr(leaf.body, "run", "") == self.run:
                    self._take(leaf.body, leaf.at_us)
            self._forget()

    def reported(self, run: Run, site: str, seen: SiteSeen) -> None:
        """Takes in a site's report: when it began each phase of its rounds, and what its newest allocation does."""
        for number in run.open_rounds:
            progress = seen.progress.get(f"{run.id}/{number}")
            if progress is not None and run.rounds[number].invitation(site) is not None:
                self.at(number).phases[site] = progress
        states = [a.state.value for a in seen.status.allocations if a.run == self.run]
        if states:
            log = self.allocations.setdefault(site, deque(maxlen=NUM_ALLOCATION_STATES))
            if not log or log[-1][1] != states[-1]:
                log.append((seen.received_at, states[-1]))
        self._forget()

    def at(self, number: int) -> RoundTimes:
        """One round's times; what is written into them is kept."""
        return self.rounds.setdefault(number, RoundTimes())

    def _take(self, body: object, at_us: int) -> None:
        match body:
            case lv.VerdictV1():
                if body.round in self.rounds:
                    self.at(body.round).verdicts_at_us.setdefault(body.site, at_us)
            case lv.RoundOpenedV1():
                self.at(body.round)
            case lv.RoundSealedV1():
                self.at(body.round).sealed_at_us = at_us
                self.at(body.round).sentence = body.sentence
            case lv.RoundCommittedV1():
                self.at(body.round).ended_at_us = at_us
                self.commits_at_us.append(at_us)
            case lv.RoundAbandonedV1():
                self.at(body.round).ended_at_us = at_us
                self.at(body.round).sentence = body.sentence or body.reason.value
            case lv.RunStartedV1() | lv.RunResumedV1():
                self.going_since_us = at_us
            case lv.RunCompletedV1() | lv.RunAbortedV1():
                self._ended = True

    def _forget(self) -> None:
        for number in sorted(self.rounds)[:-NUM_ROUNDS]:
            del self.rounds[number]


class Timelines:
    """The times of all runs."""

    def __init__(self, ledger: Leaves) -> None:
        self._ledger = ledger
        self._runs: dict[str, RunTimes] = {}

    def of(self, run: Run) -> RunTimes:
        """A run's times up to now."""
        times = self._runs.setdefault(run.id, RunTimes(run.id))
        times.follow(run, self._ledger)
        return times

    def reported(self, runs: Iterable[Run], site: str, seen: SiteSeen) -> None:
        """Takes in a site's newest report about those of these runs that name it."""
        for run in runs:
            if run.is_member(site) and run.state not in (RunState.COMPLETED, RunState.ABORTED):
                self._runs.setdefault(run.id, RunTimes(run.id)).reported(run, site, seen)


def phases_document(progress: Progress) -> Document:
    """When a site first reported each phase of a round, in unix seconds; None if it has not."""
    return {
        "answered_at": progress.answered_at,
        "training_at": progress.training_at,
        "uploading_at": progress.uploading_at,
    }
