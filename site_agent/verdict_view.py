# SPDX-License-Identifier: Apache-2.0
"""What became of this site's own rounds, as the ledger tells it: for the operator's commands. Pure."""

from dataclasses import dataclass
from typing import Final

from federation.leaves import Outcome, Reason
from federation.rounds import Round, RoundState, Run

NEWEST_ROUNDS: Final = 5
"""Of each run, those that this site was invited to."""

NO_VERDICT: Final = "no verdict yet"
NEVER_JUDGED: Final = "no verdict"
_MAX_SENTENCE: Final = 300


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """One round that this site was invited to.

    Attributes:
        round: its number.
        state: of the round: "open", "sealed", "committed", "abandoned" or "reverted".
        verdict: "admitted", "rejected", "missed", "declined", or that there is none (yet).
        reason: why, in one code; "" where admitted.
        sentence: the coordinator's, in one line.
        payload_digest: of the update that was judged, "" if none was.
        counted: whether the update is part of the model now.
    """

    round: int
    state: str
    verdict: str
    reason: str = ""
    sentence: str = ""
    payload_digest: str = ""
    counted: bool = False

    def line(self) -> str:
        """For a person: `round 12: rejected (norm-too-large): …; the round is abandoned`."""
        why = f" ({self.reason})" if self.reason else ""
        said = f": {self.sentence}" if self.reason and self.sentence else ""
        return f"round {self.round}: {self.verdict}{why}{said}; {self._fate()}"

    def _fate(self) -> str:
        if self.counted:
            return "it is part of the model"
        is_lost = self.verdict == Outcome.ADMITTED and self.state in ("abandoned", "reverted")
        return f"the round is {self.state}{', this update counts for nothing' if is_lost else ''}"


def verdicts_of(run: Run, site: str) -> tuple[VerdictView, ...]:
    """The newest rounds of a run that invited this site, the newest first."""
    mine = (run.rounds[number] for number in sorted(run.rounds, reverse=True))
    invited = (found for found in mine if found.invitation(site) is not None)
    return tuple(_view(found, site) for found, _ in zip(invited, range(NEWEST_ROUNDS), strict=False))


def _view(found: Round, site: str) -> VerdictView:
    state = "reverted" if found.reverted else found.state.value
    verdict = found.verdicts.get(site)
    if verdict is None:
        waits = found.state is RoundState.OPEN
        return VerdictView(round=found.number, state=state, verdict=NO_VERDICT if waits else NEVER_JUDGED)
    listed = any(update.site == site for update in found.sealed)
    return VerdictView(
        round=found.number,
        state=state,
        verdict=verdict.outcome.value,
        reason="" if verdict.reason is Reason.NONE else verdict.reason.value,
        sentence=_in_one_line(verdict.sentence),
        payload_digest=verdict.payload_digest,
        counted=listed and state == "committed",
    )


def _in_one_line(text: str) -> str:
    """A coordinator's words on a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_SENTENCE]
