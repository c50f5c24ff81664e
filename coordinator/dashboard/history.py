# SPDX-License-Identifier: Apache-2.0
"""What pages need of the past and the folded state does not keep at hand. Grows with the ledger, never changes it."""

from dataclasses import dataclass, field

from coordinator.dashboard.scores import ScoreBook
from coordinator.dashboard.tallies import Tallies
from coordinator.dashboard.times import Times
from coordinator.disagreement import disagreements
from federation import leaves as lv
from federation.ledger_state import Federation, Run


@dataclass(kw_only=True)
class History:
    """Times, sums and scores."""

    times: Times = field(default_factory=Times)
    tallies: Tallies = field(default_factory=Tallies)
    scores: ScoreBook = field(default_factory=ScoreBook)
    _disagreements: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def leaf(self, index: int, leaf: lv.Leaf, state: Federation) -> None:
        """Takes in a leaf; `state` is the one after it."""
        self.times.leaf(index, leaf)
        match leaf.body:
            case lv.VerdictV1() as verdict:
                found = state.runs[verdict.run].rounds.get(verdict.round)
                if found is not None and found.verdicts.get(verdict.site) is verdict:  # the one that stands
                    self.tallies.verdict(verdict)
                    self.times.verdict(verdict, leaf.at_us)
            case lv.RoundCommittedV1() as commit:
                self.tallies.commit(commit)
            case lv.EvaluationRecordedV1() as evaluation:
                self.scores.add(evaluation)
                self._disagreements.pop(evaluation.run, None)
            case lv.TasksEvaluatedV1() | lv.RunRevertedV1() as body:
                self._disagreements.pop(body.run, None)

    def disagreements(self, run: Run) -> tuple[str, ...]:
        """Where sites disagree about one model, computed anew when an evaluation or a rollback came."""
        if run.id not in self._disagreements:
            self._disagreements[run.id] = disagreements(run)
        return self._disagreements[run.id]
