# SPDX-License-Identifier: Apache-2.0
"""How rounds end: seals and abandonments decided again from the verdicts that stand."""

from typing import Final

from federation import leaves as lv
from federation.leaves import Reason
from federation.quorum import QuorumDecision, quorum
from federation.rounds import Round, RoundState, Run
from federation.verify.context import At, Audit
from federation.verify.report import Check, Place
from federation.weights import round_weights

_US: Final = 1_000_000
_ROUNDING_US: Final = 1_000


def check_sealed(at: At, body: lv.RoundSealedV1) -> None:
    """The admitted, all of them, with weights of their signed tokens; quorum with its sentence; nobody waited for."""
    run, before = at.state.runs[body.run], at.findings.failed[Check.ENDS]
    place, found = at.place(body.run, body.round), run.rounds[body.round]
    decision = _quorum(at, run, found)
    if not decision.reached:
        at.findings.differ(Check.ENDS, place, "quorum of the seal", "reached", decision.sentence)
    at.findings.compare(Check.ENDS, place, "sentence of the seal", decision.sentence, body.sentence)
    admitted = found.admitted()
    sites = tuple(verdict.site for verdict in admitted)
    if at.findings.compare(Check.ENDS, place, "sealed sites", sites, tuple(u.site for u in body.updates)) and sites:
        _check_list(at, run, body, admitted)
    _check_patience(at, run, found)
    at.settle(Check.ENDS, before)


def _check_list(at: At, run: Run, body: lv.RoundSealedV1, admitted: tuple[lv.VerdictV1, ...]) -> None:
    place = at.place(body.run, body.round)
    weights = round_weights([(v.site, v.weight_tokens) for v in admitted], run.plan.weighting)
    for sealed, verdict, weight in zip(body.updates, admitted, weights, strict=True):
        site = sealed.site
        at.findings.compare(Check.ENDS, place, f"weight of {site}", weight, sealed.weight)
        digest = f"update of {site} in the seal"
        at.findings.compare(Check.ENDS, place, digest, verdict.update_digest, sealed.update_digest)
        digest = f"payload of {site} in the seal"
        at.findings.compare(Check.ENDS, place, digest, verdict.payload_digest, sealed.payload_digest)


def _quorum(at: At, run: Run, found: Round) -> QuorumDecision:
    admitted = {verdict.site for verdict in found.admitted()}
    return quorum(run.plan, admitted, (at.state.excluded | run.declined()) - admitted)


def _check_patience(at: At, run: Run, found: Round) -> None:
    """Whoever is still waited for was given the grace after the quorum that the plan promises."""
    waiting, grace = found.waiting_for(), run.plan.bounds.seal_grace_seconds
    if not waiting:
        return
    place = at.place(run.id, found.number)
    if not grace:
        at.findings.differ(Check.ENDS, place, "end of the round", "every verdict", f"none on {', '.join(waiting)}")
        return
    since = _quorum_since(at, run, found)
    if at.at_us - since + _ROUNDING_US < grace * _US:
        expected = f"{grace} s after the quorum"
        at.findings.differ(Check.ENDS, place, "end of the round", expected, f"{(at.at_us - since) / _US:.1f} s")


def _quorum_since(at: At, run: Run, found: Round) -> int:
    """Earliest time at which the admitted can have been a quorum."""
    times = sorted((time, site) for site, time in at.book(run.id).admitted_at_us[found.number].items())
    excluded = at.state.excluded | run.declined()
    for count, (time, _) in enumerate(times, start=1):
        admitted = {site for _, site in times[:count]}
        if quorum(run.plan, admitted, excluded - admitted).reached:
            return time
    return at.at_us


def check_abandoned(at: At, body: lv.RoundAbandonedV1) -> None:
    """Without a quorum, or by an operator of the roster."""
    run, before = at.state.runs[body.run], at.findings.failed[Check.ENDS]
    place, found = at.place(body.run, body.round), run.rounds[body.round]
    if body.reason is Reason.NO_QUORUM:
        _check_no_quorum(at, run, found, body)
    elif body.reason in (Reason.OPERATOR, Reason.REVERTED):
        _check_named_operator(at, body)
        if body.reason is Reason.REVERTED and at.book(body.run).reverting < 0:
            at.book(body.run).reverting = at.index
    else:
        expected = ", ".join(r.value for r in (Reason.NO_QUORUM, Reason.OPERATOR, Reason.REVERTED))
        at.findings.differ(Check.ENDS, place, "reason of the abandonment", f"one of {expected}", body.reason.value)
    at.settle(Check.ENDS, before)


def _check_no_quorum(at: At, run: Run, found: Round, body: lv.RoundAbandonedV1) -> None:
    place, decision = at.place(body.run, body.round), _quorum(at, run, found)
    if decision.reached or found.state is not RoundState.OPEN:
        state = f"{found.state.value}: {decision.sentence}"
        at.findings.differ(Check.ENDS, place, "abandonment", "an open round without a quorum", state)
    at.findings.compare(Check.ENDS, place, "sentence of the abandonment", decision.sentence, body.sentence)
    waiting = found.waiting_for()
    if waiting:
        at.findings.differ(Check.ENDS, place, "abandonment", "every verdict", f"none on {', '.join(waiting)}")


def _check_named_operator(at: At, body: lv.RoundAbandonedV1) -> None:
    """The leaf has no field for the operator: its sentence names one."""
    words = set(body.sentence.replace(",", " ").split())
    if not any(at.audit.rosters.may_command(at.state.roster_version, word) for word in words):
        place = at.place(body.run, body.round)
        expected = f"an operator of roster version {at.state.roster_version} named"
        at.findings.differ(Check.COMMANDS, place, "abandonment", expected, body.sentence)


def check_rollbacks(audit: Audit, body: lv.Body | None) -> None:
    """Rounds abandoned for a rollback are followed by it at once: their leaves are written together.

    Args:
        body: the next leaf; None behind the last one.
    """
    for run, book in audit.books.items():
        if book.reverting < 0:
            continue
        continues = isinstance(body, lv.RoundAbandonedV1) and body.reason is Reason.REVERTED
        if isinstance(body, lv.RunRevertedV1) and body.run == run:
            book.reverting = -1
        elif not continues:
            found = type(body).__name__ if body else "the end of the ledger"
            place = Place(leaf=book.reverting, run=run)
            audit.findings.differ(Check.ENDS, place, "abandonment for a rollback", "the rollback to follow", found)
            book.reverting = -1


def check_orders(audit: Audit, body: lv.Body | None) -> None:
    """An operator's order to end a round is followed by its end at once: the two leaves are written together.

    Args:
        body: the next leaf; None behind the last one.
    """
    for run, book in audit.books.items():
        if book.ordered is None:
            continue
        (leaf, number), book.ordered = book.ordered, None
        ended = isinstance(body, lv.RoundAbandonedV1) and (body.run, body.round) == (run, number)
        if not ended or getattr(body, "reason", None) is not Reason.OPERATOR:
            found = type(body).__name__ if body else "the end of the ledger"
            place = Place(leaf=leaf, run=run, round=number)
            audit.findings.differ(Check.ENDS, place, "order to end a round", "its end to follow", found)
