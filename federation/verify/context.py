# SPDX-License-Identifier: Apache-2.0
"""What the checks of one leaf share: the state before it, where it stands, and the audit that it belongs to."""

from collections import defaultdict
from dataclasses import dataclass, field

from federation.manifest import Manifest
from federation.rounds import Federation
from federation.verify.evidence import Evidence
from federation.verify.recomputation import Recomputation
from federation.verify.report import Check, Findings, Place
from federation.verify.signatures import Witnessed
from federation.verify.trust import Rosters


@dataclass(kw_only=True)
class RunBook:
    """What the audit remembers of one run beside the folded state.

    Attributes:
        manifest: None where it is missing, damaged or breaks a rule.
        admitted_at_us: per round when each admitting verdict was decided.
        models: every (commits in force, version per fragment) that ever was current.
        reverting: the first leaf that abandons a round for a rollback whose own leaf has not come yet, -1 for none.
        ordered: leaf and round of an operator's order to end a round, whose end has not come yet.
    """

    manifest: Manifest | None = None
    admitted_at_us: dict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    models: set[tuple[int, tuple[int, ...]]] = field(default_factory=set)
    reverting: int = -1
    ordered: tuple[int, int] | None = None


@dataclass(kw_only=True)
class Audit:
    """Everything that outlives one leaf."""

    findings: Findings
    evidence: Evidence
    rosters: Rosters
    witnessed: Witnessed
    recomputation: Recomputation
    consortium: str
    books: dict[str, RunBook] = field(default_factory=lambda: defaultdict(RunBook))


@dataclass(frozen=True, kw_only=True)
class At:
    """One leaf under examination: its index, its time, and the fold of all leaves before it."""

    index: int
    at_us: int
    state: Federation
    audit: Audit

    @property
    def findings(self) -> Findings:
        """Where differences go."""
        return self.audit.findings

    @property
    def evidence(self) -> Evidence:
        """The blobs."""
        return self.audit.evidence

    def book(self, run: str) -> RunBook:
        """What is remembered of a run."""
        return self.audit.books[run]

    def place(self, run: str = "", round_number: int = -1) -> Place:
        """This leaf, as differences name it."""
        return Place(leaf=self.index, run=run, round=round_number)

    def settle(self, check: Check, before: int, count: int = 1) -> None:
        """Counts things as good if no difference was recorded since there were `before` of this check."""
        if self.findings.failed[check] == before:
            self.findings.agree(check, count)
