# SPDX-License-Identifier: Apache-2.0
"""State as a pure fold over the ledger: `apply(state, index, leaf) -> state`. It never decides and never does I/O.

Coordinator, agents, `verify` and every view fold the same leaves with this one function, so they cannot disagree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import singledispatch
from types import MappingProxyType
from typing import TypeVar

from federation import leaves as lv
from federation.errors import InvalidTransition
from federation.ledger_state import Federation, Round, RoundState, Run, RunState, Version
from federation.task_history import with_newest, without_void

__all__ = ["Federation", "Round", "RoundState", "Run", "RunState", "Version", "apply", "fold"]

K = TypeVar("K")
V = TypeVar("V")


def _put(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    # `|` copies the dict behind a proxy as a whole; unpacking looks each key up: 13 times as long for 1,000 rounds.
    return MappingProxyType(MappingProxyType(mapping) | {key: value})


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
    return _with_run(state, without_void(run))


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
    return _with_run(state, replace(run, evaluations=run.evaluations.plus(body)))


@_apply_body.register
def _(body: lv.TasksEvaluatedV1, state: Federation, at_us: int) -> Federation:
    return _with_run(state, with_newest(_run(state, body.run, "tasks evaluated"), body))
