# SPDX-License-Identifier: Apache-2.0
"""Openings of rounds and invitations decided again, and the witness rule as far as stored cosignatures show it."""

from typing import Final

from federation import leaves as lv
from federation.admission import allocation_number
from federation.leaves import Outcome
from federation.quorum import quorum
from federation.rounds import Round, Run
from federation.schedule import lr_position
from federation.verify.context import At
from federation.verify.report import Check
from federation.witnesses import needed_leaf, witnessed_by

_US: Final = 1_000_000
_ROUNDING_US: Final = 1_000


def check_opened(at: At, body: lv.RoundOpenedV1) -> None:
    """Base = head, position, number, room, invitations and their quorum."""
    run, before = at.state.runs[body.run], at.findings.failed[Check.OPENINGS]
    number, schedule = run.next_round, run.schedule()
    fragment = schedule.fragment_of(number)
    head = run.heads()[fragment]
    expected = {
        "round": number,
        "fragment": fragment,
        "base_version": head.number,
        "base_digest": head.theta_digest,
        "lr_position": lr_position(number, len(run.void), schedule.window_steps),
    }
    place = at.place(body.run, body.round)
    for name, value in expected.items():
        at.findings.compare(Check.OPENINGS, place, name, value, getattr(body, name))
    _check_room(at, run, body, fragment)
    _check_invited(at, run, body)
    at.settle(Check.OPENINGS, before)


def _check_room(at: At, run: Run, body: lv.RoundOpenedV1, fragment: int) -> None:
    place, plan = at.place(body.run, body.round), run.plan
    if len(run.open_rounds) >= plan.max_rounds_in_flight:
        found = f"{len(run.open_rounds)} open already"
        at.findings.differ(Check.OPENINGS, place, "opening", f"{plan.max_rounds_in_flight} rounds at most", found)
    others = [n for n in run.open_rounds if run.rounds[n].fragment == fragment]
    if others:
        expected = f"no other open round of fragment {fragment}"
        at.findings.differ(Check.OPENINGS, place, "opening", expected, f"round {others[0]}")
    if run.next_round - len(run.void) >= plan.num_rounds:
        at.findings.differ(Check.OPENINGS, place, "opening", f"{plan.num_rounds} rounds in all", "one more")


def _check_invited(at: At, run: Run, body: lv.RoundOpenedV1) -> None:
    place = at.place(body.run, body.round)
    sites = [invitation.site for invitation in body.invitations]
    at.findings.compare(Check.OPENINGS, place, "invited sites", sorted(set(sites)), sites)
    for invitation in body.invitations:
        _check_invitation(at, run, body.round, invitation)
    decision = quorum(run.plan, sites, at.state.excluded | run.declined())
    if not decision.reached:
        at.findings.differ(Check.OPENINGS, place, "quorum of the invited", "reached", decision.sentence)
    at.findings.compare(Check.OPENINGS, place, "sentence", decision.sentence, body.sentence)


def _check_invitation(at: At, run: Run, number: int, invitation: lv.Invitation) -> None:
    """Invited is only a member of the roster that accepted, neither drained nor revoked, for exactly its window."""
    place, site = at.place(run.id, number), invitation.site
    answer = run.answers.get(site)
    problems = {
        "no member": not run.is_member(site),
        "not in the roster": site not in at.state.sites,
        "drained": site in at.state.drained,
        "revoked": site in at.state.revoked,
        "without an acceptance": answer is None or not answer.accepted,
    }
    for problem, holds in problems.items():
        if holds:
            at.findings.differ(Check.OPENINGS, place, "invited", "members that accepted", f"{site}, {problem}")
    if run.is_member(site):
        steps = run.schedule(site).steps_of_window(number)
        at.findings.compare(Check.OPENINGS, place, f"steps of {site}", steps, invitation.num_steps)
    if not allocation_number(invitation.allocation):
        at.findings.differ(Check.OPENINGS, place, f"allocation of {site}", "a<number>", invitation.allocation)


def check_joined(at: At, body: lv.SiteInvitedV1) -> None:
    """A later invitation: into the newest open round, while it can still last."""
    run, before = at.state.runs[body.run], at.findings.failed[Check.OPENINGS]
    place, found = at.place(body.run, body.round), run.rounds[body.round]
    _check_invitation(at, run, body.round, body.invitation)
    newest = max(run.open_rounds, default=-1)
    at.findings.compare(Check.OPENINGS, place, "round that is joined", newest, body.round)
    waited = at.at_us - found.opened_at_us
    if waited - _ROUNDING_US > run.plan.bounds.max_round_seconds * _US:
        expected = f"at most {run.plan.bounds.max_round_seconds} s after the opening"
        at.findings.differ(Check.OPENINGS, place, "invitation", expected, f"{waited / _US:.1f} s")
    at.settle(Check.OPENINGS, before)


def check_witnessed(at: At, body: lv.VerdictV1) -> None:
    """The first admitted update of a round shows that its base was used: was it witnessed as the plan demands?

    A cosignature's time is its site's, so what is checked is that the cosignatures exist, not when they came.
    """
    run = at.state.runs[body.run]
    found = run.rounds.get(body.round)
    if found is None or body.outcome is not Outcome.ADMITTED or found.admitted():
        return
    place = at.place(body.run, body.round)
    try:
        needed = needed_leaf(run, _commits_of_base(run, found))
    except (IndexError, ValueError, StopIteration):
        at.findings.skip(Check.WITNESSES, place, "the base of the round is no version in force")
        return
    covering = witnessed_by(run, needed, at.audit.witnessed.sizes)
    if len(covering) >= run.plan.witness_quorum:
        at.findings.agree(Check.WITNESSES)
        return
    sentence = f"leaf {needed} needs {run.plan.witness_quorum} cosignatures for this base, stored are {len(covering)}"
    at.findings.skip(Check.WITNESSES, place, sentence)


def _commits_of_base(run: Run, found: Round) -> int:
    """n, if the round's base was made by the n-th commit in force; 0 for version 0."""
    leaf = next(v.leaf_index for v in run.versions[found.fragment] if v.number == found.base_version)
    return run.commit_leaves.index(leaf) + 1 if leaf >= 0 else 0
