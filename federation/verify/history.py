# SPDX-License-Identifier: Apache-2.0
"""The second pass over the leaves: each is checked against the fold of those before it, then folded."""

from collections.abc import Callable, Iterable

from federation import leaves as lv
from federation import wire
from federation.errors import DiskFullError, FederationError, InvalidTransition, NumericsMismatchError
from federation.rounds import Federation, apply
from federation.verify import ends, openings, runs, tasks, verdicts
from federation.verify.context import At, Audit
from federation.verify.report import Check, Place

Progress = Callable[[int], None]


def check_history(audit: Audit, leaves: Iterable[tuple[int, bytes]], progress: Progress) -> Federation:
    """Folds all leaves and checks each; stops at the first one that cannot be read or does not fit."""
    state, newest_us = Federation(), 0
    for index, data in leaves:
        leaf = _decoded(audit, index, data)
        if leaf is None:
            break
        if leaf.at_us < newest_us:
            audit.findings.note(f"leaf {index}: the coordinator's clock went back by {newest_us - leaf.at_us} us")
        newest_us = max(newest_us, leaf.at_us)
        ends.check_rollbacks(audit, leaf.body)
        ends.check_orders(audit, leaf.body)
        after = _applied(audit, index, leaf, state)
        if after is None:
            break
        _check_leaf(At(index=index, at_us=leaf.at_us, state=state, audit=audit), leaf.body)
        _remember(audit, after, leaf.body)
        state = after
        audit.findings.agree(Check.LEAVES)
        progress(index + 1)
    ends.check_rollbacks(audit, None)
    ends.check_orders(audit, None)
    return state


def _decoded(audit: Audit, index: int, data: bytes) -> lv.Leaf | None:
    """An unknown leaf is no proof of anything: another release may know it. What follows it cannot be judged."""
    try:
        return wire.leaf_from_bytes(data)
    except FederationError as error:
        sentence = f"{error}; it and what follows is not checked (install the release that wrote it)"
        audit.findings.skip(Check.LEAVES, Place(leaf=index), sentence)
        return None


def _applied(audit: Audit, index: int, leaf: lv.Leaf, state: Federation) -> Federation | None:
    body = leaf.body
    place = Place(leaf=index, run=getattr(body, "run", ""), round=getattr(body, "round", -1))
    name = type(body).__name__
    try:
        return apply(state, leaf)
    except InvalidTransition as error:
        found = f"{error}; what follows is not checked"
    except (FederationError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        found = f"{type(error).__name__}: {error}; what follows is not checked"
    audit.findings.differ(Check.LEAVES, place, name, "a leaf that fits those before it", found)
    return None


def _check_leaf(at: At, body: lv.Body) -> None:
    try:
        runs.check_command(at, body)
        runs.check_in_force(at, body)
        _dispatch(at, body)
    except (DiskFullError, MemoryError, NumericsMismatchError):  # this machine's, and no evidence of anything
        raise
    except Exception as error:  # hostile leaves may hold any value; none may end the audit
        place = at.place(getattr(body, "run", ""), getattr(body, "round", -1))
        found = f"{type(error).__name__}: {error}"
        at.findings.differ(Check.LEAVES, place, type(body).__name__, "values that can be checked", found)


def _dispatch(at: At, body: lv.Body) -> None:
    match body:
        case lv.RosterInstalledV1():
            runs.check_roster_leaf(at, body)
        case lv.RunCreatedV1():
            runs.check_created(at, body)
        case lv.SiteAnsweredV1():
            runs.check_answer(at, body)
        case lv.SiteRevokedV1():
            runs.check_revoked(at, body)
        case lv.SiteReadmittedV1():
            runs.check_readmitted(at, body)
        case lv.InviteIssuedV1():
            runs.check_invite(at, body)
        case lv.RunApprovedV1():
            runs.check_approved(at, body)
        case lv.RunPausedV1():
            runs.check_paused(at, body)
        case lv.RunRevertedV1():
            runs.check_reverted(at, body)
        case lv.RunCompletedV1():
            runs.check_completed(at, body)
        case lv.EvaluationRequestedV1():
            runs.check_requested(at, body)
        case lv.EvaluationRecordedV1():
            runs.check_evaluation(at, body)
        case lv.TasksEvaluatedV1():
            tasks.check_tasks(at, body)
        case _:
            _dispatch_round(at, body)


def _dispatch_round(at: At, body: lv.Body) -> None:
    match body:
        case lv.RoundOpenedV1():
            openings.check_opened(at, body)
        case lv.SiteInvitedV1():
            openings.check_joined(at, body)
        case lv.VerdictV1():
            verdicts.check_verdict(at, body)
            openings.check_witnessed(at, body)
        case lv.RoundSealedV1():
            ends.check_sealed(at, body)
        case lv.RoundAbandonOrderedV1():
            at.book(body.run).ordered = (at.index, body.round)
        case lv.RoundAbandonedV1():
            ends.check_abandoned(at, body)
        case lv.RoundCommittedV1():
            run = at.state.runs[body.run]
            at.audit.recomputation.commit(at.place(body.run, body.round), run, run.rounds[body.round], body)
        case lv.StateRecordedV1():
            at.audit.recomputation.record(at.place(body.run, body.round), body)
        case _:
            return  # commands of which `check_command` has seen what there is to see


def _remember(audit: Audit, after: Federation, body: lv.Body) -> None:
    """Which models were ever current; a rollback may leave others between theta_0 and the commits that it keeps."""
    if not isinstance(body, lv.RoundCommittedV1 | lv.RunRevertedV1):
        return
    run, models = after.runs[body.run], audit.books[body.run].models
    models.add((run.num_commits(), tuple(head.number for head in run.heads())))
    if isinstance(body, lv.RunRevertedV1):
        for count, leaf in enumerate(run.commit_leaves, start=1):
            versions = (max(v.number for v in chain if v.leaf_index <= leaf) for chain in run.versions)
            models.add((count, tuple(versions)))
