# SPDX-License-Identifier: Apache-2.0
"""Leaves about runs: manifests and plans, answers, operators' commands, pauses, rollbacks and ends."""

from typing import Final

from federation import leaves as lv
from federation import wire
from federation.errors import FederationError
from federation.leaves import Reason
from federation.limits import DEFAULT_LIMITS
from federation.manifest import Manifest
from federation.rounds import Run
from federation.run_config import check_manifest
from federation.signing import key_id
from federation.verify.context import At
from federation.verify.report import Check, Place
from federation.verify.updates import opened_evaluation

MAX_ANSWERS_PER_SITE: Final = 16
MAX_INVITE_SECONDS: Final = 30 * 24 * 3600
_US: Final = 1_000_000


def check_roster_leaf(at: At, body: lv.RosterInstalledV1) -> None:
    """The sites that the leaf names are those of the document (which `trust` has verified)."""
    roster = at.audit.rosters.at(body.version)
    if roster is not None:
        sites = tuple(sorted(entry.site for entry in roster.sites))
        at.findings.compare(Check.ROSTERS, at.place(), f"sites of roster version {body.version}", sites, body.sites)


def check_command(at: At, body: lv.Body) -> None:
    """Who commanded is an operator of the roster in force, and commanded it once."""
    operator, command = getattr(body, "operator", None), getattr(body, "command", "")
    if operator is None or (isinstance(body, lv.RunPausedV1) and not operator):
        return
    place, before = at.place(getattr(body, "run", "")), at.findings.failed[Check.COMMANDS]
    version = at.state.roster_version
    if not at.audit.rosters.may_command(version, operator):
        at.findings.differ(Check.COMMANDS, place, "operator", f"one of roster version {version}", operator)
    if not command:
        at.findings.differ(Check.COMMANDS, place, "command id", "one", "none")
    elif f"{operator}/{command}" in at.state.commands:
        earlier = at.state.commands[f"{operator}/{command}"]
        at.findings.differ(Check.COMMANDS, place, "command", "each once", f"{command} again, as in leaf {earlier}")
    at.settle(Check.COMMANDS, before)


_BEGINNINGS: Final = (lv.RunCreatedV1, lv.RunApprovedV1, lv.RunStartedV1, lv.RunResumedV1, lv.RoundOpenedV1)


def check_in_force(at: At, body: lv.Body) -> None:
    """Nothing new is begun on the strength of a roster that has expired."""
    roster = at.audit.rosters.at(at.state.roster_version)
    if not isinstance(body, _BEGINNINGS) or roster is None or at.at_us < roster.expires_at_us:
        return
    place = at.place(body.run, getattr(body, "round", -1))
    late = (at.at_us - roster.expires_at_us) / _US
    what = f"{type(body).__name__} under roster version {roster.version}"
    at.findings.differ(Check.ROSTERS, place, what, "one that is in force", f"one that expired {late:.0f} s before")


def check_created(at: At, body: lv.RunCreatedV1) -> None:
    """Manifest there, obeys the rules, is of this run and consortium, and its plan is the leaf's; theta_0 is there."""
    place, before = at.place(body.run), at.findings.failed[Check.RUNS]
    unknown = [m.site for m in body.plan.members if m.site not in at.state.sites]
    if unknown:
        expected = f"sites of roster version {at.state.roster_version}"
        at.findings.differ(Check.RUNS, place, "members", expected, ", ".join(unknown))
    if not at.evidence.require(body.manifest_digest, place, f"manifest of run {body.run}"):
        return
    manifest = _manifest(at, body)
    if manifest is None:
        return
    at.book(body.run).manifest = manifest
    at.findings.compare(Check.RUNS, place, "run of the manifest", body.run, manifest.run)
    at.findings.compare(Check.RUNS, place, "consortium of the manifest", at.audit.consortium, manifest.consortium)
    if manifest.plan != body.plan:
        at.findings.differ(Check.RUNS, place, "plan", "the manifest's", _changed(manifest.plan, body.plan))
    at.settle(Check.RUNS, before)
    at.book(body.run).models.add((0, (0,) * len(body.plan.theta_digests)))
    at.audit.recomputation.begin(place, manifest)


