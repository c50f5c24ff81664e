# SPDX-License-Identifier: Apache-2.0
"""State as a pure fold over the ledger: `apply(state, index, leaf) -> state`. It never decides and never does I/O.

Coordinator, agents, `verify` and every view fold the same leaves with this one function, so they cannot disagree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import singledispatch
from types import MappingProxyType
from typing import TypeVar

from federation import leaves as lv
from federation.errors import InvalidTransition
from federation.schedule import Schedule

K = TypeVar("K")
V = TypeVar("V")


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
    evaluations: tuple[lv.EvaluationRecordedV1, ...] = ()

    def heads(self) -> tuple[Version, ...]:
        """The current version of each fragment."""
        return tuple(chain[-1] for chain in self.versions)

    def num_commits(self) -> int:
        """Commits in force."""
        return len(self.commit_leaves)

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


def _put(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return MappingProxyType({**mapping, key: value})


def apply(state: Federation, leaf: lv.Leaf) -> Federation:
    """Folds the next leaf (index `state.size`) into the state.

    Raises:
        InvalidTransition: the leaf does not fit the state, which no ledger written by a coordinator contains.
    """
    body = leaf.body
    state = _apply_body(body, state, leaf.at_us)
    commands = state.commands
    command = getattr(body, "command", "")
    if command:
        commands = _put(commands, f"{getattr(body, 'operator', '')}/{command}", state.size)
    return replace(state, size=state.size + 1, commands=commands)


def fold(leaves: Iterable[lv.Leaf], state: Federation | None = None) -> Federation:
    """Folds leaves in order, from the given state or from nothing."""
    state = state or Federation()
    for leaf in leaves:
        state = apply(state, leaf)
    return state


@singledispatch
def _apply_body(body: object, state: Federation, at_us: int) -> Federation:
    raise InvalidTransition("ledger", "any", type(body).__name__)


def _run(state: Federation, run_id: str, event: str, *allowed: RunState) -> Run:
    run = state.runs.get(run_id)
    if run is None or (allowed and run.state not in allowed):
        raise InvalidTransition(f"run {run_id}", run.state if run else "absent", event)
    return run


def _round(run: Run, number: int, event: str, *allowed: RoundState) -> Round:
    found = run.rounds.get(number)
    if found is None or (allowed and found.state not in allowed):
        raise InvalidTransition(f"round {run.id}/{number}", found.state if found else "absent", event)
    return found


def _with_run(state: Federation, run: Run) -> Federation:
    return replace(state, runs=_put(state.runs, run.id, run))


def _with_round(run: Run, changed: Round) -> Run:
    is_open = changed.state in (RoundState.OPEN, RoundState.SEALED)
    rest = tuple(n for n in run.open_rounds if n != changed.number)
    open_rounds = tuple(sorted((*rest, changed.number))) if is_open else rest
    return replace(run, rounds=_put(run.rounds, changed.number, changed), open_rounds=open_rounds)


@_apply_body.register
def _(body: lv.RosterInstalledV1, state: Federation, at_us: int) -> Federation:
    if body.version != state.roster_version + 1 and state.roster_version:
        raise InvalidTransition("roster", str(state.roster_version), f"version {body.version}")
    return replace(state, roster_version=body.version, roster_digest=body.digest, sites=body.sites)


@_apply_body.register
def _(body: lv.RunCreatedV1, state: Federation, at_us: int) -> Federation:
    if body.run in state.runs:
        raise InvalidTransition(f"run {body.run}", state.runs[body.run].state, "created")
    versions = tuple((Version(number=0, theta_digest=digest),) for digest in body.plan.theta_digests)
    run = Run(
        id=body.run,
        manifest_digest=body.manifest_digest,
        plan=body.plan,
        created_leaf=state.size,
        state_since_us=at_us,
        versions=versions,
    )
    return _with_run(state, run)


@_apply_body.register
def _(body: lv.RunApprovedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "approved", RunState.DRAFT)
    approved_by = (*run.approved_by, body.operator)
    run = replace(run, approved_by=approved_by)
    if len(approved_by) >= run.plan.approvals_required:
        run = replace(run, state=RunState.APPROVED, approved_leaf=state.size, state_since_us=at_us)
    return _with_run(state, run)


@_apply_body.register
def _(body: lv.RunStartedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "started", RunState.APPROVED)
    return _with_run(state, replace(run, state=RunState.RUNNING, state_since_us=at_us, last_round_end_us=at_us))


@_apply_body.register
def _(body: lv.RunPausedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "paused", RunState.RUNNING)
    return _with_run(state, replace(run, state=RunState.PAUSED, state_since_us=at_us, pause=body))


@_apply_body.register
def _(body: lv.RunResumedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "resumed", RunState.PAUSED)
    resumed = replace(
        run,
        state=RunState.RUNNING,
        state_since_us=at_us,
        last_round_end_us=at_us,
        pause=None,
        num_abandoned_in_a_row=0,
    )
    return _with_run(state, resumed)


@_apply_body.register
def _(body: lv.RunAbortedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "aborted", RunState.DRAFT, RunState.APPROVED, RunState.RUNNING, RunState.PAUSED)
    return _with_run(state, replace(run, state=RunState.ABORTED, state_since_us=at_us))


@_apply_body.register
def _(body: lv.RunCompletedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "completed", RunState.RUNNING, RunState.PAUSED)
    return _with_run(state, replace(run, state=RunState.COMPLETED, state_since_us=at_us))


@_apply_body.register
def _(body: lv.RunRevertedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "reverted", RunState.RUNNING, RunState.PAUSED)
    if run.open_rounds or body.to_round < -1:
        raise InvalidTransition(f"run {run.id}", f"rounds {run.open_rounds} open", f"reverted to {body.to_round}")
    undone = {n for n, r in run.rounds.items() if n > body.to_round and r.state is RoundState.COMMITTED}
    rounds = {n: replace(r, reverted=True) if n in undone else r for n, r in run.rounds.items()}
    versions = tuple(tuple(v for v in chain if v.number <= body.to_round + 1) for chain in run.versions)
    kept = tuple(sorted(v.leaf_index for chain in versions for v in chain if v.number))
    run = replace(
        run,
        rounds=MappingProxyType(rounds),
        versions=versions,
        void=run.void | undone,
        commit_leaves=kept,
        reverted_at=state.size,
    )
    return _with_run(state, run)


@_apply_body.register
def _(body: lv.SiteAnsweredV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "answered")
    count = run.num_answers.get(body.site, 0) + 1
    answers, num_answers = _put(run.answers, body.site, body), _put(run.num_answers, body.site, count)
    return _with_run(state, replace(run, answers=answers, num_answers=num_answers))


@_apply_body.register
def _(body: lv.SiteDrainedV1, state: Federation, at_us: int) -> Federation:
    return replace(state, drained=state.drained | {body.site})


@_apply_body.register
def _(body: lv.SiteResumedV1, state: Federation, at_us: int) -> Federation:
    return replace(state, drained=state.drained - {body.site})


@_apply_body.register
def _(body: lv.InviteIssuedV1, state: Federation, at_us: int) -> Federation:
    return replace(state, invites=_put(state.invites, body.token_digest, body))


@_apply_body.register
def _(body: lv.SiteRevokedV1, state: Federation, at_us: int) -> Federation:
    if body.site in state.revoked:
        raise InvalidTransition(f"site {body.site}", "revoked", "revoked")
    site = (lv.PartyKind.SITE, body.site)
    open_invites = {token: i for token, i in state.invites.items() if (i.kind, i.party) != site}
    revoked = _put(state.revoked, body.site, body.key_digest)
    return replace(state, revoked=revoked, invites=MappingProxyType(open_invites))


@_apply_body.register
def _(body: lv.SiteReadmittedV1, state: Federation, at_us: int) -> Federation:
    if state.revoked.get(body.site, body.key_digest) == body.key_digest:
        raise InvalidTransition(f"site {body.site}", "not revoked, or with this key", "readmitted")
    left = {site: key for site, key in state.revoked.items() if site != body.site}
    return replace(state, revoked=MappingProxyType(left))


@_apply_body.register
def _(body: lv.RoundAbandonOrderedV1, state: Federation, at_us: int) -> Federation:
    _round(_run(state, body.run, "abandon ordered"), body.round, "abandon ordered", RoundState.OPEN, RoundState.SEALED)
    return state


@_apply_body.register
def _(body: lv.RoundOpenedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "round opened", RunState.RUNNING)
    if body.round != run.next_round:
        raise InvalidTransition(f"run {run.id}", f"next round {run.next_round}", f"round {body.round} opened")
    opened = Round(
        number=body.round,
        fragment=body.fragment,
        base_version=body.base_version,
        base_digest=body.base_digest,
        lr_position=body.lr_position,
        opened_at_us=at_us,
        invitations=body.invitations,
    )
    return _with_run(state, replace(_with_round(run, opened), next_round=body.round + 1))


@_apply_body.register
def _(body: lv.SiteInvitedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "site invited", RunState.RUNNING)
    found = _round(run, body.round, "site invited", RoundState.OPEN)
    if found.invitation(body.invitation.site):
        raise InvalidTransition(f"round {run.id}/{body.round}", "invited", f"{body.invitation.site} invited")
    invitations = tuple(sorted((*found.invitations, body.invitation), key=lambda i: i.site))
    return _with_run(state, _with_round(run, replace(found, invitations=invitations)))


@_apply_body.register
def _(body: lv.VerdictV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "verdict")
    found = run.rounds.get(body.round)
    if found is None:  # an update for a round that never was: recorded, belongs to no round
        strays = _put(run.num_stray_verdicts, body.site, run.num_stray_verdicts.get(body.site, 0) + 1)
        seen = run.stray_updates | {body.update_digest}
        return _with_run(state, replace(run, num_stray_verdicts=strays, stray_updates=seen))
    count = found.num_verdict_leaves.get(body.site, 0) + 1
    seen = found.updates_seen | ({body.update_digest} if body.update_digest else set())
    changed = replace(found, num_verdict_leaves=_put(found.num_verdict_leaves, body.site, count), updates_seen=seen)
    if found.state is RoundState.OPEN and body.site not in found.verdicts and found.invitation(body.site):
        changed = replace(changed, verdicts=_put(changed.verdicts, body.site, body))
    return _with_run(state, _with_round(run, changed))


@_apply_body.register
def _(body: lv.RoundSealedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "sealed")
    found = _round(run, body.round, "sealed", RoundState.OPEN)
    return _with_run(state, _with_round(run, replace(found, state=RoundState.SEALED, sealed=body.updates)))


@_apply_body.register
def _(body: lv.RoundCommittedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "committed")
    found = _round(run, body.round, "committed", RoundState.SEALED)
    if (body.fragment, body.version) != (found.fragment, body.round + 1):
        raise InvalidTransition(f"round {run.id}/{body.round}", f"fragment {found.fragment}", "another one committed")
    chain = run.versions[found.fragment]
    if chain[-1].number != found.base_version or (chain[-1].number and not chain[-1].momentum_digest):
        raise InvalidTransition(f"round {run.id}/{body.round}", f"base {found.base_version}", "committed")
    version = Version(
        number=body.version,
        theta_digest=body.theta_digest,
        blob_digest=body.blob_digest,
        blob_bytes=body.blob_bytes,
        leaf_index=state.size,
    )
    versions = tuple((*c, version) if i == found.fragment else c for i, c in enumerate(run.versions))
    run = _with_round(run, replace(found, state=RoundState.COMMITTED, commit=body))
    run = replace(
        run,
        versions=versions,
        commit_leaves=(*run.commit_leaves, state.size),
        num_abandoned_in_a_row=0,
        last_round_end_us=at_us,
    )
    return _with_run(state, run)


@_apply_body.register
def _(body: lv.StateRecordedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "state recorded")
    _round(run, body.round, "state recorded", RoundState.COMMITTED)
    chains = []
    for index, chain in enumerate(run.versions):
        if index == body.fragment:
            chain = tuple(
                replace(v, momentum_digest=body.momentum_digest, residual_digest=body.residual_digest)
                if v.number == body.round + 1
                else v
                for v in chain
            )
        chains.append(chain)
    return _with_run(state, replace(run, versions=tuple(chains)))


@_apply_body.register
def _(body: lv.RoundAbandonedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "abandoned")
    found = _round(run, body.round, "abandoned", RoundState.OPEN, RoundState.SEALED)
    run = _with_round(run, replace(found, state=RoundState.ABANDONED))
    run = replace(
        run,
        void=run.void | {body.round},
        num_abandoned_in_a_row=run.num_abandoned_in_a_row + 1,
        last_round_end_us=at_us,
    )
    return _with_run(state, run)


@_apply_body.register
def _(body: lv.EvaluationRequestedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "evaluation requested")
    return _with_run(state, replace(run, requests=(*run.requests, body)))


@_apply_body.register
def _(body: lv.EvaluationRecordedV1, state: Federation, at_us: int) -> Federation:
    run = _run(state, body.run, "evaluation recorded")
    return _with_run(state, replace(run, evaluations=(*run.evaluations, body)))
