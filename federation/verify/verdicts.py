# SPDX-License-Identifier: Apache-2.0
"""Verdicts decided again: from the signed update and its payload, on the state as it was then.

The same order as the coordinator's: a repetition causes no leaf, a second payload is equivocation, what a check of
admission refuses is rejected with its reason, what comes too late is late, the rest is admitted.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from federation import leaves as lv
from federation.admission import Finding, check_payload, check_update
from federation.chunk_pool import num_threads_here
from federation.errors import FederationError
from federation.leaves import Outcome, Reason
from federation.limits import DEFAULT_LIMITS
from federation.messages import Update
from federation.rounds import Round, RoundState, Run
from federation.verify.context import At
from federation.verify.report import Check
from federation.verify.updates import opened_update

_US: Final = 1_000_000
_ROUNDING_US: Final = 1_000
"""The coordinator compares unrounded seconds; leaves hold microseconds."""

_Decision = tuple[Outcome | None, Reason, float]


def check_verdict(at: At, body: lv.VerdictV1) -> None:
    """Decides one verdict again, as far as evidence goes."""
    run = at.state.runs[body.run]
    place, before = at.place(body.run, body.round), at.findings.failed[Check.VERDICTS]
    found = run.rounds.get(body.round)
    if not run.is_member(body.site):
        at.findings.differ(Check.VERDICTS, place, "verdict", "one on a member", f"one on {body.site}")
        return
    if body.site in at.state.revoked or body.reason is Reason.REVOKED:
        _check_revoked(at, run, found, body)
        at.settle(Check.VERDICTS, before)
        return
    if body.outcome in (Outcome.MISSED, Outcome.DECLINED):
        _check_absence(at, run, found, body)
        at.settle(Check.VERDICTS, before)
        return
    _check_count(at, run, found, body)
    if _check_update(at, run, found, body):
        at.settle(Check.VERDICTS, before)
    if body.outcome is Outcome.ADMITTED:
        at.book(body.run).admitted_at_us[body.round].setdefault(body.site, at.at_us)


def _check_count(at: At, run: Run, found: Round | None, body: lv.VerdictV1) -> None:
    counts = run.num_stray_verdicts if found is None else found.num_verdict_leaves
    limit = DEFAULT_LIMITS.max_verdicts_per_site_and_round
    if counts.get(body.site, 0) >= limit:
        place = at.place(body.run, body.round)
        at.findings.differ(Check.VERDICTS, place, f"verdicts on {body.site}", f"at most {limit} in a round", "more")


def _check_update(at: At, run: Run, found: Round | None, body: lv.VerdictV1) -> bool:
    """Whether everything needed was there to decide again."""
    place, admitted = at.place(body.run, body.round), body.outcome is Outcome.ADMITTED
    look = at.evidence.require if admitted else at.evidence.want
    if not look(body.update_digest, place, f"signed update of {body.site}"):
        return False
    try:
        update = opened_update(at, body.site, body.update_digest)
    except FederationError as error:
        at.findings.differ(Check.UPDATES, place, f"update of {body.site}", "one that the site signed", error)
        return False
    _check_fields(at, update, body)
    decision = _decide(at, update, run, found, body)
    if decision is None:
        return False
    _compare(at, decision, body)
    return True


def _check_fields(at: At, update: Update, body: lv.VerdictV1) -> None:
    """The leaf repeats what the site signed."""
    place, before = at.place(body.run, body.round), at.findings.failed[Check.UPDATES]
    names = ("run", "round", "site", "payload_digest", "payload_bytes", "weight_tokens", "new_tokens", "num_steps")
    for name in names:
        expected, found = getattr(update, name), getattr(body, name)
        at.findings.compare(Check.UPDATES, place, f"{name} of the update of {body.site}", expected, found)
    at.settle(Check.UPDATES, before)


def _decide(at: At, update: Update, run: Run, found: Round | None, body: lv.VerdictV1) -> _Decision | None:
    """Outcome, reason and norm; no outcome where there should be no leaf. None if evidence is missing."""
    place, manifest = at.place(body.run, body.round), at.book(body.run).manifest
    if manifest is None:
        at.findings.skip(Check.VERDICTS, place, f"verdict on {body.site}: there is no manifest to decide it by")
        return None
    finding = check_update(update, at.state, manifest)
    if finding.passed and not finding.seen_before:
        what = f"payload of {body.site}"
        if not at.evidence.want(update.payload_digest, place, what):
            if body.reason is Reason.PAYLOAD_DIGEST:
                return Outcome.REJECTED, Reason.PAYLOAD_DIGEST, 0.0
            at.findings.skip(Check.VERDICTS, place, f"verdict on {body.site}: there is no payload to decide it by")
            return None
        read_bytes = partial(at.evidence.read_range, update.payload_digest)
        finding = check_payload(update, manifest, read_bytes, num_threads_here())
    return _judged(update, found, finding)


def _judged(update: Update, found: Round | None, finding: Finding) -> _Decision:
    standing = found.verdicts.get(update.site) if found else None
    if standing is not None and standing.payload_digest == update.payload_digest:
        if finding.reason is Reason.SECOND_DIGEST:  # the same payload with another claim beside it
            return Outcome.EQUIVOCATION, Reason.SECOND_DIGEST, finding.norm
        return None, Reason.NONE, 0.0
    if standing is not None and standing.payload_digest:
        return Outcome.EQUIVOCATION, Reason.SECOND_DIGEST, finding.norm
    if finding.reason is not Reason.NONE:
        return Outcome.REJECTED, finding.reason, finding.norm
    if found is None or found.state is not RoundState.OPEN or standing is not None:
        return Outcome.REJECTED, Reason.LATE, finding.norm
    return Outcome.ADMITTED, Reason.NONE, finding.norm


def _compare(at: At, decision: _Decision, body: lv.VerdictV1) -> None:
    place, (outcome, reason, norm) = at.place(body.run, body.round), decision
    if outcome is None:
        found = f"{body.outcome.value} again"
        at.findings.differ(Check.VERDICTS, place, f"verdict on {body.site}", "none: it has one for this update", found)
        return
    expected = f"{outcome.value} ({reason.value})"
    what = f"verdict on {body.site}"
    if not at.findings.compare(Check.VERDICTS, place, what, expected, f"{body.outcome.value} ({body.reason.value})"):
        return
    at.findings.compare(Check.VERDICTS, place, f"norm of the update of {body.site}", norm, body.norm)


def _check_revoked(at: At, run: Run, found: Round | None, body: lv.VerdictV1) -> None:
    """Of a revoked site nothing is taken: the one verdict left ends what it had not answered when it was revoked."""
    place, what = at.place(body.run, body.round), f"verdict on {body.site}"
    expected = "revoked" if body.site in at.state.revoked else "not revoked"
    decided = (body.outcome, body.reason)
    if body.site not in at.state.revoked or decided != (Outcome.REJECTED, Reason.REVOKED):
        words = f"{body.outcome.value} ({body.reason.value})"
        at.findings.differ(Check.VERDICTS, place, what, f"one that fits a site that is {expected}", words)
        return
    _check_absence(at, run, found, body)


def _check_absence(at: At, run: Run, found: Round | None, body: lv.VerdictV1) -> None:
    """A site that is invited and has no verdict, nothing that came of it, and bounds that can have passed."""
    place = at.place(body.run, body.round)
    if found is None or found.state is not RoundState.OPEN or body.site not in found.waiting_for():
        expected = "a site that an open round waits for"
        at.findings.differ(Check.VERDICTS, place, f"{body.outcome.value} by {body.site}", expected, "another one")
        return
    figures = (body.update_digest, body.payload_digest, body.payload_bytes, body.weight_tokens, body.new_tokens)
    if any((*figures, body.num_steps, body.norm)):
        what = f"{body.outcome.value} by {body.site}"
        at.findings.differ(Check.VERDICTS, place, what, "no figures of an update", "some")
    if body.outcome is Outcome.MISSED:
        _check_bound(at, run, found, body)


_BOUNDS: Final[dict[Reason, Callable[[lv.Bounds, int], int]]] = {
    Reason.ROUND_TOO_LONG: lambda bounds, extra: bounds.max_round_seconds,
    Reason.NO_ANSWER: lambda bounds, extra: bounds.answer_seconds + extra,
    Reason.TRAINING_TOO_LONG: lambda bounds, extra: bounds.training_seconds + extra,
    Reason.UPLOAD_TOO_LONG: lambda bounds, extra: bounds.upload_seconds + extra,
}


def _check_bound(at: At, run: Run, found: Round, body: lv.VerdictV1) -> None:
    """Every bound begins at the round's opening or later, so at least that much time must have passed since."""
    place, what = at.place(body.run, body.round), f"missed by {body.site}"
    bound = _BOUNDS.get(body.reason)
    if bound is None:
        names = ", ".join(reason.value for reason in _BOUNDS)
        at.findings.differ(Check.VERDICTS, place, what, f"one of {names}", body.reason.value)
        return
    limit = bound(run.plan.bounds, run.member(body.site).courier_round_trip_seconds)
    waited = at.at_us - found.opened_at_us
    if waited + _ROUNDING_US < limit * _US:
        expected = f"more than {limit} s since the opening ({body.reason.value})"
        at.findings.differ(Check.VERDICTS, place, what, expected, f"{waited / _US:.1f} s")