def _manifest(at: At, body: lv.RunCreatedV1) -> Manifest | None:
    try:
        data = at.evidence.read(body.manifest_digest, DEFAULT_LIMITS.max_manifest_bytes)
        manifest = wire.manifest_from_bytes(data)
        check_manifest(manifest)
    except FederationError as error:
        at.findings.differ(Check.RUNS, at.place(body.run), "manifest", "one that obeys every rule", error)
        return None
    return manifest


def _changed(expected: lv.Plan, found: lv.Plan) -> str:
    names = [name for name in vars(expected) if getattr(expected, name) != getattr(found, name)]
    return "; ".join(f"{name} {getattr(found, name)} instead of {getattr(expected, name)}" for name in names)


def check_answer(at: At, body: lv.SiteAnsweredV1) -> None:
    """A member answers to the manifest that the ledger names, a bounded number of times."""
    run, place, before = at.state.runs[body.run], at.place(body.run), at.findings.failed[Check.RUNS]
    if not run.is_member(body.site):
        at.findings.differ(Check.RUNS, place, "answer", "one of a member", f"one of {body.site}")
    at.findings.compare(Check.RUNS, place, "manifest answered to", run.manifest_digest, body.manifest_digest)
    check_not_revoked(at, Check.RUNS, place, "answer", body.site)
    if run.num_answers.get(body.site, 0) >= MAX_ANSWERS_PER_SITE:
        found = f"more, of {body.site}"
        at.findings.differ(Check.RUNS, place, "answers", f"at most {MAX_ANSWERS_PER_SITE} of a site", found)
    at.settle(Check.RUNS, before)


def check_not_revoked(at: At, check: Check, place: Place, what: str, site: str) -> None:
    """Nothing that a revoked site says is taken, until a roster gives it another key."""
    if site in at.state.revoked:
        at.findings.differ(check, place, what, "one of a site that is not revoked", f"one of {site}")


def check_revoked(at: At, body: lv.SiteRevokedV1) -> None:
    """A site of the roster, by the update key that the roster in force gives it."""
    _check_site_key(at, body.site, body.key_digest, "revocation")


def check_readmitted(at: At, body: lv.SiteReadmittedV1) -> None:
    """By the roster in force, with the update key that it gives the site (the fold knows that it is another one)."""
    found, version = body.roster_version, at.state.roster_version
    at.findings.compare(Check.ROSTERS, at.place(), "roster version of the readmission", version, found)
    _check_site_key(at, body.site, body.key_digest, "readmission")


def _check_site_key(at: At, site: str, found: str, what: str) -> None:
    public = at.audit.rosters.update_public(at.state.roster_version, site)
    expected = key_id(public) if public else "a site of the roster in force"
    if at.findings.compare(Check.ROSTERS, at.place(), f"{what} of {site}: key", expected, found):
        at.findings.agree(Check.ROSTERS)


def check_invite(at: At, body: lv.InviteIssuedV1) -> None:
    """An invite ends in time. Who is invited is the operators' business; who belongs is the roster's."""
    valid_us = body.expires_at_us - at.at_us
    if not 0 < valid_us <= MAX_INVITE_SECONDS * _US:
        expected, found = f"0 to {MAX_INVITE_SECONDS} s", f"{valid_us / _US:.0f} s"
        at.findings.differ(Check.COMMANDS, at.place(), f"validity of the invite of {body.party}", expected, found)


def check_approved(at: At, body: lv.RunApprovedV1) -> None:
    """Each approval is another operator's."""
    if body.operator in at.state.runs[body.run].approved_by:
        found = f"{body.operator} again"
        at.findings.differ(Check.COMMANDS, at.place(body.run), "approval", "each operator's once", found)


def check_paused(at: At, body: lv.RunPausedV1) -> None:
    """A pause by the decider has the reason that it states, as far as leaves can show it."""
    if body.operator:
        return
    run, place = at.state.runs[body.run], at.place(body.run)
    limits, found = run.plan.bounds, ""
    if body.reason is Reason.ABANDONED_TOO_OFTEN and run.num_abandoned_in_a_row < limits.max_abandoned:
        found = f"{run.num_abandoned_in_a_row} rounds abandoned in a row, {limits.max_abandoned} needed"
    elif body.reason is Reason.COULD_NOT_OPEN:
        waited = at.at_us - max(run.last_round_end_us, run.state_since_us)
        if run.open_rounds or waited < limits.max_open_wait_seconds * _US:
            found = f"{waited / _US:.1f} s without a round, {limits.max_open_wait_seconds} s allowed"
    elif body.reason not in (Reason.ABANDONED_TOO_OFTEN, Reason.WITNESSES_SILENT, Reason.DISK_FULL):
        found = f"reason {body.reason.value}"
    if found:
        at.findings.differ(Check.ENDS, place, "pause", "a reason that the leaves bear out", found)
    else:
        at.findings.agree(Check.ENDS)


