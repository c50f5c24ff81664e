# SPDX-License-Identifier: Apache-2.0
"""When things happened: the times of leaves that the folded state does not keep, and the phases that sites reported."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.phases import Mark, PhaseChange
from federation import leaves as lv


@dataclass(kw_only=True, slots=True)
class RoundTimes:
    """One round; microseconds since 1970 by the coordinator's clock, 0 for not yet.

    Attributes:
        verdict_us: per site, of the verdict that stands.
        invited_us: per site.
        training_at, uploading_at: per site, unix seconds of the first report of that phase.
        losses: per site, the newest loss that came with a phase.
    """

    opened_us: int = 0
    sealed_us: int = 0
    ended_us: int = 0
    commit_leaf: int = -1
    sentence: str = ""
    verdict_us: dict[str, int] = field(default_factory=dict)
    invited_us: dict[str, int] = field(default_factory=dict)
    training_at: dict[str, float] = field(default_factory=dict)
    uploading_at: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)


@dataclass(kw_only=True)
class Times:
    """Per run and round; grows with the ledger."""

    rounds: dict[str, dict[int, RoundTimes]] = field(default_factory=dict)

    def of(self, run: str, number: int) -> RoundTimes:
        """The times of one round, all unknown if nothing was seen of it."""
        return self.rounds.get(run, {}).get(number) or RoundTimes()

    def leaf(self, index: int, leaf: lv.Leaf) -> None:
        """Takes in a leaf."""
        body, at = leaf.body, leaf.at_us
        match body:
            case lv.RoundOpenedV1():
                found = self._round(body.run, body.round)
                found.opened_us, found.sentence = at, body.sentence
                found.invited_us = {i.site: at for i in body.invitations}
            case lv.SiteInvitedV1():
                self._round(body.run, body.round).invited_us[body.invitation.site] = at
            case lv.VerdictV1() if body.outcome is not lv.Outcome.EQUIVOCATION:
                self._round(body.run, body.round).verdict_us.setdefault(body.site, at)
            case lv.RoundSealedV1():
                found = self._round(body.run, body.round)
                found.sealed_us, found.sentence = at, body.sentence
            case lv.RoundCommittedV1():
                found = self._round(body.run, body.round)
                found.ended_us, found.commit_leaf = at, index
            case lv.RoundAbandonedV1():
                found = self._round(body.run, body.round)
                found.ended_us, found.sentence = at, body.sentence

    def phase(self, site: str, change: PhaseChange) -> None:
        """Takes in what a site was heard to do; of a round that the ledger does not know nothing is kept."""
        found = self.rounds.get(change.run, {}).get(change.round)
        if found is None:
            return
        if change.mark is Mark.TRAINING:
            found.training_at.setdefault(site, change.at)
        elif change.mark is Mark.UPLOADING:
            found.uploading_at.setdefault(site, change.at)
        if change.loss:
            found.losses[site] = change.loss

    def _round(self, run: str, number: int) -> RoundTimes:
        return self.rounds.setdefault(run, {}).setdefault(number, RoundTimes())


def commit_times(times: Mapping[int, RoundTimes]) -> list[int]:
    """When the rounds that were committed were, ascending."""
    return sorted(t.ended_us for t in times.values() if t.commit_leaf >= 0)
