# SPDX-License-Identifier: Apache-2.0
"""What the ledger says, as values that never change. `federation.rounds` folds the leaves to them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from federation import leaves as lv
from federation.long_tuple import LongTuple
from federation.schedule import Schedule

E = TypeVar("E", lv.EvaluationRecordedV1, lv.TasksEvaluatedV1, lv.EvaluationRecordedV1 | lv.TasksEvaluatedV1)


class RoundState(StrEnum):
    """Life of a round."""

    OPEN = "open"
    SEALED = "sealed"
    COMMITTED = "committed"
    ABANDONED = "abandoned"


class RunState(StrEnum):
    """Life of a run."""

    DRAFT = "draft"
    APPROVED = "approved"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of one fragment. `number` is round + 1, 0 for theta_0; digests of m and r are "" until recorded."""

    number: int
    theta_digest: str
    blob_digest: str = ""
    blob_bytes: int = 0
    momentum_digest: str = ""
    residual_digest: str = ""
    leaf_index: int = -1


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round as the ledger tells it.

    Attributes:
        verdicts: the one that stands for each site.
        updates_seen: digests of all signed updates that caused a leaf, late and second ones too: none causes another.
    """

    number: int
    fragment: int
    base_version: int
    base_digest: str
    lr_position: int
    opened_at_us: int
    invitations: tuple[lv.Invitation, ...]
    state: RoundState = RoundState.OPEN
    verdicts: Mapping[str, lv.VerdictV1] = field(default_factory=dict)
    num_verdict_leaves: Mapping[str, int] = field(default_factory=dict)
    updates_seen: frozenset[str] = frozenset()
    sealed: tuple[lv.SealedUpdate, ...] = ()
    commit: lv.RoundCommittedV1 | None = None
    reverted: bool = False

    def invitation(self, site: str) -> lv.Invitation | None:
        """The site's invitation, or None."""
        return next((i for i in self.invitations if i.site == site), None)

    def waiting_for(self) -> tuple[str, ...]:
        """Invited sites without a verdict, ascending."""
        return tuple(i.site for i in self.invitations if i.site not in self.verdicts)

    def admitted(self) -> tuple[lv.VerdictV1, ...]:
        """Standing verdicts that admit, ascending by site."""
        return tuple(v for _, v in sorted(self.verdicts.items()) if v.outcome is lv.Outcome.ADMITTED)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run as the ledger tells it.

    Attributes:
        versions: per fragment its versions in force, oldest first; the last one is current.
        void: round numbers abandoned or reverted.
        commit_leaves: ledger index of each commit in force, oldest first.
        reverted_at: ledger index of the last `reverted` leaf, -1 if none.
        state_since_us: when the run state last changed.
        task_evaluations: of each site those of the newest models in force; see `federation.task_history`.
    """

    id: str
    manifest_digest: str
    plan: lv.Plan
    created_leaf: int
    state: RunState = RunState.DRAFT
    state_since_us: int = 0
    approved_by: tuple[str, ...] = ()
    approved_leaf: int = -1
    answers: Mapping[str, lv.SiteAnsweredV1] = field(default_factory=dict)
    num_answers: Mapping[str, int] = field(default_factory=dict)
    num_stray_verdicts: Mapping[str, int] = field(default_factory=dict)
    stray_updates: frozenset[str] = frozenset()
    rounds: Mapping[int, Round] = field(default_factory=dict)
    open_rounds: tuple[int, ...] = ()
    next_round: int = 0
    versions: tuple[tuple[Version, ...], ...] = ()
    void: frozenset[int] = frozenset()
    commit_leaves: tuple[int, ...] = ()
    reverted_at: int = -1
    num_abandoned_in_a_row: int = 0
    pause: lv.RunPausedV1 | None = None
    last_round_end_us: int = 0
    requests: tuple[lv.EvaluationRequestedV1, ...] = ()
    evaluations: LongTuple[lv.EvaluationRecordedV1] = field(default_factory=LongTuple)
    task_evaluations: tuple[lv.TasksEvaluatedV1, ...] = field(default=(), metadata={"later": True})

    def heads(self) -> tuple[Version, ...]:
        """The current version of each fragment."""
        return tuple(chain[-1] for chain in self.versions)

    def num_commits(self) -> int:
        """Commits in force."""
        return len(self.commit_leaves)

    def is_void(self, versions: Iterable[int]) -> bool:
        """Whether a rollback has made one of these versions, and so the model that they are of, void.

        After it the same number of commits is reached again, by another model.
        """
        return any(number - 1 in self.void for number in versions)

    def of_models_in_force(self, evaluations: Iterable[E]) -> Iterator[E]:
        """Those of models that are not void; of tens of thousands, many are of one model."""
        known: dict[tuple[int, ...], bool] = {}
        for evaluation in evaluations:
            versions = evaluation.versions
            if versions not in known:
                known[versions] = self.is_void(versions)
            if not known[versions]:
                yield evaluation

    def schedule(self, site: str | None = None) -> Schedule:
        """The timetable of one member, or the nominal one."""
        plan = self.plan
        h = plan.num_inner_steps if site is None else self.member(site).num_inner_steps
        return Schedule(
            num_inner_steps=h,
            num_fragments=plan.num_fragments,
            tau=plan.tau,
            first_window_steps=plan.first_window_steps,
        )

    def member(self, site: str) -> lv.Member:
        """The member of that id.

        Raises:
            KeyError: no member has that id.
        """
        for member in self.plan.members:
            if member.site == site:
                return member
        raise KeyError(site)

    def is_member(self, site: str) -> bool:
        """Whether the plan names this site."""
        return any(member.site == site for member in self.plan.members)

    def declined(self) -> frozenset[str]:
        """Members whose own policy declined the manifest."""
        return frozenset(site for site, answer in self.answers.items() if not answer.accepted)


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Everything that the ledger says, folded.

    Attributes:
        size: leaves folded so far.
        commands: ledger index of the leaf that an operator's command id caused, per "operator/command".
        revoked: per revoked site the id of the update key that it had.
        invites: by the SHA-256 of their tokens; a revocation voids those of its site.
    """

    size: int = 0
    roster_version: int = 0
    roster_digest: str = ""
    sites: tuple[str, ...] = ()
    drained: frozenset[str] = frozenset()
    runs: Mapping[str, Run] = field(default_factory=dict)
    commands: Mapping[str, int] = field(default_factory=dict)
    revoked: Mapping[str, str] = field(default_factory=dict, metadata={"later": True})
    invites: Mapping[str, lv.InviteIssuedV1] = field(default_factory=dict, metadata={"later": True})

    @property
    def excluded(self) -> frozenset[str]:
        """Sites that no round invites: drained or revoked."""
        return self.drained | self.revoked.keys()