def check_reverted(at: At, body: lv.RunRevertedV1) -> None:
    """A rollback goes to a round that there was, or to theta_0."""
    run = at.state.runs[body.run]
    if not -1 <= body.to_round < run.next_round:
        expected = f"-1 to {run.next_round - 1}"
        at.findings.differ(Check.ENDS, at.place(body.run), "round that is rolled back to", expected, body.to_round)
    else:
        at.findings.agree(Check.ENDS)


def check_completed(at: At, body: lv.RunCompletedV1) -> None:
    """A run completes with all its planned commits and no round open."""
    run = at.state.runs[body.run]
    found = (run.num_commits(), len(run.open_rounds))
    if found[0] < run.plan.num_rounds or found[1]:
        expected = f"{run.plan.num_rounds} commits and no open round"
        sentence = f"{found[0]} commits, {found[1]} open rounds"
        at.findings.differ(Check.ENDS, at.place(body.run), "completion", expected, sentence)
    else:
        at.findings.agree(Check.ENDS)


def check_requested(at: At, body: lv.EvaluationRequestedV1) -> None:
    """Requests are numbered, and ask for the current versions."""
    run, place, before = at.state.runs[body.run], at.place(body.run), at.findings.failed[Check.EVALUATIONS]
    at.findings.compare(Check.EVALUATIONS, place, "number of the request", len(run.requests) + 1, body.request)
    heads = tuple(head.number for head in run.heads())
    at.findings.compare(Check.EVALUATIONS, place, "versions to evaluate", heads, body.versions)
    at.settle(Check.EVALUATIONS, before)


def check_evaluation(at: At, body: lv.EvaluationRecordedV1) -> None:
    """Signed by the site, says what the leaf says, and is of a model that the ledger had."""
    run, place, before = at.state.runs[body.run], at.place(body.run), at.findings.failed[Check.EVALUATIONS]
    if not run.is_member(body.site):
        at.findings.differ(Check.EVALUATIONS, place, "evaluation", "one of a member", f"one of {body.site}")
    key = (body.site, body.request, body.num_commits, body.versions)
    if any(key == (e.site, e.request, e.num_commits, e.versions) for e in run.evaluations):
        at.findings.differ(Check.EVALUATIONS, place, f"evaluation by {body.site}", "one of each model", "another one")
    check_not_revoked(at, Check.EVALUATIONS, place, "evaluation", body.site)
    check_model(at, run, body)
    if at.evidence.require(body.evidence_digest, place, f"signed evaluation of {body.site}"):
        _check_signed_evaluation(at, body)
    at.settle(Check.EVALUATIONS, before)


def check_model(at: At, run: Run, body: lv.EvaluationRecordedV1 | lv.TasksEvaluatedV1) -> None:
    """The model was current once, and is the one that was asked for."""
    place = at.place(body.run)
    if (body.num_commits, body.versions) not in at.book(body.run).models:
        found = f"versions {body.versions} after {body.num_commits} commits"
        at.findings.differ(Check.EVALUATIONS, place, "model evaluated", "one that was current once", found)
    asked = {r.request: r.versions for r in run.requests}
    if body.request and asked.get(body.request) != body.versions:
        expected = f"those of request {body.request}: {asked.get(body.request, 'there is none')}"
        at.findings.differ(Check.EVALUATIONS, place, "versions evaluated", expected, body.versions)


def _check_signed_evaluation(at: At, body: lv.EvaluationRecordedV1) -> None:
    place = at.place(body.run)
    try:
        signed = opened_evaluation(at, body.site, body.evidence_digest)
    except FederationError as error:
        at.findings.differ(Check.EVALUATIONS, place, f"evaluation of {body.site}", "one that the site signed", error)
        return
    for name in ("run", "site", "request", "num_commits", "versions", "scores"):
        expected, found = getattr(signed, name), getattr(body, name)
        at.findings.compare(Check.EVALUATIONS, place, f"{name} of the evaluation of {body.site}", expected, found)
